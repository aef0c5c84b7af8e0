"""What Pydantic adds to other annotations counts where a value is read from JSON."""

from __future__ import annotations

from dataclasses import InitVar
from typing import Annotated, Any, Literal, NamedTuple, Required, TypeAlias

import annotated_types
import attrs
import msgspec
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    GetPydanticSchema,
    PositiveInt,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core.core_schema import is_instance_schema

from orchestra.annotations.reading import read
from orchestra.annotations.schemas import class_schema, object_schema, parameters_schema
from orchestra.annotations.shapes import ALIASES_MAX, layers

UNSPOKEN = GetPydanticSchema(lambda *_: is_instance_schema(int))
Count: TypeAlias = Annotated[int, Field(ge=0, le=9, description="How many.")]
Word: TypeAlias = Annotated[str, StringConstraints(min_length=2, pattern="^[a-z]*$")]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


Pet: TypeAlias = Annotated[Cat | Dog, Field(discriminator="kind")]


@attrs.frozen
class Plain:
    number: int


@attrs.frozen
class Shop:
    """What a shop has.

    Attributes:
        open: Whether one may come in.
    """

    counts: list[Count]
    word: Word | None = None
    words: dict[str, Word] = attrs.field(factory=dict)
    open: Annotated[bool, Field(description="Whether it is open.")] = True


@given(st.integers(-20, 20) | st.sampled_from([10**30, "5", "x", None, True, 2.5, [1]]))
def test_a_checked_number_is_read_as_strict_json(value: Any) -> None:
    """As everywhere but in a model, `"5"` is no number."""
    found, misfits = read(Count, value)
    try:
        meant = TypeAdapter(Count).validate_json(msgspec.json.encode(value), strict=True)
        faults = 0
    except ValidationError as error:
        meant, faults = None, error.error_count()
    assert (found, len(misfits)) == (meant, faults)


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (Count, 5.0, 5),
        (Count | None, None, None),
        (Count | str, "a", "a"),
        (Count | Cat, {"kind": "cat"}, Cat(kind="cat")),
        (list[Pet], [{"kind": "cat", "lives": "5"}], [Cat(kind="cat", lives=5)]),
        (Pet | None, {"kind": "dog"}, Dog(kind="dog")),
        (Annotated[list[Cat], Field(max_length=1)], [{"kind": "cat"}], [Cat(kind="cat")]),
        (Annotated[str, AfterValidator(str.upper)], "a", "A"),
        (Annotated[Plain, Field(description="Only told.")], {"number": 1}, Plain(1)),
        (Annotated[Any, Field(max_length=2)], [1, 2], [1, 2]),
        (Shop, {"counts": [1], "words": {"a": "ab"}}, Shop([1], None, {"a": "ab"})),
    ],
)
def test_a_value_that_passes_the_checks_is_read(kind: Any, value: Any, found: object) -> None:
    assert read(kind, value) == (found, ())


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        (PositiveInt, 0, ["input should be greater than 0"]),
        (Annotated[str, annotated_types.MinLen(2)], "a", ["string should have at least 2"]),
        (Annotated[int, BeforeValidator(lambda _: 1 / 0)], 1, ["ZeroDivisionError: division"]),
        (Annotated[bool, Field(description="d")], "yes", ["expected `bool`"]),
        (Required[Annotated[Count, "of all"]], -1, ["input should be greater"]),
        (Count | None, -1, ["input should be greater"]),
        (tuple[Count, Count], [1, -1], ["`[1]`: input should be greater"]),
        (list[Pet], [{"kind": "cow"}, {"kind": "cat", "lives": "x"}], ["`[0]`", "`[1].lives`"]),
        (Annotated[list[int], Field(max_length=1)], [1, 2], ["list should have at most 1 item"]),
        (
            Shop,
            {"counts": [1, -1], "word": "a", "words": {"k": "A1"}, "open": 1},
            ["`counts[1]`", "`word`: string should", "`words.k`: string", "`open`: expected"],
        ),
    ],
)
def test_a_value_that_fails_the_checks_is_a_misfit(kind: Any, value: Any, told: list[str]) -> None:
    found, misfits = read(kind, value)
    assert found is None
    assert len(misfits) == len(told)
    assert all(str(each).startswith(meant) for each, meant in zip(misfits, told, strict=True))


