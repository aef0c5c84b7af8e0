"""What the compiler reads from annotations: the laws, then examples."""

from __future__ import annotations

import collections
import functools
import inspect
import typing
from collections import abc
from typing import Annotated, Any, Generic, Literal

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.accounts import Certainty
from orchestra.annotations.builtin_bases import generic
from orchestra.annotations.facts import (
    MISSING,
    Fit,
    accepts,
    chunk_of,
    compare,
    element,
    hints,
    item,
    member,
    spell,
    yielded,
)
from orchestra.errors import DefinitionError
from orchestra.protocols import Stream
from orchestra.values import Metadata, Passage, Role, Vector
from tests.annotations import kinds
from tests.annotations.kinds import (
    ANNOTATIONS,
    Animal,
    Anything,
    B,
    Bag,
    Box,
    Colour,
    IntBox,
    Movie,
    Names,
    Pair,
    Point,
    Rock,
    Silent,
    Speaks,
    T,
    Ticker,
    Tree,
    TreeWalk,
    UserId,
    Withdrawn,
    alias,
    values_of,
)


class TestLaws:
    @given(ANNOTATIONS, st.data())
    @settings(max_examples=200, deadline=None)
    def test_what_iterating_gives_is_what_element_says(
        self, annotation: Any, data: st.DataObject
    ) -> None:
        value = data.draw(values_of(annotation))
        inside = element(annotation)
        if isinstance(value, abc.Iterable):
            assert inside is not MISSING
            assert all(accepts(inside, each) for each in value)

    @given(ANNOTATIONS, st.sampled_from([0, 1, "title", "a", slice(1)]), st.data())
    @settings(max_examples=200, deadline=None)
    def test_what_subscripting_gives_is_what_item_says(
        self, annotation: Any, key: Any, data: st.DataObject
    ) -> None:
        value = data.draw(values_of(annotation))
        try:
            found = value[key]
        except (TypeError, LookupError):
            return
        assert accepts(item(annotation, key), found)
        assert item(annotation, key) is not MISSING

    @given(ANNOTATIONS, st.sampled_from(["value", "text", "x", "upper", "name"]), st.data())
    @settings(max_examples=200, deadline=None)
    def test_an_attribute_that_exists_is_of_the_type_that_member_says(
        self, annotation: Any, name: str, data: st.DataObject
    ) -> None:
        value = data.draw(values_of(annotation))
        if hasattr(value, name):
            assert member(annotation, name) is not MISSING
            assert accepts(member(annotation, name), getattr(value, name))

    @given(ANNOTATIONS)
    @settings(max_examples=200, deadline=None)
    def test_what_is_spelled_is_python_and_means_the_same(self, annotation: Any) -> None:
        names = {**vars(kinds), **vars(abc), "Any": Any}
        kinds.forget_unions()
        read = eval(spell(annotation), names)
        assert compare(annotation, read) is Fit.MUST or not {"Any", "object"}.isdisjoint(
            spell(annotation).replace("[", " ").replace("]", " ").replace(",", " ").split()
        )
        assert spell(read) == spell(annotation)


class TestSpell:
    @pytest.mark.parametrize(
        ("annotation", "text"),
        [
            (typing.List[Passage], "list[Passage]"),  # noqa: UP006
            (typing.Optional[str], "str | None"),  # noqa: UP045
            (None | int, "int | None"),
            (None, "None"),
            (Any, "Any"),
            (inspect.Parameter.empty, "Any"),
            (MISSING, "Any"),
            (Role, 'Literal["system", "user", "assistant", "tool"]'),
            (Literal[Colour.RED, 1, b"x"], "Literal[Colour.RED, 1, b'x']"),
            (typing.Callable[[int, str], None], "Callable[[int, str], None]"),
            (abc.Callable[..., int], "Callable[..., int]"),
            (tuple[()], "tuple[()]"),
            (tuple[int, ...], "tuple[int, ...]"),
            (tuple[int, *tuple[str, ...]], "tuple[int, *tuple[str, ...]]"),
            (type[Passage], "type[Passage]"),
            (Annotated[str, "a note"], "str"),
            (T, "T"),
            (UserId, "UserId"),
            ("Passage", "Passage"),
            (typing.ForwardRef("Passage"), "Passage"),
            (typing.Never, "Never"),
            (Metadata, "Mapping[str, str | int | float | bool | None]"),
            (Stream[str], "Stream[str]"),
            (Box[int], "Box[int]"),
            (alias("Text", "str"), "Text"),
            (generic(list, alias("Several", "list[T]", "T")[int]), "list[Several[int]]"),
            (3, "3"),
        ],
    )
    def test_as_a_person_writes_it(self, annotation: object, text: str) -> None:
        assert spell(annotation) == text

    def test_a_class_of_a_function_is_spelled_without_the_function(self) -> None:
        class Inner: ...

        assert spell(list[Inner]) == "list[Inner]"

    def test_missing_says_what_it_is(self) -> None:
        assert repr(MISSING) == "MISSING"


