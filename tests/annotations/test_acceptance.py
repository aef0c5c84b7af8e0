"""Which value fits which annotation: examples; the laws stand beside those of `compare`."""

from __future__ import annotations

import inspect
import sys
import typing
from collections import abc
from types import FrameType
from typing import Any, Literal

import pytest

from orchestra.annotations import shapes
from orchestra.annotations.acceptance import misfit
from orchestra.annotations.facts import accepts
from tests.annotations.kinds import (
    Actor,
    Animal,
    Anything,
    B,
    Box,
    Dog,
    Duck,
    IntBox,
    Movie,
    N,
    Pair,
    Point,
    Rock,
    Speaks,
    T,
    UserId,
    alias,
)


class Breaking(abc.Sequence[int]):
    def __getitem__(self, index: Any) -> Any:
        raise RuntimeError

    def __len__(self) -> int:
        return 1


class TestAccepts:
    @pytest.mark.parametrize(
        ("target", "value"),
        [
            (Any, 1),
            (inspect.Parameter.empty, 1),
            (float, 1),
            (complex, 1.0),
            (str | None, None),
            (Literal["a", None], None),  # noqa: PYI061
            (UserId, "u"),
            (B, "b"),
            (N, 1),
            (T, 1),
            (list[int], []),
            (list[float], [1, True]),
            (abc.Sequence[str], "text"),
            (abc.Container[int], {1}),
            (abc.Iterable[int], range(10**12)),
            (abc.Iterator[str], iter([1])),
            (dict[str, list[int]], {"a": [1]}),
            (tuple[int, ...], (1, 2)),
            (tuple[()], ()),
            (tuple[int, str], Point(1, "a")),
            (type[Animal], Dog),
            (type[Animal | None], Dog),
            (type[T], Dog),
            (type[T], Box[int]),
            (type[Box[Any]], Box[int]),
            (type[object] | None, list[int]),
            (type[Any], Dog),
            (type[Speaks], Dog),
            (type, Dog),
            (abc.Callable[[int], str], len),
            (Speaks, Duck()),
            (Speaks, Actor()),
            (Speaks, Anything()),
            (Box[int], Box(1)),
            (Box[int], IntBox(1)),
            (Pair[str], Pair("a", "b")),
            (Movie, {"title": "M", "more": 1}),
            ("Passage", 1),
            (typing.Self, 1),
        ],
    )
    def test_a_value_that_fits_is_accepted(self, target: object, value: object) -> None:
        assert accepts(target, value)

    @pytest.mark.parametrize(
        ("target", "value"),
        [
            (int, 1.0),
            (typing.Never, 1),
            (str | None, 1),
            (Literal[1], True),
            (UserId, 1),
            (B, 1),
            (list[int], [1, "a"]),
            (abc.Sequence[int], "text"),
            (abc.Container[int], {"a"}),
            (abc.Iterable[str], range(10**12)),
            (dict[str, int], {"a": "b"}),
            (dict[str, int], {1: 1}),
            (abc.Iterable[int], {"a": 1}),
            (tuple[int, ...], (1, "a")),
            (tuple[()], (1,)),
            (tuple[int, str], (1,)),
            (type[Animal], Rock),
            (type[Dog], Animal),
            (type[Dog], Box[int]),
            (type[T], int | str),
            (type[T], typing.Annotated[int, 1]),
            (type, typing.Literal[1]),
            (type[B], int),
            (type[Animal], Dog()),
            (abc.Callable[[int], str], 1),
            (Speaks, Rock()),
            (Box[int], Box("a")),
            (Pair[str], Pair("a", 1)),
            (Movie, {"year": 1931}),
            (Movie, {"title": "M", "year": "1931"}),
            (Movie, [("title", "M")]),
        ],
    )
    def test_a_value_that_does_not_fit_is_refused(self, target: object, value: object) -> None:
        assert not accepts(target, value)

    def test_a_value_that_breaks_when_it_is_looked_at_is_accepted(self) -> None:
        assert accepts(abc.Sequence[int], Breaking())

    def test_a_value_that_contains_itself_is_accepted(self) -> None:
        loop: list[object] = []
        loop.append(loop)
        recursive = alias("Nested", "list[Nested]")
        assert accepts(recursive, loop)
        assert accepts(recursive, [[], [[]]])
        assert not accepts(recursive, [[], [1]])


class Turn(typing.TypedDict):
    said: list[str]


def readings(target: object, value: object) -> int:
    """How often a check of this value looks at what an annotation means."""
    calls = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        code = frame.f_code
        calls += event == "call" and code.co_filename == shapes.__file__ and code.co_name != "same"

    sys.setprofile(count)
    try:
        accepts(target, value)
        misfit(target, value)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    ("target", "item"),
    [
        (list[list[int]], [1]),
        (list[dict[str, int]], {"a": 1}),
        (list[Turn], {"said": ["a"]}),
        (list[int | None], None),
        (list[Literal["a", "b"]], "b"),
        (list[tuple[int, str]], (1, "a")),
        (list[Box[int]], Box(1)),
        (abc.Sequence[float], 1),
    ],
)
def test_a_longer_list_does_not_take_more_looks_at_its_annotation(
    target: object, item: object
) -> None:
    """A request may bring a hundred thousand items, and nothing else runs while they are checked."""
    assert readings(target, [item] * 2) == readings(target, [item] * 50)
