"""Schemas: what a model is told of a class is what is read, and strict where it can be."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.annotations.reading import read
from orchestra.annotations.schema_forms import neat, strictly
from orchestra.annotations.schemas import class_schema, object_schema, parameters_schema


class Colour(enum.Enum):
    """A colour of ours."""

    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Line:
    """One line.

    Attributes:
        name: As on the shelf.
        price: In euros.
    """

    name: str
    price: float | None = None


@attrs.frozen
class Order:
    """An order.

    It has lines.
    """

    lines: list[Line]
    best: Annotated[Line, "the dearest"]
    colour: Colour = Colour.RED
    way: Literal["air", "sea"] = "sea"
    due: dt.date | None = None


class Node(TypedDict):
    """A node."""

    children: list[Node]
    size: NotRequired[int]


@attrs.frozen
class Loose:
    """It has what strict mode has no words for."""

    stock: dict[str, int]


def test_a_class_is_told_with_all_that_is_said_of_it() -> None:
    found = class_schema(Order)
    assert found.strict
    assert found.schema == {
        "description": "An order.\n\nIt has lines.",
        "type": "object",
        "properties": {
            "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
            "best": {"$ref": "#/$defs/Line"},
            "colour": {"$ref": "#/$defs/Colour"},
            "way": {"type": "string", "enum": ["air", "sea"]},
            "due": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        },
        "required": ["lines", "best", "colour", "way", "due"],
        "additionalProperties": False,
        "$defs": {
            "Line": {
                "description": "One line.",
                "type": "object",
                "properties": {
                    "name": {"description": "As on the shelf.", "type": "string"},
                    "price": {
                        "description": "In euros.",
                        "anyOf": [{"type": "number"}, {"type": "null"}],
                    },
                },
                "required": ["name", "price"],
                "additionalProperties": False,
            },
            "Colour": {
                "type": "string",
                "description": "A colour of ours.",
                "enum": ["blue", "red"],
            },
        },
    }


def test_a_class_that_holds_itself_can_be_told() -> None:
    found = class_schema(Node)
    assert found.strict
    assert found.schema["$defs"]["Node"]["properties"]["children"]["items"] == {
        "$ref": "#/$defs/Node"
    }
    assert found.schema["required"] == ["children", "size"]


@pytest.mark.parametrize(
    "kind",
    [dict[str, int], tuple[int, str], set[int], bytes, dict[int, int], Any, list[Any]],
    ids=str,
)
def test_what_strict_mode_has_no_words_for_is_not_called_strict(kind: Any) -> None:
    cls = attrs.make_class("Held", {"x": attrs.field(type=kind)})
    assert not class_schema(cls).strict


def test_a_loose_class_still_closes_what_it_can() -> None:
    found = class_schema(Loose)
    assert not found.strict
    assert found.schema["additionalProperties"] is False
    assert found.schema["properties"]["stock"]["additionalProperties"] == {"type": "integer"}


@pytest.mark.parametrize("kind", [int, list[Line], dict[str, int], Line | None, object, Colour])
def test_what_is_no_object_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError):
        class_schema(kind)


def test_parameters_are_described_by_the_docstring_or_by_themselves() -> None:
    kinds = {
        "a": Annotated[int, "itself"],
        "b": Line,
        "c": str,
        "d": Annotated[int, "itself"] | None,
    }
    defaults = {"c": "x", "d": None}
    found = parameters_schema(kinds, defaults, {"a": "docs", "b": "docs", "z": "nobody"})
    assert found["properties"]["a"] == {"description": "itself", "type": "integer"}
    assert found["properties"]["d"]["description"] == "itself"
    assert found["properties"]["b"] == {"description": "docs", "$ref": "#/$defs/Line"}
    assert found["properties"]["c"] == {"type": "string", "default": "x"}
    assert found["required"] == ["a", "b"]


def test_an_object_without_members_has_a_schema() -> None:
    assert object_schema({}, {}) == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


def test_an_enum_of_several_types_says_them() -> None:
    assert neat({"enum": [1, "a", None], "title": "T"}) == {
        "type": ["integer", "null", "string"],
        "enum": [1, "a", None],
    }
    assert not strictly({"enum": [1]}).strict


lines = st.fixed_dictionaries({"name": st.text(), "price": st.none() | st.integers(0, 9)})


@given(st.lists(lines), lines, st.sampled_from(["red", "blue"]), st.sampled_from(["air", "sea"]))
def test_what_the_schema_asks_for_is_read(
    given_: list[object], best: object, colour: str, way: str
) -> None:
    value = {"lines": given_, "best": best, "colour": colour, "way": way, "due": None}
    found, misfits = read(Order, value)
    assert not misfits
    assert isinstance(found, Order)
    assert len(found.lines) == len(given_)


class Unspeakable:
    def __repr__(self) -> str:
        raise ValueError("not yet made")


@attrs.frozen
class Marked:
    mark: Any = attrs.field(default="\ud800", converter=str)


@pytest.mark.parametrize("default", ["\ud800", {(1, 2): 3}, {None: 1}, [Unspeakable()]])
def test_a_default_that_json_cannot_say_is_left_out(default: object) -> None:
    """One of one pipeline kept the description of all others from everybody."""
    found = object_schema({"a": Any, "b": Marked}, {"a": default})
    assert found["properties"]["a"] == {}
    assert found["required"] == ["b"]
    assert found["$defs"]["Marked"]["properties"]["mark"] == {}
