"""What an annotation is made of; the rest is shown by what `compare` and `member` make of it."""

from __future__ import annotations

import typing

import pytest

from orchestra.annotations.shapes import fields
from tests.annotations.kinds import Box, T


@pytest.mark.parametrize("annotation", ["Passage", T, 3, typing.Never])
def test_what_is_no_class_has_no_fields(annotation: object) -> None:
    assert fields(annotation) == {}


def test_the_fields_of_a_generic_class_are_those_of_its_arguments() -> None:
    assert fields(Box[int]) == {"value": int, "note": str}
