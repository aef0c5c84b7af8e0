"""Schemas in the words of constrained decoding: closed, and what it cannot enforce is described."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.enforced_schema import DEPTH_MAX, enforced
from orchestra.errors import CapabilityError
from orchestra.steps.conversation.objects import form_of
from orchestra.values import Json

KEPT = {
    *("type", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "required", "items"),
    *("description", "title", "properties", "additionalProperties"),
}
CLOSED = {"additionalProperties": False}
leaves: st.SearchStrategy[Json] = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "string", "number", "null"])},
        optional={
            "minimum": st.integers(),
            "maxLength": st.integers(0, 9),
            "pattern": st.just("^a"),
            "description": st.text(max_size=3),
            "default": st.none(),
        },
    ),
    st.fixed_dictionaries({"enum": st.lists(st.integers(), min_size=1, max_size=3)}),
    st.just({"$ref": "#/$defs/Thing", "description": "beside"}),
)


def _nested(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    named = st.dictionaries(st.sampled_from("ab"), inner, min_size=1, max_size=2)
    return st.one_of(
        st.builds(lambda named: {"type": "object", "properties": named}, named),
        st.builds(lambda each, most: {"type": "array", "items": each, "minItems": most}, inner, st.integers(0, 3)),
        st.builds(lambda each: {"oneOf": each}, st.lists(inner, min_size=1, max_size=2)),
    )  # fmt: skip


def schemas_in(schema: Any) -> list[Json]:
    if isinstance(schema, list):
        return [found for each in schema for found in schemas_in(each)]
    if not isinstance(schema, dict):
        return []
    inner = [
        *schema.get("properties", {}).values(),
        *([schema["items"]] if "items" in schema else ()),
    ]
    inner += [*schema.get("anyOf", []), *schema.get("allOf", []), *schema.get("$defs", {}).values()]
    return [schema, *schemas_in(inner)]


@given(st.recursive(leaves, _nested, max_leaves=6))
def test_nothing_is_left_that_is_not_enforced(schema: Json) -> None:
    found = enforced(schema)
    for each in schemas_in(found):
        assert each.keys() <= KEPT | {"default", "minItems"}
        assert each.get("minItems", 0) in (0, 1)
        assert ("type", "object") not in each.items() or each["additionalProperties"] is False
    assert enforced(found) == found


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {"type": "integer", "minimum": 1, "maximum": 10, "description": "A number"},
            {"type": "integer", "description": "A number\n\n{minimum: 1, maximum: 10}"},
        ),
        (
            {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
            {"type": "array", "description": '{prefixItems: [{"type":"integer"}], items: false}'},
        ),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": "ssn"}, {"type": "string", "description": '{format: "ssn"}'}),
        ({"oneOf": [{"type": "null"}]}, {"anyOf": [{"type": "null"}]}),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {}}}},
            {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {}} | CLOSED}},
        ),
        (
            {"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": True},
            {"type": "object", "properties": {"a": {"const": 1}}} | CLOSED,
        ),
        # A property may be called as a keyword is.
        (
            {"type": "object", "properties": {"minimum": {"type": "number", "minimum": 0}}},
            {
                "type": "object",
                "properties": {"minimum": {"type": "number", "description": "{minimum: 0}"}},
            }
            | CLOSED,
        ),
    ],
)
def test_a_schema_in_their_words(schema: Json, expected: Json) -> None:
    assert enforced(schema) == expected


@attrs.define
class Review:
    stars: Annotated[int, msgspec.Meta(ge=1, le=5)]
    kind: Literal["long", "short"]
    tags: Annotated[list[str], msgspec.Meta(min_length=2)]


def test_a_class_with_bounds_can_be_asked_for() -> None:
    output = form_of(Review).output
    assert output.schema is not None
    found = enforced(output.schema)["properties"]
    assert found["stars"] == {"type": "integer", "description": "{minimum: 1, maximum: 5}"}
    assert found["tags"]["description"] == "{minItems: 2}"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object"},
        {"type": "object", "properties": {}, "additionalProperties": True},
    ],
)
def test_an_object_whose_members_have_no_names_is_refused(schema: Json) -> None:
    with pytest.raises(CapabilityError, match="without named members"):
        enforced({"type": "array", "items": schema})


words = st.sampled_from(
    [*KEPT, "oneOf", "definitions", "format", "minItems", "prefixItems", "not", "x"]
)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["object", "array", "date"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(words, anything, max_size=5))
def test_whatever_a_client_calls_a_schema_is_sent_or_refused(schema: Json) -> None:
    """Clients send schemas, in `response_format` and in tools: no form of one is a fault of ours."""
    try:
        msgspec.json.encode(enforced(schema))
    except CapabilityError as error:
        assert "without named members" in error.message  # noqa: PT017 - many schemas are none


@pytest.mark.parametrize("key", ["items", "anyOf", "properties", "$defs"])
def test_a_schema_that_is_nested_for_ever_is_refused(key: str) -> None:
    def around(inner: Json) -> Json:
        return {key: {"items": inner, "anyOf": [inner]}.get(key, {"a": inner})}

    schema: Json = {"type": "string"}
    for _ in range(DEPTH_MAX - 1):
        schema = around(schema)
    assert enforced(schema) == schema
    for _ in range(400):
        schema = around(schema)
        with pytest.raises(CapabilityError, match=f"nested deeper than {DEPTH_MAX}"):
            enforced(schema)
