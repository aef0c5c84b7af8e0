"""The schemas of results: true of what is written, or not there."""

from __future__ import annotations

from dataclasses import dataclass, field

import attrs
import msgspec
import pytest

from orchestra.event_lines import written
from orchestra.server.runs.results import schema


@attrs.frozen
class Aliased:
    name: str = attrs.field(alias="called")


@attrs.frozen
class Private:
    _name: str


def count_of(text: str) -> int:
    return len(text)


@attrs.frozen
class Converts:
    count: int = attrs.field(converter=count_of)


@attrs.frozen
class Rounds:
    count: int = attrs.field(converter=int)
    twice: int = attrs.field(init=False, default=2)


@dataclass
class Computes:
    count: int
    twice: int = field(init=False, default=2)


@attrs.frozen
class Holds:
    inside: list[Aliased]


@pytest.mark.parametrize("kind", [Aliased, Private, Converts, Holds, list[Aliased], Private | None])
def test_a_class_that_is_not_written_as_it_is_made_has_no_schema(kind: object) -> None:
    """Its schema said what it takes, and clients that are made from it refused what came."""
    assert schema(kind) == {}


@pytest.mark.parametrize("value", [Rounds(3), Computes(3)])
def test_what_a_class_takes_is_in_what_is_written(value: object) -> None:
    told = schema(type(value))["$defs"][type(value).__name__]
    assert told["required"] == ["count"]
    assert msgspec.json.decode(written(value), type=dict[str, int])["count"] == 3
