"""What is certain of a class: here, whether a text is given its repr."""

from __future__ import annotations

import enum
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.annotations.facts import writes_its_repr
from orchestra.protocols import Stream
from orchestra.values import Label, Passage
from tests.annotations.kinds import ANNOTATIONS, Movie, Point, values_of


class Level(enum.StrEnum):
    LOW = "low"


class Pair(NamedTuple):
    first: int
    second: int


@given(ANNOTATIONS, st.data())
def test_what_is_said_to_be_written_by_its_repr_is(annotation: Any, data: st.DataObject) -> None:
    value = data.draw(values_of(annotation))
    assert value is None or not writes_its_repr(annotation) or f"{value}" == repr(value)


@pytest.mark.parametrize(
    ("annotation", "is_so"),
    [
        *((each, True) for each in (list[str], dict[str, int], tuple[int, ...], bytes, Passage)),
        *((each, True) for each in (list[Passage] | None, Pair, Movie, Point)),
        *((each, False) for each in (str, int, Decimal, date, Path, Level, Label, Any, object)),
        *((each, False) for each in (None, str | None, list[str] | str, Stream[str])),
    ],
)
def test_lists_and_records_are_and_numbers_and_names_are_not(annotation: Any, is_so: bool) -> None:
    assert writes_its_repr(annotation) is is_so
