"""What dialects share: objects for arguments, bodies with more in them, numbers of tokens."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from orchestra.codecs.raw_json import NOTHING, given, merged, text_of
from orchestra.codecs.tool_calls import arguments_object, arguments_text
from orchestra.codecs.usage_counts import TOKENS_MAX, count

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=3), values, max_size=4)


@drawn(objects)
def test_arguments_that_are_an_object_are_that_object(arguments: dict[str, Any]) -> None:
    assert arguments_object(json.dumps(arguments)) == arguments


@pytest.mark.parametrize("text", ['{"city": "Bos', "[1]", "5", "null x", "{" * 9_000, "[" * 9_000])
def test_what_is_no_object_goes_back_as_it_was_written(text: str) -> None:
    assert arguments_object(text) == {"INVALID_JSON": text}


@pytest.mark.parametrize("text", ["", "null", " null\n"])
def test_no_arguments_are_an_empty_object(text: str) -> None:
    """However a model has written that there are none."""
    assert arguments_object(text) == {}
    assert arguments_text(text) in {text, "{}"} - {"null", " null\n"}


@pytest.mark.parametrize("text", ["", '{ "q": null}', '{"city": "Bos', "[1]", '"null"'])
def test_other_arguments_go_back_as_they_were_written(text: str) -> None:
    assert arguments_text(text) == text


@drawn(objects, objects)
def test_merging_changes_neither_and_the_second_wins(
    body: dict[str, Any], extra: dict[str, Any]
) -> None:
    before = json.dumps([body, extra])
    result = merged(body, extra)
    assert json.dumps([body, extra]) == before
    assert set(result) == set(body) | set(extra)
    for key, value in extra.items():
        if not isinstance(value, dict):
            assert result[key] == value
    assert merged(result, extra) == result


def test_objects_are_merged_and_lists_replaced() -> None:
    body = {"config": {"a": 1, "b": [1]}, "x": {"y": 1}}
    extra = {"config": {"b": [2], "c": 3}, "x": 5}
    assert merged(body, extra) == {"config": {"a": 1, "b": [2], "c": 3}, "x": 5}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((7, 7), (0, 0), (7.0, 7), (-1, 0), (True, 0), ("7", 0), (None, 0), (7.5, 0)),
        *((TOKENS_MAX, TOKENS_MAX), (TOKENS_MAX + 1, 0), (1e300, 0), (float("inf"), 0)),
    ],
)
def test_only_whole_numbers_are_counted(value: object, number: int) -> None:
    assert count({"tokens": value}, "tokens") == number
    assert count({}, "tokens") == 0


def test_null_is_not_given() -> None:
    assert not given(NOTHING)
    assert not given(msgspec.Raw(b"null"))
    assert given(msgspec.Raw(b"{}"))
    assert text_of(msgspec.Raw(b"null")) == text_of(NOTHING) == "{}"


def test_text_loses_its_blanks_and_nothing_else() -> None:
    raw = msgspec.Raw(b'{\n "a b" : [1.50,\t123456789012345678901, "\xc3\xa9"] }')
    assert text_of(raw) == '{"a b":[1.50,123456789012345678901,"é"]}'
    deep = "[" * 9_000
    assert text_of(msgspec.Raw(deep.encode())) == deep