def test_a_schema_has_the_checks_and_descriptions() -> None:
    count = {"description": "How many.", "type": "integer", "minimum": 0, "maximum": 9}
    made = class_schema(Shop)
    assert made.schema["properties"]["counts"]["items"] == count
    assert made.schema["properties"]["open"] == {
        "description": "Whether it is open.",
        "type": "boolean",
    }
    members = {"a": Count | None, "b": Pet, "c": Annotated[Plain, Field(description="Told.")]}
    schema = parameters_schema(members, {}, {})
    assert schema["properties"]["a"] == {
        "description": "How many.",
        "anyOf": [count, {"type": "null"}],
    }
    assert schema["properties"]["c"] == {"description": "Told.", "$ref": "#/$defs/Plain"}
    assert schema["properties"]["b"]["anyOf"] == [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    assert set(schema["$defs"]) == {"Cat", "Dog", "Plain"}


def test_a_checked_model_is_asked_for_as_an_object() -> None:
    made = class_schema(Annotated[Dog, AfterValidator(lambda dog: dog)])
    plain = class_schema(Dog)
    assert {**made.schema, "$defs": {}} == {**plain.schema, "$defs": {}}
    assert made.strict


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (
            Annotated[list[Plain], Field(max_length=1)],
            r"Unable to .*Plain'>; leave `Field\(...\)` out",
        ),
        (Annotated[AwareDatetime, Field(gt=0)], "AwareDatetime'> is not supported"),
        (Annotated[Cat | Dog | Shop, Discriminator(str)], "needs a member that tells"),
        (Annotated[int, UNSPOKEN], "Pydantic cannot check it: Cannot generate a JsonSchema"),
    ],
)
def test_a_check_that_cannot_be_made_is_refused(kind: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        object_schema({"a": kind}, {})


@pydantic.dataclasses.dataclass
class Point:
    """A point of Pydantic's own kind of dataclass."""

    x: int = Field(alias="ex", ge=0)
    y: Annotated[int, Field(ge=0)] = 0
    z: int = Field(default=3, description="How high.")
    names: list[str] = Field(default_factory=list)
    scale: InitVar[int] = 1
    made: int = Field(init=False, default=3)
    other: int = Field(validation_alias=AliasChoices("other", "others"), default=1)


def test_a_dataclass_of_pydantic_has_its_fields_names_and_checks() -> None:
    assert read(Point, {"ex": 1, "names": ["a"]}) == (Point(ex=1, names=["a"]), ())
    told = ["`ex`: is missing", "`y`: input should be greater", "`other`: expected `int`"]
    misfits = read(Point, {"y": -1, "other": "x"})[1]
    assert len(misfits) == 3
    assert all(any(str(m).startswith(each) for m in misfits) for each in told)
    made = class_schema(Point).schema["properties"]
    assert made["ex"] == {"type": "integer", "minimum": 0}
    assert made["z"] == {"description": "How high.", "type": "integer"}
    assert object_schema({"a": Point}, {})["$defs"]["Point"]["required"] == ["ex"]


class Row(msgspec.Struct):
    """Holds a model, as msgspec itself makes it."""

    cat: Cat


class Pair(NamedTuple):
    cat: Cat
    number: int


def test_a_model_may_be_in_what_msgspec_makes() -> None:
    cat = Cat(kind="cat")
    assert read(list[Row], [{"cat": {"kind": "cat"}}]) == ([Row(cat)], ())
    assert read(Pair, [{"kind": "cat"}, 1]) == (Pair(cat, 1), ())
    assert [*map(str, read(Pair, [{"kind": "cow"}, 1])[1])] == ["`[0].kind`: input should be 'cat'"]
    schema = object_schema({"a": Row, "b": Pair}, {})
    assert schema["$defs"]["Row"]["properties"]["cat"] == {"$ref": "#/$defs/Cat"}


class Own(BaseModel):
    @classmethod
    def model_validate_json(cls, json_data: Any, **_: Any) -> Own:
        raise ValueError(f"not {json_data.decode()}")


def test_an_error_that_is_not_of_pydantic_is_told_as_it_is() -> None:
    assert [*map(str, read(list[Own], [{}])[1])] == ["`[0]`: not {}"]


def test_layers_end_after_as_many_as_a_recursive_alias_may_have() -> None:
    kind: Any = int
    for _ in range(2 * ALIASES_MAX):
        kind = InitVar(kind)
    assert len([*layers(kind)]) == ALIASES_MAX + 1
