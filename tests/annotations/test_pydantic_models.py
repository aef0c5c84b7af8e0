"""Pydantic models are read, described and compared as attrs classes are, by Pydantic's own rules."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from enum import Enum, StrEnum
from typing import Annotated, Any, Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import attrs
import msgspec
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    RootModel,
    ValidationError,
    WithJsonSchema,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from orchestra.annotations.acceptance import accepts
from orchestra.annotations.facts import MISSING, Fit, compare, element, member, writes_its_repr
from orchestra.annotations.pydantic_models import written_schema
from orchestra.annotations.reading import Misfit, read
from orchestra.annotations.schema_forms import neat
from orchestra.annotations.schemas import class_schema, is_written_as_read, object_schema
from orchestra.annotations.shapes import fields
from orchestra.event_lines import read_back, written
from tests.annotations.kinds import alias

T = TypeVar("T")


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Cat(BaseModel):
    """A cat.

    Attributes:
        lives: How many are left.
    """

    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9, examples=[7])


class Dog(BaseModel):
    kind: Literal["dog", "wolf"] = "dog"
    size: Size = Size.SMALL


Pet: TypeAlias = Annotated[Cat | Dog, Field(discriminator="kind")]


class Owner(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(alias="fullName", description="As in the passport.")
    pet: Pet
    others: list[Pet] = []
    scores: dict[str, int] = {}
    born: date = date(2000, 1, 1)

    @field_validator("born")
    @classmethod
    def _past(cls, value: date) -> date:
        if value.year > 2026:
            raise ValueError("Nobody is born in the future")
        return value


class Node(BaseModel):
    value: int = 0
    next: Node | None = None


class Exact(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    number: int
    due: date


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    number: int


class Renamed(BaseModel):
    number: int = Field(alias="no")


class ByName(BaseModel):
    model_config = ConfigDict(serialize_by_alias=False)

    number: int = Field(alias="no")


class Choosing(BaseModel):
    number: int = Field(validation_alias=AliasChoices("no", "number"))


class Box(BaseModel, Generic[T]):
    item: T


@pydantic.dataclasses.dataclass
class Point:
    x: int
    y: int = Field(default=0, ge=0)


class Rows(RootModel[list[int]]):
    """A list in JSON."""


@attrs.frozen
class Shelter:
    """Holds models."""

    owner: Owner
    cats: list[Cat] = attrs.field(factory=list)
    guest: Cat | Dog | str | None = None


CAT = {"kind": "cat", "lives": 3}
OWNER = {"fullName": "Ann", "pet": CAT}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
CATS = st.fixed_dictionaries({"kind": st.just("cat") | JSON, "lives": st.integers(-1, 9) | JSON})
DOGS = st.fixed_dictionaries({"kind": st.sampled_from(["dog", "wolf"])}, optional={"size": JSON})
OWNERS = st.fixed_dictionaries(
    {"pet": CATS | DOGS | JSON},
    optional={
        "fullName": st.text(),
        "others": st.lists(CATS | DOGS | JSON, max_size=3),
        "scores": st.dictionaries(st.text(), st.integers() | JSON, max_size=2),
        "born": st.dates().map(str) | JSON,
    },
)


@given(OWNERS)
def test_what_a_model_takes_and_refuses_is_what_pydantic_does(value: Any) -> None:
    found, misfits = read(Owner, value)
    try:
        meant, faults = Owner.model_validate_json(msgspec.json.encode(value)), 0
    except ValidationError as error:
        meant, faults = None, error.error_count()
    assert (found, len(misfits)) == (meant, min(20, faults))


@given(st.one_of(st.from_type(Cat), st.from_type(Dog), st.from_type(Exact), st.from_type(Node)))
def test_what_is_written_of_a_model_is_read_again(value: BaseModel) -> None:
    """Also, Hypothesis makes models by their annotations."""
    assert read(type(value), read_back(written(value))) == (value, ())


@given(st.lists(OWNERS, max_size=3))
def test_each_misfit_in_a_model_names_a_place_in_the_value(owners: list[Any]) -> None:
    """What is missing is missing at the place before the last name."""
    for misfit in read(list[Owner], owners)[1]:
        *_, at = _followed(owners, misfit)
        assert at is not MISSING


def _followed(value: Any, misfit: Misfit) -> list[Any]:
    """The parts of a value on the way to a misfit; MISSING where there is none."""
    missing = misfit.what == "is missing"
    found = [value]
    for key in misfit.place[:-1] if missing else misfit.place:
        if key is ...:
            return found  # a key of a dict that is not known
        try:
            found.append(found[-1][key])
        except (LookupError, TypeError):
            return [*found, MISSING]
    if missing:
        assert misfit.place[-1] not in found[-1]
    return found


@pytest.mark.parametrize(
    ("kind", "value", "misfits"),
    [
        (Owner, {"pet": CAT}, ["`fullName`: is missing"]),
        (
            Owner,
            OWNER | {"born": "2050-01-01", "others": [CAT, {"kind": "cat", "lives": 99}]},
            [
                "`others[1].lives`: input should be less than or equal to 9",
                "`born`: Nobody is born in the future",
            ],
        ),
        (Owner, OWNER | {"scores": {"`$": "x"}}, ["`scores[...]`: input should be a valid"]),
        (list[Cat], [CAT, {"kind": "cat"}, 3], ["`[1].lives`: is missing", "`[2]`: input should"]),
        (Cat | Dog, {"kind": "cow"}, ["`kind`: 'cow' is none of 'cat', 'dog', 'wolf'"]),
        (Cat | Dog, {"kind": "dog", "size": "XL"}, ["`size`: input should be 'small' or 'large'"]),
        (
            Shelter,
            {"owner": {"pet": 3}, "cats": [{"kind": "cat", "lives": "many"}]},
            [
                "`owner.fullName`: is missing",
                "`owner.pet`: input should be",
                "`cats[0].lives`: input should be a valid integer",
            ],
        ),
        (Exact, {"number": "5", "due": "2026-01-01"}, ["`number`: input should be a valid"]),
        (
            Exact,
            {"number": 5, "due": "2026-01-01", "sum": 3},
            ["`sum`: extra inputs are not permitted"],
        ),
        (Rows, [1, "x"], ["`[1]`: input should be a valid integer"]),
        (Rows | None, {}, [": input should be a valid array"]),
        (Cat, "cat", [": input should be"]),
        (
            list[Point],
            [{"x": 1, "y": -1}],
            ["`[0].y`: input should be greater than or equal to 0"],
        ),
    ],
)
def test_every_fault_of_a_model_is_told_with_its_place(
    kind: Any, value: Any, misfits: list[str]
) -> None:
    found, told = read(kind, value)
    assert found is None
    assert len(told) == len(misfits)
    for each, meant in zip(told, misfits, strict=True):
        assert meant.removeprefix(": ") in str(each)
        assert meant.startswith(":") is (not each.path)


def test_models_are_made_wherever_a_class_may_stand() -> None:
    cat, dog = Cat(kind="cat", lives=3), Dog(kind="wolf")
    owner = Owner(fullName="Ann", pet=cat)
    held = {"owner": OWNER, "cats": [CAT], "guest": {"kind": "wolf"}}
    assert read(Shelter, held) == (Shelter(owner, [cat], dog), ())
    assert read(dict[str, Cat | None], {"a": CAT, "b": None}) == ({"a": cat, "b": None}, ())
    assert read(tuple[Cat, int], [CAT, 3]) == ((cat, 3), ())
    assert read(Cat | Dog | str, "none") == ("none", ())
    assert read(Box[Box[int]], {"item": {"item": 5}})[0] == Box[Box[int]](item=Box[int](item=5))
    assert read(Rows, [1, 2]) == (Rows([1, 2]), ())
    assert read(Exact, {"number": 5, "due": "2026-01-01"})[0] == Exact(
        number=5, due=date(2026, 1, 1)
    )
    assert read(Owner, {"name": "Ann", "pet": CAT}) == (owner, ())  # by its name in Python, too
    extra, _ = read(Open, {"number": 1, "more": [2]})
    assert getattr(extra, "more", None) == [2]
    assert read(Cat, cat) == (cat, ())


def test_a_model_is_bounded_as_other_values_are() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"next": deep}
    found, (misfit,) = read(Node, deep)
    assert (found, misfit.path) == (None, "")
    for _ in range(4_750):
        deep = deep["next"]
    assert [*map(str, read(Node, deep)[1])] == ["is nested too deeply for Pydantic"]
    assert read(Node, {"value": 10**30}) == (Node(value=10**30), ())
    assert read(Node, {"value": "1" * 5_000})[0] is None
    assert len(read(Rows, ["x"] * 10_000)[1]) == 20
    (misfit,) = read(Owner, OWNER | {"pet": {"kind": "x" * 10_000}})[1]
    assert len(misfit.what) < 1_100
    (misfit,) = read(Rows, ["x"] * 10_001)[1]
    assert str(misfit) == "10001 parts of the value do not fit: too many to list"


class Odd(BaseModel):
    kind: str = Field(alias="@type")
    first: int = Field(validation_alias=AliasPath("all", 0))
    held: list[Odd] = []

    @model_validator(mode="after")
    def _no_reason(self) -> Odd:
        raise AssertionError


def test_a_fault_says_what_is_wrong_where_no_path_can() -> None:
    misfits = read(Odd, {"held": [{"all": [1]}]})[1]
    assert [*map(str, misfits)] == [
        "'@type' is missing",
        "'all.0' is missing",
        "`held[0]`: '@type' is missing",
    ]
    assert [*map(str, read(Odd, {"@type": "a", "all": [1]})[1])] == ["assertion failed"]


RING: Any = alias("Ring", "list[Ring]") if sys.version_info >= (3, 12) else JsonValue


class Paid(StrEnum):
    CARD = "card"
    BILL = "bill"


class Card(BaseModel):
    paid: Literal[Paid.CARD]


class Bill(BaseModel):
    paid: Literal[Paid.BILL] = Paid.BILL


def test_a_tag_may_be_a_member_of_an_enum() -> None:
    read_as = [Card(paid=Paid.CARD), Bill()]
    assert read(list[Card | Bill], [{"paid": "card"}, {"paid": "bill"}]) == (read_as, ())
    (misfit,) = read(Card | Bill, {"paid": "cash"})[1]
    assert str(misfit) == "`paid`: 'cash' is none of 'card', 'bill'"


class Coined(BaseModel):
    paid: Literal["coins"] = Field(validation_alias=AliasChoices("paidBy", "paid"))


class Lent(BaseModel):
    paid: Literal["later"] = Field(alias="paidBy")


def test_a_tag_may_have_an_alias() -> None:
    found, _ = read(list[Coined | Lent], [{"paidBy": "later"}, {"paidBy": "coins"}])
    assert found == [Lent(paidBy="later"), Coined.model_validate({"paid": "coins"})]


class Anything(BaseModel):
    data: JsonValue
    ring: RING = []


def test_a_field_may_have_a_type_that_only_pydantic_reads() -> None:
    """As an alias that contains itself, which is refused outside a model."""
    value = {"data": [{"a": None}], "ring": [[], [[]]]}
    assert read(Anything, value) == (Anything(data=[{"a": None}], ring=[[], [[]]]), ())
    assert "ring" in object_schema({"a": Anything}, {})["$defs"]["Anything"]["properties"]


def test_a_validator_that_raises_anything_is_a_misfit() -> None:
    class Broken(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def _fails(cls, value: int) -> int:
            raise KeyError(value)

    assert read(Broken, {"number": 1})[1] == (Misfit((), "KeyError: 1"),)


def test_the_schema_for_a_model_is_in_the_form_of_strict_modes() -> None:
    """As OpenAI requires: no oneOf, const, default, discriminator or examples; all are required."""
    made = class_schema(Owner)
    assert made.strict is False  # because of the dict
    assert made.schema["required"] == ["fullName", "pet", "others", "scores", "born"]
    pets = {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
    assert made.schema["properties"]["pet"] == pets
    assert made.schema["properties"]["others"]["items"] == pets
    assert made.schema["properties"]["fullName"]["description"] == "As in the passport."
    lives = {"type": "integer", "minimum": 0, "maximum": 9, "description": "How many are left."}
    assert made.schema["$defs"]["Cat"] == {
        "description": "A cat.",
        "type": "object",
        "properties": {"kind": {"type": "string", "enum": ["cat"]}, "lives": lives},
        "required": ["kind", "lives"],
        "additionalProperties": False,
    }
    assert class_schema(Cat).strict
    assert class_schema(Dog).strict
    node = class_schema(Node)
    assert node.strict
    assert node.schema["properties"]["next"]["anyOf"][0] == {"$ref": "#/$defs/Node"}
    assert node.schema["$defs"]["Node"]["properties"] == node.schema["properties"]
    assert class_schema(Shelter).schema["properties"]["owner"] == {"$ref": "#/$defs/Owner"}
    with pytest.raises(TypeError, match="not JSON objects"):
        class_schema(Rows)


def test_what_older_versions_of_pydantic_write_is_neat_too() -> None:
    given = {
        "title": "Pet",
        "properties": {
            "kind": {"const": "cat", "enum": ["cat"], "title": "Kind", "type": "string"},
            "size": {"allOf": [{"$ref": "#/$defs/Size"}], "description": "How large."},
        },
    }
    assert neat(given) == {
        "properties": {
            "kind": {"enum": ["cat"], "type": "string"},
            "size": {"$ref": "#/$defs/Size", "description": "How large."},
        },
    }


class Remarked(BaseModel):
    model_config = ConfigDict(json_schema_extra={"x-team": 1, "$comment": "old", "readOnly": True})

    deprecated: int = Field(deprecated=True, json_schema_extra={"writeOnly": True, "x-a": []})


def test_remarks_are_left_out_for_strict_modes_and_fields_of_their_names_are_not() -> None:
    made = class_schema(Remarked)
    assert made.strict
    assert made.schema == {
        "type": "object",
        "properties": {"deprecated": {"type": "integer"}},
        "required": ["deprecated"],
        "additionalProperties": False,
    }


def test_a_pattern_that_looks_around_is_not_for_strict_modes() -> None:
    """OpenAI answers it with an error, or fails with a 500."""

    def strict(pattern: str) -> bool:
        kind: Any = Annotated[str, WithJsonSchema({"type": "string", "pattern": pattern})]
        return class_schema(create_model("Made", text=(kind, ...))).strict

    assert strict(r"^\((?:a|b)+$")
    assert not any(map(strict, (r"^(?!a)", "(?=a)", "(?<!a)", "(?<=a)")))


def other_classes() -> tuple[type, type]:
    """A model and an attrs class that are called as others are."""

    class Cat(BaseModel):
        claws: Literal[18] = 18
        next: Cat | None = None

    @attrs.frozen
    class Dog:
        bites: bool

    Cat.model_rebuild(_types_namespace={"Cat": Cat})
    return Cat, Dog


def test_classes_of_the_same_name_keep_their_own_schemas() -> None:
    cat, dog = other_classes()
    schema = object_schema({"a": Owner, "b": cat, "c": dog, "d": Cat}, {})

    def properties(ref: Any) -> set[str]:
        return set(schema["$defs"][ref["$ref"].removeprefix("#/$defs/")]["properties"])

    a, b, c, d = (schema["properties"][name] for name in "abcd")
    assert properties(b) == {"claws", "next"}
    assert properties(c) == {"bites"}
    assert properties(d) == {"kind", "lives"}
    pet = schema["$defs"][a["$ref"].removeprefix("#/$defs/")]["properties"]["pet"]
    assert [properties(each) for each in pet["oneOf"]] == [{"kind", "lives"}, {"kind", "size"}]
    assert pet["discriminator"]["mapping"]["wolf"] == pet["oneOf"][1]["$ref"]
    inner = schema["$defs"][b["$ref"].removeprefix("#/$defs/")]["properties"]["next"]["anyOf"][0]
    assert inner == b


def version(kind: type) -> type[BaseModel]:
    """A model that is written as another is, but whose item is another class."""

    class Item(BaseModel):
        value: kind  # type: ignore[valid-type]

    class Sale(BaseModel):
        item: Item
        next: Sale | None = None

    Sale.model_rebuild(_types_namespace={"Item": Item, "Sale": Sale})
    return Sale


def test_classes_that_look_the_same_may_refer_to_others() -> None:
    kinds = {"a": version(int), "b": version(str), "c": version(bool)}
    schema = object_schema({**kinds, "d": kinds["b"]}, {})
    assert len(schema["$defs"]) == 6
    assert schema["properties"]["b"] == schema["properties"]["d"]

    def component(ref: Any) -> Any:
        return schema["$defs"][ref["$ref"].removeprefix("#/$defs/")]

    for name, kind in (("a", "integer"), ("b", "string"), ("c", "boolean")):
        whole = component(schema["properties"][name])
        item = component(whole["properties"]["item"])
        assert item["properties"]["value"]["type"] == kind
        assert whole["properties"]["next"]["anyOf"][0] == schema["properties"][name]


def test_a_default_has_the_names_by_which_it_is_read() -> None:
    default = Renamed(no=3)
    shown = object_schema({"a": Renamed}, {"a": default})["properties"]["a"]["default"]
    assert read(Renamed, shown) == (default, ())


def unfinished() -> type:
    """A model with a field whose type does not exist."""

    class Later(BaseModel):
        field: Never_There  # type: ignore[name-defined] # noqa: F821

    return Later


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    held: Shelter


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Holder, "the Pydantic model Holder: Cannot generate a JsonSchema"),
        (list[Holder], "the Pydantic model Holder: Cannot generate a JsonSchema"),
        (unfinished(), "the Pydantic model Later: `Later` is not fully defined"),
        (Cat | Node, "needs a member that tells the classes apart"),
        (Cat | dict[str, int], "needs a member that tells the classes apart"),
        (Rows | str, "a RootModel cannot be in a union, except with None"),
    ],
)
def test_a_model_without_a_form_in_json_is_refused_with_the_reason(kind: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        object_schema({"a": kind}, {})


@runtime_checkable
class HasLives(Protocol):
    """What a cat has, and a dog has not."""

    lives: int


class Quiet(BaseModel):
    number: int = 0
    _secret: int = PrivateAttr(5)

    @property
    def double(self) -> int:
        """Twice the number."""
        return 2 * self.number

    def __str__(self) -> str:
        return "quiet"


def test_the_parts_of_models_have_types() -> None:
    assert fields(Cat) == {"kind": Literal["cat"], "lives": int}
    assert member(Cat, "lives") is int
    assert member(Box[int], "item") is int
    assert member(Quiet, "double") is int
    assert member(Quiet, "_secret") is not MISSING
    assert member(Cat, "model_dump_json") is not MISSING
    assert member(Cat, "livse") is MISSING
    assert member(Open, "more") is Any
    assert element(list[Cat]) is Cat


def test_models_are_compared_as_classes() -> None:
    assert compare(Cat, Cat) is Fit.MUST
    assert compare(Cat, BaseModel) is Fit.MUST
    assert compare(Cat, Dog) is Fit.CANNOT
    assert compare(Cat, Shelter) is Fit.CANNOT
    assert compare(Cat | Dog, Cat) is Fit.MAY
    assert compare(Cat, HasLives) is Fit.MAY
    assert compare(Dog, HasLives) is Fit.CANNOT
    assert accepts(Cat, Cat(kind="cat", lives=1))
    assert not accepts(Cat, {"kind": "cat", "lives": 1})
    assert accepts(HasLives, Cat(kind="cat", lives=1))
    assert accepts(HasLives, Open.model_validate({"number": 1, "lives": 3}))
    assert not accepts(HasLives, Dog())


def test_a_model_in_a_text_would_be_its_repr_unless_it_says_otherwise() -> None:
    assert writes_its_repr(Cat)
    assert not writes_its_repr(Quiet)


class Computing(BaseModel):
    number: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        """Twice the number."""
        return 2 * self.number


class Serialized(BaseModel):
    number: int

    @field_serializer("number")
    def _written(self, value: int):  # type: ignore[no-untyped-def] # noqa: ANN202
        return {"number": value}


class Told(BaseModel):
    number: int

    @field_serializer("number")
    def _written(self, value: int) -> str:
        return str(value)


class Listed(BaseModel):
    number: int

    @model_serializer
    def _written(self):  # type: ignore[no-untyped-def] # noqa: ANN202
        return [self.number]


def test_a_result_has_the_aliases_by_which_it_is_read_unless_the_model_says_otherwise() -> None:
    assert written(Renamed(no=1)) == b'{"no":1}'
    assert written({"all": [Renamed(no=1)]}) == b'{"all":[{"no":1}]}'
    assert written(ByName(no=1)) == b'{"number":1}'


def test_a_result_has_a_schema_if_it_is_written_as_it_is_read() -> None:
    assert is_written_as_read(list[Cat])
    assert is_written_as_read(Dog)
    assert is_written_as_read(Owner)
    assert is_written_as_read(Renamed)
    assert not is_written_as_read(ByName)
    assert not is_written_as_read(Computing)
    assert not is_written_as_read(Choosing)
    assert not is_written_as_read(Serialized)
    assert written_schema(Serialized) == written_schema(Listed) == {}
    assert written_schema(create_model("Outer", inner=(list[Serialized] | None, None))) == {}
    assert written_schema(Told)["properties"]["number"]["type"] == "string"
    assert not is_written_as_read(list[Listed])
    assert not is_written_as_read(Holder)


@pytest.mark.parametrize("before", ["", "import pydantic"])
def test_without_models_nothing_imports_pydantic(before: str) -> None:
    """Nor what `import pydantic` leaves out: it imports its modules when they are used."""
    code = f"""
import sys
{before}
import attrs
from orchestra.annotations.schema_forms import neat
from orchestra.annotations.schemas import class_schema
from orchestra.annotations.reading import read

@attrs.frozen
class Cat:
    lives: int

assert class_schema(Cat).strict
assert read(Cat, {{"lives": 3}}) == (Cat(3), ())
assert "pydantic.main" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
