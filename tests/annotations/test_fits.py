"""Which annotation fits which: the laws of `compare` and `accepts`, then examples."""

from __future__ import annotations

import collections
import inspect
import typing
from collections import abc
from dataclasses import InitVar
from typing import Annotated, Any, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestra.annotations.builtin_bases import generic
from orchestra.annotations.facts import MISSING, Fit, accepts, compare, spell
from orchestra.protocols import Model, Stream
from orchestra.values import Passage, Vector
from tests.annotations.kinds import (
    ANNOTATIONS,
    Access,
    Actor,
    AdminId,
    Animal,
    B,
    Bag,
    Box,
    Colour,
    Dog,
    Duck,
    IntBox,
    Movie,
    N,
    Named,
    Names,
    OrderId,
    Pair,
    Point,
    Rock,
    Sink,
    Speaks,
    T,
    Ticker,
    TitleInt,
    Upper,
    UserId,
    YearInt,
    YearStr,
    alias,
    values_of,
)

MUST, MAY, CANNOT = Fit.MUST, Fit.MAY, Fit.CANNOT


class Holds:
    """A container that does not say of what."""

    def __contains__(self, what: object) -> bool:
        return True


class TestLaws:
    @given(ANNOTATIONS, ANNOTATIONS, st.data())
    @settings(max_examples=600, deadline=None)
    def test_a_value_is_accepted_where_it_must_fit_and_refused_where_it_cannot(
        self, source: Any, target: Any, data: st.DataObject
    ) -> None:
        fit = compare(source, target)
        assume(fit is not MAY)
        value = data.draw(values_of(source))
        assert accepts(target, value) is (fit is MUST)

    @given(ANNOTATIONS, st.data())
    @settings(max_examples=200, deadline=None)
    def test_every_value_is_accepted_by_its_own_annotation(
        self, annotation: Any, data: st.DataObject
    ) -> None:
        assert accepts(annotation, data.draw(values_of(annotation)))

    @given(ANNOTATIONS)
    @settings(max_examples=200, deadline=None)
    def test_everything_fits_itself(self, annotation: Any) -> None:
        assert compare(annotation, annotation) is MUST

    @given(ANNOTATIONS, ANNOTATIONS, ANNOTATIONS)
    @settings(max_examples=600, deadline=None)
    def test_what_must_fit_twice_must_fit_through(self, a: Any, b: Any, c: Any) -> None:
        """Any is left out: it takes everything and promises nothing."""
        b = typing.Union[a, b]  # noqa: UP007 - so that the first step often holds
        assume(not any("Any" in spell(each) or "object" in spell(each) for each in (a, b, c)))
        if compare(a, b) is MUST and compare(b, c) is MUST:
            assert compare(a, c) is MUST

    @given(ANNOTATIONS, ANNOTATIONS)
    @settings(max_examples=300, deadline=None)
    def test_a_wider_target_never_fits_less(self, source: Any, target: Any) -> None:
        order = [CANNOT, MAY, MUST]
        wider = typing.Optional[target]  # noqa: UP045
        assert order.index(compare(source, wider)) >= order.index(compare(source, target))


class Raising:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class MuteMeta(type):
    def __subclasscheck__(cls, subclass: type) -> bool:
        raise TypeError


class Mute(metaclass=MuteMeta): ...


