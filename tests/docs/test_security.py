"""What `docs/security.md` promises is held by the tests that it names, and its numbers are true."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text("utf-8")
BOUNDS = re.findall(r"\| ([\d,]+)(?: ([KM])iB)? \| `(orchestra[\w.]+)\.(\w+)` \|", PAGE)
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("number", "unit", "place", "name"), BOUNDS)
def test_a_bound_is_as_the_page_says(number: str, unit: str, place: str, name: str) -> None:
    told = int(number.replace(",", "")) * {"": 1, "K": 1024, "M": 1024 * 1024}[unit]
    module, _, last = place.rpartition(".")
    if last[0].isupper():  # a field of a class
        found = attrs.fields_dict(getattr(import_module(module), last))[name].default
    else:
        found = getattr(import_module(place), name)
    assert found == told


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_a_test_that_holds_a_promise_is_there(file: str, name: str) -> None:
    nodes = ast.walk(ast.parse((ROOT / file).read_text("utf-8")))
    assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_there_are_some_of_both() -> None:
    assert len(BOUNDS) == len(re.findall(r" \| `orchestra\.[\w.]+\.\w+` \|", PAGE))
    assert len(TESTS) == len(set(re.findall(r"::(\w+)", PAGE)))
