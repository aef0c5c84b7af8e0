"""Arguments that come in pieces: whatever they are, they come out as they were taken apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.gemini.arguments import Arguments, PartialArgument
from orchestra.errors import MalformedStreamError

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53) + 1, 2**53 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        names,
    ),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(names, inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


def taken_apart(value: object, path: str = "$") -> Iterator[PartialArgument]:
    """The pieces that Vertex would send; a text comes letter by letter, and ends with none."""
    match value:
        case dict():
            for name, each in value.items():
                plain = name.isalnum()
                quoted = name.replace("\\", "\\\\").replace("'", "\\'")
                yield from taken_apart(each, f"{path}.{name}" if plain else f"{path}['{quoted}']")
        case list():
            for index, each in enumerate(value):
                yield from taken_apart(each, f"{path}[{index}]")
        case str():
            yield from (PartialArgument(path, string_value=letter) for letter in [*value, ""])
        case bool():
            yield PartialArgument(path, bool_value=value)
        case None:
            yield PartialArgument(path)  # its `nullValue` is not read
        case int() | float():
            yield PartialArgument(path, number_value=float(value))


@given(st.dictionaries(names, values, max_size=3))
def test_what_was_taken_apart_comes_together(arguments: dict[str, Any]) -> None:
    together = Arguments({})
    for piece in taken_apart(arguments):
        together.add(piece)
    assert json.loads(together.json()) == arguments


@given(st.lists(st.text("$.[]'\"\\a01", max_size=8), max_size=4), st.booleans())
def test_any_path_is_a_place_or_an_error(paths: list[str], text: bool) -> None:
    together = Arguments({"a": {"0": [1]}})
    for path in paths:
        piece = PartialArgument(path, string_value="x") if text else PartialArgument(path)
        with suppress(MalformedStreamError):
            together.add(piece)
    assert isinstance(json.loads(together.json()), dict)


@pytest.mark.parametrize(
    "path",
    ["", "$", "a", "$a", "$.", "$[0]", "$.a[1]", "$.list[999999999]", "$.text.x", "$" + ".a" * 101],
)
def test_a_path_to_nowhere_is_an_error(path: str) -> None:
    together = Arguments({"list": [1], "text": "so"})
    with pytest.raises(MalformedStreamError, match="which is invalid, or does not fit the pieces"):
        together.add(PartialArgument(path, bool_value=True))


def test_text_is_not_added_to_what_is_no_text() -> None:
    together = Arguments({"number": 5})
    with pytest.raises(MalformedStreamError, match="number"):
        together.add(PartialArgument("$.number", string_value="x"))


def test_what_came_at_once_is_kept_and_numbers_are_whole_where_they_can_be() -> None:
    together = Arguments({"a": 1})
    together.add(PartialArgument('$["b c"]', number_value=2.0))
    together.add(PartialArgument("$.d", number_value=0.5))
    together.add(PartialArgument("$.e", number_value=1e300))
    assert together.json() == '{"a":1,"b c":2,"d":0.5,"e":1e300}'


def test_arguments_that_are_too_deep_to_be_written_are_none() -> None:
    deep = reduce(lambda inner, _: {"a": inner}, range(100_000), dict[str, object]())
    with pytest.raises(MalformedStreamError, match="nested too deep"):
        Arguments(deep).json()