class TestCompare:
    @pytest.mark.parametrize(
        ("source", "target", "fit"),
        [
            # nothing said
            (inspect.Parameter.empty, int, MAY),
            (int, inspect.Parameter.empty, MUST),
            (MISSING, int, MAY),
            (int, MISSING, MUST),
            (Any, object, MUST),
            (object, Any, MUST),
            (object, int, MAY),
            (Any, typing.Union[int, Any], MUST),  # noqa: UP007
            (typing.Never, int, MUST),
            (int, typing.NoReturn, CANNOT),
            # unions, in both spellings
            (None, str | None, MUST),
            (str, typing.Optional[str], MUST),  # noqa: UP045
            (str | None, str, MAY),
            (int | bytes, str, CANNOT),
            (int | str, typing.Union[str, int, None], MUST),  # noqa: UP007
            (Any, str | None, MAY),
            # literals
            (Literal["a"], Literal["a", "b"], MUST),
            (Literal["a", "b"], Literal["a"], MAY),
            (Literal["a"], Literal["b"], CANNOT),
            (Literal["a"], str, MUST),
            (Literal["a"], int, CANNOT),
            (Literal[1], bool, CANNOT),
            (Literal[True], Literal[1], CANNOT),
            (str, Literal["a"], MAY),
            (int, Literal["a"], CANNOT),
            (bool, Literal[True, False], MUST),
            (bool, Literal[True], MAY),
            (Colour, Literal[Colour.RED, Colour.BLUE], MUST),
            (Colour, Literal[Colour.RED] | None, MAY),
            (Access, Literal[Access.READ, Access.WRITE], MAY),
            (Literal[None], None, MUST),  # noqa: PYI061
            (None, Literal["a", None], MUST),  # noqa: PYI061
            # NewType and TypeVar
            (UserId, str, MUST),
            (str, UserId, MAY),
            (int, UserId, CANNOT),
            (AdminId, UserId, MUST),
            (UserId, AdminId, MAY),
            (UserId, OrderId, CANNOT),
            (int, T, MUST),
            (T, int, MAY),
            (B, str, MUST),
            (B, int, CANNOT),
            (int, B, CANNOT),
            (N, int | str, MUST),
            (N, int, MAY),
            (bytes, N, CANNOT),
            (list[int], generic(list, T), MUST),
            # numbers
            (int, float, MUST),
            (float, int, MAY),
            (bool, complex, MUST),
            (str, float, CANNOT),
            # classes
            (Dog, Animal, MUST),
            (Animal, Dog, MAY),
            (Rock, Animal, CANNOT),
            (type[Dog], type[Animal], MUST),
            (type[Animal], type[Dog], MAY),
            (type[Rock], type[Animal], CANNOT),
            (type, type[Dog], MAY),
            (type[Dog], type, MUST),
            (type[Dog], abc.Callable, MUST),
            (type[Colour], abc.Iterable, MAY),
            # containers
            (list[bool], list[int], MUST),
            (list[int], list[str], CANNOT),
            (list[int | str], list[str], MAY),
            (list, list[str], MAY),
            (list[str], list, MUST),
            (list[None], list[int | None], MUST),
            (str, list[str], CANNOT),
            (str, abc.Sequence[str], MUST),
            (bytes, abc.Sequence[int], MUST),
            (list[int], abc.Sequence[float], MUST),
            (abc.Sequence[int], list[int], MAY),
            (abc.Sequence[int], list[str], CANNOT),
            (abc.Iterable[int], dict[str, int], CANNOT),
            (set[int], frozenset[int], CANNOT),
            (dict[str, int], abc.Mapping[str, float], MUST),
            (dict[str, int], abc.Mapping[str, str], CANNOT),
            (dict[str, int], abc.Iterable[str], MUST),
            (collections.Counter[str], dict[str, int], MUST),
            (abc.KeysView[str], abc.Set[str], MUST),
            (abc.ItemsView[str, int], abc.Iterable[tuple[str, int]], MUST),
            (list[int], abc.Hashable, CANNOT),
            (abc.Sequence[int], abc.Hashable, MAY),
            (abc.Hashable, list[int], CANNOT),
            (Names, abc.Sequence[str], MUST),
            (Names, list[int], CANNOT),
            (Vector, abc.Iterable[float], MUST),
            (Vector, abc.Iterable[str], CANNOT),
            (Passage, abc.Iterable[str], CANNOT),
            (Passage, str, CANNOT),
            (abc.AsyncIterator[int], abc.AsyncIterable[float], MUST),
            (Ticker, abc.AsyncIterable[int], MUST),
            (Ticker, abc.AsyncIterable[str], CANNOT),
            (abc.Generator[int, None, None], abc.Iterable[str], CANNOT),
            # tuples
            (tuple[int, str], tuple[int, str], MUST),
            (tuple[int, str], tuple[float, str], MUST),
            (tuple[int, str], tuple[int], CANNOT),
            (tuple[int, int], tuple[int, ...], MUST),
            (tuple[int, str], tuple[int, ...], CANNOT),
            (tuple[int, ...], tuple[int, int], MAY),
            (tuple[str, ...], tuple[int, int], CANNOT),
            (tuple[bool, ...], tuple[int, ...], MUST),
            (tuple[()], tuple[int, ...], MUST),
            (tuple[int], tuple[()], CANNOT),
            (tuple, tuple[int], MAY),
            (tuple[int, *tuple[str, ...]], tuple[int, ...], MAY),
            (tuple[str], tuple[int, *tuple[str, ...]], MAY),
            (abc.Sequence[int], tuple[int, ...], MAY),
            (Point, tuple[int, str], MUST),
            (Point, tuple[str, str], CANNOT),
            (Point, abc.Sequence[int | str], MUST),
            (tuple[int, str], Point, MAY),
            # callables
            (abc.Callable[[int], str], abc.Callable[[str], str], MAY),
            (abc.Callable[[int], str], abc.Callable[..., Any], MUST),
            (abc.Callable[[int], str], typing.Callable, MUST),
            (int, abc.Callable[[int], str], CANNOT),
            # protocols
            (Actor, Speaks, MUST),
            (Duck, Speaks, MAY),
            (Rock, Speaks, MAY),
            (str, Speaks, CANNOT),
            (str, Upper, MAY),
            (Passage, Model, CANNOT),
            (Speaks, str, CANNOT),
            (Speaks, Rock, MAY),
            (Speaks, Upper, MAY),
            (Stream[bool], Stream[int], MUST),
            (Stream[str], Stream[int], CANNOT),
            (Stream[int], abc.AsyncIterable[int], MUST),
            # generics of one's own
            (Box[bool], Box[int], MUST),
            (Box[int], Box[str], CANNOT),
            (Box, Box[str], MAY),
            (IntBox, Box[int], MUST),
            (IntBox, Box[str], CANNOT),
            (Box[int], IntBox, MAY),
            (Pair[int], Pair[str], CANNOT),
            (Bag[int], abc.Sequence[int], MUST),
            (Bag[int], abc.Iterable[str], CANNOT),
            (Sink[object], Sink[int], MUST),
            (Sink[int], Sink[object], MAY),
            # TypedDict
            (Movie, dict[str, Any], MUST),
            (Movie, abc.Mapping[str, object], MUST),
            (dict[str, Any], Movie, MAY),
            (dict[str, int], Movie, CANNOT),
            (dict[int, str], Movie, CANNOT),
            (dict, Movie, MAY),
            (abc.Mapping[str, Any], Movie, MAY),
            (str, Movie, CANNOT),
            (Movie, Named, MUST),
            (Named, Movie, MAY),
            (YearInt, YearStr, MAY),
            (TitleInt, Named, CANNOT),
            (YearInt, TitleInt, MAY),
            # written otherwise
            (Annotated[int, "a note"], int, MUST),
            (typing.List[int], list[int], MUST),  # noqa: UP006
            (typing.Tuple, tuple[int, ...], MAY),  # noqa: UP006
            (typing.LiteralString, str, MUST),
            (InitVar[int], int, MUST),
            (typing.Final, int, MAY),
            # not understood
            ("Passage", int, MAY),
            (int, typing.ForwardRef("Passage"), MAY),
            (typing.Self, int, MAY),
        ],
    )
    def test_the_three_answers(self, source: object, target: object, fit: Fit) -> None:
        assert compare(source, target) is fit

    def test_metadata_that_cannot_be_compared_is_no_obstacle(self) -> None:
        def array() -> object:
            return Raising()

        one = list[Annotated[int, array()]]
        other = list[Annotated[int, array()]]
        assert compare(one, other) is MUST
        assert compare(one, list[str]) is CANNOT

    def test_a_class_that_does_not_answer_is_taken_for_unrelated(self) -> None:
        assert compare(int, Mute) is CANNOT


