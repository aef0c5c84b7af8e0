"""What `docs/metrics.md` says is counted is what is counted, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestra.observe.names import CALL, FAMILIES, Family

TEXT = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
LINES = {*TEXT.splitlines()}
OF_A_CALL = ", ".join(f"`{label}`" for label in CALL[:-1])


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_every_metric_is_told_as_it_is(family: Family) -> None:
    shown = family.name + ("_total" if family.kind == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in family.labels).replace(OF_A_CALL, "*the call*")
    row = f"| `{shown}` | {family.kind} | {labels or '-'} | {family.about} |"
    assert row in LINES, f"docs/metrics.md has to have the row {row}"


def test_nothing_else_is_told() -> None:
    told = re.findall(
        r"^\| `(\w+?)(?:_total)?` \| (?:counter|histogram|gauge) ", TEXT, re.MULTILINE
    )
    assert not {*told} ^ {*FAMILIES}, "the rows of docs/metrics.md are not observe/names.FAMILIES"
    assert len(told) == len(FAMILIES)
    assert OF_A_CALL in TEXT


def test_what_is_asked_of_prometheus_is_there() -> None:
    asked = set(re.findall(r"\b(?:orchestra|gen_ai)_\w+?(?=[\[{])", TEXT))
    known = {
        f"{family.name}{end}"
        for family in FAMILIES.values()
        for end in {"counter": ["_total"], "gauge": [""]}.get(family.kind, ["_count", "_bucket"])
    }
    assert asked
    assert asked <= known
