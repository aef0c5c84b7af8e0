"""Tools: a typed function says all that a model needs, or is refused where it is written."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Annotated, Any, Literal, TypedDict

import attrs
import pytest
from pydantic import BaseModel, Field

from orchestra import Context, injected, pipeline, step
from orchestra.annotations.facts import spell
from orchestra.compiler.check import check
from orchestra.errors import DefinitionError
from orchestra.steps.conversation.tools import FunctionTool, Unfilled, as_tools, tool
from orchestra.testing.simulate import simulate
from orchestra.values import Tool


class Unit(enum.Enum):
    METRES = "m"
    FEET = "ft"


class Span(TypedDict):
    start: int
    end: int


@attrs.frozen
class Place:
    """A place on a map."""

    town: str
    street: str | None = None


async def measure(
    place: Place,
    unit: Unit = Unit.METRES,
    *,
    spans: Annotated[list[Span], "parts of it"] = [],  # noqa: B006
    exact: Literal["yes", "no"] | None = None,
    context: Context = injected,
) -> float:
    """Measure a place.

    Takes its time.

    Args:
        place: Which one.
        unit: In what.
            Feet are for planes.
        spans: Not this text, but that of the annotation.

    Returns:
        Nothing for a model.
    """
    return 1.0


def test_a_signature_is_a_schema_and_a_docstring_says_what_for() -> None:
    (found,) = as_tools([measure])
    assert found.call is measure
    assert found.injected == "context"
    assert found.required == {"place"}
    assert found.declaration == Tool(
        "measure",
        "Measure a place.\n\nTakes its time.",
        {
            "type": "object",
            "properties": {
                "place": {"description": "Which one.", "$ref": "#/$defs/Place"},
                "unit": {
                    "description": "In what. Feet are for planes.",
                    "$ref": "#/$defs/Unit",
                    "default": "m",
                },
                "spans": {
                    "description": "parts of it",
                    "type": "array",
                    "items": {"$ref": "#/$defs/Span"},
                    "default": [],
                },
                "exact": {
                    "anyOf": [{"type": "string", "enum": ["no", "yes"]}, {"type": "null"}],
                    "default": None,
                },
            },
            "required": ["place"],
            "additionalProperties": False,
            "$defs": {
                "Place": {
                    "description": "A place on a map.",
                    "type": "object",
                    "properties": {
                        "town": {"type": "string"},
                        "street": {
                            "anyOf": [{"type": "string"}, {"type": "null"}],
                            "default": None,
                        },
                    },
                    "required": ["town"],
                },
                "Unit": {"type": "string", "enum": ["ft", "m"]},
                "Span": {
                    "type": "object",
                    "properties": {"start": {"type": "integer"}, "end": {"type": "integer"}},
                    "required": ["end", "start"],  # msgspec sorts them
                },
            },
        },
    )


class Street(BaseModel):
    """A street."""

    name: str = Field(alias="streetName")
    kind: Literal["road"] = "road"


def visit(street: Street, then: list[Place | None] = []) -> str:  # noqa: B006
    """Visit a street.

    Args:
        street: Which one.
    """
    return f"{street.name} {then}"


def test_a_pydantic_model_is_described_as_other_classes_are() -> None:
    (found,) = as_tools([visit])
    schema = found.declaration.parameters
    assert schema["properties"]["street"] == {
        "description": "Which one.",
        "$ref": "#/$defs/Street",
    }
    assert schema["$defs"]["Street"] == {
        "description": "A street.",
        "type": "object",
        "properties": {
            "streetName": {"type": "string"},
            "kind": {"type": "string", "enum": ["road"], "default": "road"},
        },
        "required": ["streetName"],
    }


@tool(name="look-up", description="Look it up.", thread=True)
def look(word: str) -> str:
    """Not this."""
    return word.upper()


@tool(timeout_s=2)
async def ping(times: int = 1) -> int:
    """Ping."""
    return times


def test_a_decorator_says_the_rest_and_the_function_stays_itself() -> None:
    assert look("a") == "A"
    assert look.declaration.name == "look-up"
    assert look.declaration.description == "Look it up."
    assert (look.thread, look.timeout_s) == (True, None)
    assert (ping.thread, ping.timeout_s) == (False, 2)
    assert ping.declaration.description == ping.__doc__ == "Ping."
    assert as_tools([look, ping]) == (look, ping)
    assert repr(ping) == "<tool ping>"  # as it stands in a drawn graph


@step(thread=True)
def blocking(x: int) -> int:
    """A step."""
    return x


class Shop:
    """It has methods."""

    def stock(self, name: str) -> int:
        """How many there are."""
        return len(name)

    def __call__(self, price: float) -> str:
        """Sell."""
        return f"{price}"


def test_steps_methods_objects_and_partials_are_functions_too() -> None:
    sell = tool(name="sell")(Shop())
    left = tool(name="left")(partial(measure, exact="no"))
    found = as_tools([blocking, Shop().stock, sell, left])
    assert [each.declaration.name for each in found] == ["blocking", "stock", "sell", "left"]
    assert [list(each.kinds) for each in found] == [
        ["x"],
        ["name"],
        ["price"],
        ["place", "unit", "spans"],  # what is given is not the model's to change
    ]
    assert found[0].thread
    assert found[3].declaration.description.startswith("Measure a place.")
    (named,) = as_tools([partial(measure, exact="no")])
    assert named.declaration == attrs.evolve(found[3].declaration, name="measure")


@step
@tool(name="stock-of", thread=True)
def stocked(name: str) -> int:
    """How many there are."""
    return len(name)


@step
@tool(description="Look it up.")
async def looked(word: str, context: Context = injected) -> str:
    """A step as well."""
    return f"{word} in {context.step}"


@pipeline
def direct(text: str) -> str:
    """Calls it as a step."""
    return looked(text)


def test_a_step_above_a_tool_is_a_step_as_ever() -> None:
    assert check(direct) == ()
    assert simulate(direct, text="a").value == "a in looked"
    assert spell(looked.returns) == "str"


def test_a_step_above_a_tool_is_that_tool() -> None:
    (found,) = as_tools([stocked])
    assert found is stocked.call
    (given,) = as_tools([partial(stocked, name="x")])
    assert (given.declaration.name, given.thread, dict(given.kinds)) == ("stock-of", True, {})
    assert given() == 1


def no_annotation(x) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """One."""


def no_form(x: Callable[[int], int]) -> None:
    """One."""


def two_classes(x: Place | Shop) -> None:
    """One."""


def any_number(*x: int) -> None:
    """One."""


def any_name(**x: int) -> None:
    """One."""


def by_position(x: int, /) -> None:
    """One."""


def generator(x: int) -> Iterator[int]:
    """One."""
    yield x


async def async_generator(x: int) -> AsyncIterator[int]:
    """One."""
    yield x


def misspelt(x: Plaze) -> None:  # type: ignore[name-defined]  # noqa: F821
    """One."""


BAD: list[tuple[Any, str]] = [
    (no_annotation, r"'x' has no annotation.*write `x: str`"),
    (no_form, r"`x: Callable\[\[int\], int\]` has no form in JSON .*not supported.*take a str"),
    (two_classes, "has no form in JSON"),
    (any_number, r"`\*x: .*` cannot be passed by name; spell every parameter out"),
    (any_name, r"`\*\*x: .*` cannot be passed by name"),
    (by_position, "cannot be passed by name"),
    (generator, "yields, and a tool returns one value; return a list"),
    (async_generator, "yields, and a tool returns one value"),
    (misspelt, "'Plaze', which has no value at run time"),
    (lambda x: x, r"test_tools\.py:\d+: a lambda in tools has no name.*`def look_up\("),
    (Shop(), "cannot name a tool; give it a name"),
    (
        max,
        r"tool 'max' is <built-in function max>, whose parameters cannot be determined .* write a function",
    ),
    ("search", "'search' in tools is not a function; pass typed functions"),
]


@pytest.mark.parametrize(("function", "message"), BAD)
def test_what_a_model_could_not_call_is_refused_where_it_is(function: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        as_tools([function])
    assert "test_tools.py:" in str(caught.value)


def test_a_decorator_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"`async def`, and a thread runs a plain function"):
        tool(thread=True)(measure)
    with pytest.raises(DefinitionError, match="timeout_s, but a plain function cannot be inter"):
        tool(thread=True, timeout_s=1)(look.call)
    with pytest.raises(DefinitionError, match="timeout_s, but a plain function cannot be inter"):
        tool(timeout_s=1)(look.call)
    with pytest.raises(DefinitionError, match="a lambda in tools has no name"):
        tool(name="look")(lambda x: x)
    with pytest.raises(
        DefinitionError,
        match=r"@tool is above @step of 'blocking', .*; write tools=\[blocking\]",
    ):
        tool(blocking)
    with pytest.raises(DefinitionError, match=r"timeout_s=0\): it must be a number of seconds"):
        tool(timeout_s=0)
    with pytest.raises(DefinitionError, match="two tools are called 'ping'"):
        as_tools([ping, tool(name="ping")(look)])
    made: FunctionTool[..., object] = ping
    assert made.declaration.name == "ping"


def test_a_tool_is_shown_by_its_name_also_where_arguments_are_missing() -> None:
    @tool
    async def near(town: str, to: Place) -> str:
        """Whether it is near."""
        return town

    assert repr(near) == repr(Unfilled(near)) == "<tool near>"


def counted(most: Annotated[int, Field(ge=0, description="How many.")] = 3) -> int:
    """Count."""
    return most


def misplaced(most: int = Field(ge=0, default=3)) -> int:
    """Count."""
    return most


def test_what_pydantic_checks_stands_in_the_annotation() -> None:
    (found,) = as_tools([counted])
    assert found.declaration.parameters["properties"]["most"] == {
        "description": "How many.",
        "type": "integer",
        "minimum": 0,
        "default": 3,
    }
    told = r"write `most: Annotated\[int, Field\(...\)\]`, and any default behind it"
    with pytest.raises(DefinitionError, match=told):
        as_tools([misplaced])