class TestAliases:
    def test_an_alias_is_what_it_stands_for(self) -> None:
        assert compare(alias("Text", "str"), str) is MUST
        assert compare(int, alias("Text", "str")) is CANNOT

    def test_an_alias_with_arguments_hands_them_on(self) -> None:
        several = alias("Several", "list[T]", "T")
        assert compare(several[int], list[int]) is MUST
        assert compare(several[int], list[str]) is CANNOT
        assert compare(several, list[str]) is MAY

    def test_recursive_aliases_come_to_an_end(self) -> None:
        one = alias("One", "dict[str, One] | list[One] | str")
        two = alias("Two", "dict[str, Two] | list[Two] | str | None")
        assert compare(one, two) is MUST
        assert compare(two, one) is MAY
        assert compare(one, int) is CANNOT

    def test_an_alias_that_grows_as_it_is_unrolled_comes_to_an_end(self) -> None:
        one = alias("One", "tuple[T, One[list[T]]]", "T")
        two = alias("Two", "tuple[T, Two[list[T]]]", "T")
        assert compare(one[int], two[int]) is MAY

    def test_an_alias_of_itself_or_of_an_unknown_name_may_be_anything(self) -> None:
        assert compare(alias("Own", "Own"), int) is MAY
        assert compare(alias("Own", "Annotated[Own, 1]"), int) is MAY
        assert compare(alias("Lost", "Nowhere"), int) is MAY
        assert accepts(alias("Lost", "Nowhere"), 1)


def test_what_is_a_container_of_nobody_knows_what_may_fit() -> None:
    assert compare(Holds, abc.Container[int]) is MAY