class TestMember:
    @pytest.mark.parametrize(
        ("annotation", "name", "found"),
        [
            (Passage, "text", str),
            (Passage, "txt", MISSING),
            (Passage, "metadata", Metadata),
            (Passage | None, "text", str),
            (Passage | None, "txt", MISSING),
            (Passage | Rock, "txt", Any),
            (None, "text", MISSING),
            (Any, "text", Any),
            (object, "text", Any),
            (inspect.Parameter.empty, "text", Any),
            ("Passage", "text", Any),
            (Box[int], "value", int),
            (Box, "value", Any),
            (Box[list[str]], "value", list[str]),
            (IntBox, "value", int),
            (Pair[int], "left", int),
            (Pair[int], "middle", MISSING),
            (Point, "label", str),
            (Point, "middle", MISSING),
            (Point, "count", abc.Callable[..., Any]),
            (Animal, "age", int),
            (Animal, "weight", float),
            (Animal, "called", abc.Callable[..., str]),
            (Animal, "legs", Any),
            (Animal, "name", Any),
            (Rock, "anything", Any),
            (Anything, "anything", Any),
            (str, "upper", abc.Callable[..., Any]),
            (str, "text", MISSING),
            (Literal["a"], "text", MISSING),
            (UserId, "text", MISSING),
            (list[int], "first", MISSING),
            (B, "text", MISSING),
            (T, "text", Any),
            (Movie, "keys", abc.Callable[..., Any]),
            (Movie, "title", MISSING),
            (Certainty, "value", Any),
            (Speaks, "speak", abc.Callable[..., str]),
            (Speaks, "walk", Any),
        ],
    )
    def test_the_annotation_of_an_attribute(
        self, annotation: object, name: str, found: object
    ) -> None:
        result = member(annotation, name)
        assert spell(result) == spell(found)
        assert (result is MISSING) is (found is MISSING)
        assert result is not None

    def test_a_field_whose_annotation_cannot_be_resolved_is_unknown(self) -> None:
        @attrs.frozen
        class Lost:
            there: Nowhere  # type: ignore[name-defined]  # noqa: F821

        assert member(Lost, "there") is Any
        assert member(Lost, "gone") is MISSING

    def test_a_class_that_computes_its_attributes_has_any(self) -> None:
        @attrs.frozen
        class Computed:
            def __getattr__(self, name: str) -> str:
                return name

        assert member(Computed, "anything") is Any

    def test_a_class_that_keeps_a_dict_and_can_be_written_to_has_any(self) -> None:
        @attrs.define(slots=False)
        class Written:
            there: int

        assert member(Written, "anything") is Any


class TestItem:
    @pytest.mark.parametrize(
        ("annotation", "key", "found"),
        [
            (list[int], 0, int),
            (list[int], True, int),
            (list[int], "a", MISSING),
            (list[None], 0, None),
            (list, 0, Any),
            (list[int], slice(2), list[int]),
            (Bag[int], slice(2), abc.Sequence[int]),
            (str, 0, str),
            (str, slice(2), str),
            (bytes, 0, int),
            (tuple[int, str], 1, str),
            (tuple[int, str], -1, str),
            (tuple[int, str], 2, MISSING),
            (tuple[int, str], "a", MISSING),
            (tuple[int, str, bytes], slice(1, None), tuple[str, bytes]),
            (tuple[int, ...], 5, int),
            (Point, 1, str),
            (dict[str, int], "a", int),
            (dict[str, int], 1, MISSING),
            (dict, "a", Any),
            (collections.Counter[str], "a", int),
            (Metadata, "a", str | int | float | bool | None),
            (Movie, "title", str),
            (Movie, "gone", MISSING),
            (Movie, 1, MISSING),
            (dict[str, int] | None, "a", int),
            (int, 0, MISSING),
            (None, 0, MISSING),
            (Passage, 0, MISSING),
            (Rock, 0, MISSING),
            (Speaks, 0, Any),
            (Any, 0, Any),
            ("Passage", 0, Any),
            (Literal["abc"], 0, str),
        ],
    )
    def test_the_annotation_of_an_item(
        self, annotation: object, key: object, found: object
    ) -> None:
        result = item(annotation, key)
        assert spell(result) == spell(found)
        assert (result is MISSING) is (found is MISSING)
        assert result is not None

    def test_a_class_with_a_getitem_of_its_own_is_read_by_its_hint(self) -> None:
        class Table(Generic[T]):
            def __getitem__(self, key: str) -> list[T]:
                raise KeyError

        assert item(Table[int], "a") == list[int]
        assert element(Table[int]) is Any


