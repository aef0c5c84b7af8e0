"""The schemas of results: true of what is written, or not there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, TypedDict

import attrs
import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field
from pydantic.alias_generators import to_camel

from orchestra.event_lines import written
from orchestra.server.runs.results import schema
from orchestra.values import Label, Passage


@attrs.frozen
class Aliased:
    name: str = attrs.field(alias="called")


@attrs.frozen
class Private:
    _name: str


def count_of(text: str) -> int:
    return len(text)


@attrs.frozen
class Converts:
    count: int = attrs.field(converter=count_of)


@attrs.frozen
class Rounds:
    count: int = attrs.field(converter=int)
    twice: int = attrs.field(init=False, default=2)


@dataclass
class Computes:
    count: int
    twice: int = field(init=False, default=2)


@attrs.frozen
class Holds:
    inside: list[Aliased]


@pytest.mark.parametrize("kind", [Aliased, Private, Converts, Holds, list[Aliased], Private | None])
def test_a_class_that_is_not_written_as_it_is_made_has_no_schema(kind: object) -> None:
    """Its schema said what it takes, and clients that are made from it refused what came."""
    assert schema(kind) == {}


@pytest.mark.parametrize("value", [Rounds(3), Computes(3)])
def test_what_a_class_takes_is_in_what_is_written(value: object) -> None:
    told = schema(type(value))["$defs"][type(value).__name__]
    assert told["required"] == ["count"]
    assert msgspec.json.decode(written(value), type=dict[str, int])["count"] == 3


@attrs.frozen
class Given:
    name: str = ""
    words: list[str] = attrs.Factory(lambda: ["a"])


@dataclass
class Kept:
    name: str = ""
    _own: int = 0


@attrs.frozen
class Veiled:
    name: str = ""
    _own: int = attrs.field(default=0, alias="_own")


class Sent(msgspec.Struct):
    name: str = ""
    given: Given | None = None


class Short(msgspec.Struct, omit_defaults=True):
    name: str = ""


class Unset(msgspec.Struct):
    name: str | msgspec.UnsetType = msgspec.UNSET


class Part(TypedDict, total=False):
    name: str


class Plain(BaseModel):
    name: str = Field(default="", alias="Name")
    other: int | None = None


class Sparse(BaseModel):
    other: int | None = None

    def model_dump(self, **options: Any) -> dict[str, Any]:
        return super().model_dump(**options, exclude_none=True)


class Rarely(BaseModel):
    name: str = Field(default="", exclude_if=lambda name: not name)


@pytest.mark.parametrize(
    ("value", "required"),
    [
        (Given(), ["name", "words"]),
        (Sent(given=Given()), ["name", "given"]),
        (Kept(), ["name", "_own"]),
        (Veiled(), ["name"]),
        (Short(), []),
        (Unset(), []),
        (Plain(), ["Name", "other"]),
        (Rarely(), []),
    ],
)
def test_a_member_that_is_always_written_is_required_also_if_it_has_a_default(
    value: object, required: list[str]
) -> None:
    """Generated clients had it as one that may be missing."""
    told = schema(type(value))["$defs"]
    own = told[type(value).__name__]
    assert own.get("required", []) == required
    assert msgspec.json.decode(written(value), type=dict[str, Any]).keys() >= {*required}
    if "Given" in told:
        assert told["Given"]["required"] == ["name", "words"]
        assert "default" not in told["Given"]["properties"]["name"]


def test_a_member_that_may_be_missing_is_not_required() -> None:
    assert "required" not in schema(Sparse)["$defs"]["Sparse"]
    assert written(Sparse()) == b"{}"
    assert schema(Part)["$defs"]["Part"]["required"] == []
    assert schema(list[Part])["$defs"]["Part"]["required"] == []


@pytest.mark.parametrize(
    ("value", "required"),
    [
        (Passage("a", "b"), ["id", "text", "source", "score", "metadata"]),
        (Label("a", 0.5), ["name", "confidence", "scores"]),
    ],
)
def test_what_our_steps_give_has_a_schema(value: object, required: list[str]) -> None:
    """It had none, as their read-only defaults are not in JSON: clients had no type for it."""
    told = schema(type(value))["$defs"][type(value).__name__]
    assert told["required"] == required
    assert msgspec.json.decode(written(value), type=dict[str, Any]).keys() == {*required}


class Line(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    unit_price: Decimal
    quantity: int = 1

    @computed_field  # type: ignore[prop-decorator]
    @property
    def whole(self) -> Decimal:
        return self.unit_price * self.quantity


class Bill(BaseModel):
    number: str = Field(alias="no")
    issued: date
    lines: list[Line]
    parent: Bill | None = None


LINE = Line(unitPrice=Decimal("12.50"), quantity=2)  # type: ignore[call-arg]
BILL = Bill(no="7", issued=date(2026, 1, 1), lines=[LINE])
CHILD = Bill(no="8", issued=date(2026, 1, 2), lines=[], parent=BILL)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Line, LINE), (Bill, CHILD), (list[Bill], [BILL, CHILD]), (list[list[Line]], [[LINE]])],
)
def test_a_model_that_writes_other_than_it_reads_has_the_schema_of_what_it_writes(
    kind: object, value: object
) -> None:
    """As with a Decimal, which is read from a number, too, and with a computed field."""
    told = schema(kind)
    check_fits(
        msgspec.json.decode(written(value)), told["properties"]["result"], told.get("$defs", {})
    )


JSON_TYPES = {"string": str, "integer": int, "null": type(None), "array": list, "object": dict}


def check_fits(value: Any, told: Any, defs: Any) -> None:
    """What was written has the types and the members of its schema, and no others."""
    told = told["anyOf"][value is None] if "anyOf" in told else told
    told = defs[told["$ref"].removeprefix("#/$defs/")] if "$ref" in told else told
    assert type(value) is JSON_TYPES[told["type"]]
    for each in value if isinstance(value, list) else ():
        check_fits(each, told["items"], defs)
    if isinstance(value, dict):
        assert set(told["required"]) <= set(value) == set(told["properties"])
        for name, each in value.items():
            check_fits(each, told["properties"][name], defs)


class Unwritable(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    held: Aliased


def test_a_model_of_which_pydantic_does_not_know_how_it_is_written_has_no_schema() -> None:
    assert schema(Unwritable) == schema(list[Unwritable]) == {}
