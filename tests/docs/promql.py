"""What a query of Prometheus may ask of our metrics."""

from __future__ import annotations

import re
from collections.abc import Collection

from orchestra.observe.names import FAMILIES

OF_SCRAPES = {"job", "instance"}
"""Labels that Prometheus gives to all that it reads."""
SHOWN = {
    f"{family.name}{end}": {*family.labels, *OF_SCRAPES, *(["le"] if end == "_bucket" else [])}
    for family in FAMILIES.values()
    for end in {"counter": ["_total"], "gauge": [""]}.get(
        family.kind, ["_count", "_sum", "_bucket"]
    )
} | {"up": OF_SCRAPES}
OF_ANY = {label for labels in SHOWN.values() for label in labels}


def check(expression: str, recorded: Collection[str] = ()) -> None:
    """Check that a query asks only for metrics that there are, or that are `recorded`, by labels
    that they have.

    Raises:
        AssertionError: it does not.
    """
    bare = re.sub(r'"[^"]*"', '""', expression)
    assert set(re.findall(r"\borchestra:[\w:]+", bare)) <= set(recorded)
    asked = re.findall(r"\b((?:orchestra|gen_ai|http_server)_\w+|up)\b(?:\{([^}]*)\})?", bare)
    asked = [(name, told) for name, told in asked if name not in OF_ANY]
    for name, told in asked:
        assert name in SHOWN, f"{name} is not counted"
        labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", told))
        assert labels <= SHOWN[name], f"{name} has no such label"
    for kept in grouped(bare):
        assert all(kept <= SHOWN[name] for name, _ in asked), "it is summed by what it has not"


def grouped(expression: str) -> list[set[str]]:
    """The labels by which a query groups, for each time that it does."""
    return [
        set(kept.replace(" ", "").split(",")) for kept in re.findall(r"by \(([^)]*)\)", expression)
    ]
