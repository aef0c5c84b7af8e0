"""`docs/server.md` has every `type` of problem that the server can give, and no other.

The code is read, not run: a type stands in it as a word, where a problem is made.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from orchestra.access.keys import Reason

ROOT = Path(__file__).parents[2]
SERVER = sorted((ROOT / "orchestra/server").rglob("*.py"))
PAGE = (ROOT / "docs/server.md").read_text("utf-8")
ROW = re.compile(r"^\| (?:[^|]+ \| )?[45]\d\d(?:, [45]\d\d)* \| ([^|]*) \|", re.MULTILINE)
CODE_AT = {"HttpProblem": 1, "Kind": 2, "by_status": 1}
"""Which of their arguments is the type; of a status of HTTP's own it is made from the title."""
WRITTEN = {"kind.code": (), "title.lower().replace(' ', '-')": (), "error.name": ()}
"""Types that are words elsewhere: of `KINDS`, and of HTTP's own statuses, as werkzeug names them."""
REASONS = {"f'key-{reason}'": tuple(f"key-{reason}" for reason in get_args(Reason))}


def codes() -> Iterator[str]:
    """Every type that the server's code has."""
    for name, call in made():
        yield from written(name, call.args[CODE_AT[name]])


def made() -> Iterator[tuple[str, ast.Call]]:
    """Every call that makes a problem, and what it calls."""
    for path in SERVER:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and (name := called(node)) in CODE_AT:
                yield name, node


def called(node: ast.AST) -> str:
    """What a call calls, without the module before it."""
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def written(name: str, code: ast.expr) -> tuple[str, ...]:
    """The types that an argument stands for: itself, or those that are known of it."""
    if isinstance(code, ast.Constant) and isinstance(code.value, str):
        return (code.value.lower().replace(" ", "-") if name == "by_status" else code.value,)
    return (WRITTEN | REASONS)[ast.unparse(code)]


def told() -> set[str]:
    """Every type in a table of problems on the page; what else stands in its cell is a field."""
    cells = [cell.partition(" with ")[0] for cell in ROW.findall(PAGE)]
    return {code for cell in cells for code in re.findall(r"`([a-z-]+)`", cell)}


@pytest.mark.parametrize("code", sorted({*codes()}))
def test_a_type_that_the_server_gives_is_on_the_page(code: str) -> None:
    assert code in told(), f"docs/server.md has no row for the problem type {code!r}"


def test_a_type_has_one_title() -> None:
    """It is the same wherever the problem occurs (RFC 9457, 3.1.4); the detail tells of the case."""
    titles: dict[str, set[str]] = {}
    for name, call in made():
        if name != "by_status":  # its type is made from the title
            code, title = call.args[CODE_AT[name] :][:2]
            titles.setdefault(ast.unparse(code), set()).add(ast.unparse(title))
    assert titles
    assert {code: each for code, each in titles.items() if len(each) > 1} == {}


def test_the_page_has_no_other() -> None:
    unknown = told() - {*codes()}
    assert not unknown, f"docs/server.md has the types {unknown}, which the server never gives"