class TestElement:
    @pytest.mark.parametrize(
        ("annotation", "found"),
        [
            (list[int], int),
            (list[None], None),
            (list, Any),
            (set[str], str),
            (tuple[int, ...], int),
            (tuple[int, str], int | str),
            (tuple[int, Any], Any),
            (tuple, Any),
            (tuple[()], Any),
            (tuple[int, *tuple[str, ...]], Any),
            (tuple[Any, int], Any),
            (dict[str, int], str),
            (abc.Mapping[str, int], str),
            (str, str),
            (bytes, int),
            (range, int),
            (abc.Iterable[str], str),
            (abc.Iterable[None], None),
            (abc.Iterator, Any),
            (Vector, float),
            (Tree, Tree),
            (TreeWalk, Tree),
            (Silent, Any),
            (Names, str),
            (Bag[int], int),
            (Bag, Any),
            (list[int] | None, int),
            (list[int] | set[str], int | str),
            (int, MISSING),
            (None, MISSING),
            (Passage, MISSING),
            (Rock, MISSING),
            (Withdrawn, MISSING),
            (Ticker, MISSING),
            (Speaks, Any),
            (Any, Any),
            (abc.Sized, Any),
            ("Passage", Any),
        ],
    )
    def test_what_iterating_gives(self, annotation: object, found: object) -> None:
        result = element(annotation)
        assert spell(result) == spell(found)
        assert (result is MISSING) is (found is MISSING)
        assert result is not None


class TestStreams:
    def test_the_chunk_of_a_stream(self) -> None:
        assert chunk_of(Stream[str]) is str
        assert chunk_of(Annotated[Stream[Passage], "a note"]) is Passage
        assert chunk_of(Stream) is Any
        assert chunk_of(Stream[None]) is type(None)
        assert chunk_of(Stream[Annotated[str, "a word"]]) is str
        assert chunk_of(Stream[kinds.alias("Data", "bytes")]) is bytes  # type: ignore[misc]

    @pytest.mark.parametrize("annotation", [str, MISSING, Any, abc.AsyncIterator[str]])
    def test_what_is_not_a_stream_has_no_chunk(self, annotation: object) -> None:
        assert chunk_of(annotation) is None

    @pytest.mark.parametrize(
        ("annotation", "chunk"),
        [
            (abc.AsyncIterator[str], str),
            (typing.AsyncGenerator[str, None], str),
            (abc.AsyncIterable[list[int]], list[int]),
            (abc.AsyncIterator, Any),
            (abc.Iterator[str], None),
            (str, None),
        ],
    )
    def test_what_a_generator_yields(self, annotation: object, chunk: object) -> None:
        assert yielded(annotation) == chunk

    def test_yielding_none_is_yielding(self) -> None:
        """`collections.abc` keeps the bare None, which would read as "not a stream"."""
        assert yielded(abc.AsyncIterator[None]) is type(None)


class TestHints:
    def test_strings_are_resolved_and_metadata_is_kept(self) -> None:
        def function(a: list[Passage], b: Annotated[str, "a note"] = "") -> None: ...

        expected = {"a": list[Passage], "b": Annotated[str, "a note"], "return": type(None)}
        assert hints(function) == expected

    def test_a_name_without_a_value_is_reported_with_its_place_and_the_cure(self) -> None:
        def function(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        with pytest.raises(DefinitionError) as caught:
            hints(function)
        line = function.__code__.co_firstlineno
        assert str(caught.value).startswith(f"{__file__}:{line}: ")
        assert "function() is annotated with 'Nowhere'" in str(caught.value)
        assert "TYPE_CHECKING" in str(caught.value)
        assert isinstance(caught.value.__cause__, NameError)

    def test_an_annotation_that_cannot_be_evaluated_is_reported(self) -> None:
        def function(a: 1 / 0) -> None: ...  # type: ignore[valid-type]

        with pytest.raises(DefinitionError, match="ZeroDivisionError") as caught:
            hints(function)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_what_has_no_source_is_named_by_its_module(self) -> None:
        def function(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        bound = functools.partial(function)
        bound.__annotations__ = function.__annotations__
        bound.__module__ = "somewhere"
        with pytest.raises(DefinitionError, match=r"^somewhere: "):
            hints(bound)
