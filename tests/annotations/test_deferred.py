"""Annotations that have no value yet, as Python 3.14 lets one write them without quotes."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any, get_args

import pytest

from orchestra.annotations.deferred import annotate, signature, written
from orchestra.annotations.facts import hints
from orchestra.compiler.check import check
from orchestra.errors import DefinitionError
from orchestra.testing.simulate import simulate
from orchestra.testing.world import World
from tests.graph.written import Written

NOT_YET = """
import functools
import dataclasses
from typing import TYPE_CHECKING

import attrs

from orchestra import pipeline, step
from orchestra.steps import tool

if TYPE_CHECKING:
    from decimal import Decimal


def above(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


@step
def read(text: str) -> Note:
    return Note(text, None)


@step
@above
def shown(note: Note) -> str:
    return note.text


def nobody_asks(price: Decimal) -> Decimal:
    return price


@attrs.frozen
class Note:
    text: str
    answers: Note | None


@dataclasses.dataclass
class Word:
    word: str
    next: Word | None = None


@tool
def noted(note: Note, words: list[Word]) -> Note:
    return note


@pipeline
def inside(text: str) -> str:
    return read(text).text


@pipeline
def through(text: str) -> str:
    return shown(read(text))
"""


def test_annotations_are_those_of_the_function() -> None:
    def function(a: int, *, b: str = "") -> float:
        return a / len(b)

    assert written(function) == inspect.get_annotations(function)
    assert signature(function) == inspect.signature(function)


def test_what_is_annotated_anew_is_handed_on_by_a_decorator() -> None:
    def function(a: object) -> object:
        return a

    annotate(function, {"a": int, "return": str})

    @functools.wraps(function)
    def above(*args: Any) -> Any:
        return function(*args)

    assert hints(function) == written(above) == {"a": int, "return": str}


if sys.version_info >= (3, 14):  # pragma: no cover

    def test_a_class_may_stand_below_the_step_that_names_it() -> None:
        module = Written(NOT_YET, preamble="").run()
        for made in (module["inside"], module["through"]):
            assert check(made) == ()
            assert simulate(made, World(), text="so").value == "so"
        note, words = module["noted"].kinds.values()
        assert (note, get_args(words)) == (module["Note"], (module["Word"],))

    def test_a_name_that_has_no_value_is_told_where_it_is_needed() -> None:
        module = Written(NOT_YET, preamble="")
        module.source += """
@pipeline
def priced(text: str) -> str:
    return step(nobody_asks)(text)
"""
        with pytest.raises(DefinitionError, match=r"nobody_asks\(\) is annotated with 'Decimal'"):
            module.run()
