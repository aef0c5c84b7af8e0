"""Making: classes that msgspec would fill wrongly are called; the others are left to it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, TypedDict, TypeVar, cast

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.annotations.custom_types import for_msgspec
from orchestra.annotations.reading import Misfit, read
from orchestra.annotations.schemas import class_schema, object_schema, parameters_schema
from tests.annotations.kinds import alias

T = TypeVar("T")


def hundredfold(value: int | None) -> float:
    """A converter that takes other values than it gives."""
    return (value or 0) * 100.0


@attrs.frozen
class User:
    """A user.

    Attributes:
        email: Where they are written to.
        share: Of a hundred.
    """

    email: str = attrs.field(
        converter=str.lower,  # type: ignore[misc]
        validator=attrs.validators.matches_re("[a-z@]+"),
    )
    share: float = attrs.field(converter=hundredfold, default=1)
    _token: str = ""
    tags: list[str] = attrs.field()
    shown: str = attrs.field(init=False)

    @tags.default
    def _tags(self) -> list[str]:
        return [self.email]

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "shown", f"<{self.email}>")


@attrs.frozen
class Team:
    """Holds some, and says nothing of its own."""

    lead: User
    all: dict[str, list[User]] = attrs.field(factory=dict)
    deputy: User | None = None
    note: User | str = ""
    inner: list[Team] = attrs.field(factory=list)


@dataclasses.dataclass
class Sum:
    """A dataclass with a member that it works out."""

    a: int
    b: int = 2
    total: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.total = self.a + self.b


class Row(TypedDict):
    """Holds one."""

    user: User
    more: NotRequired[Sum]


@attrs.frozen
class Box(Generic[T]):
    """Of anything."""

    held: T


@attrs.frozen
class Card:
    """Paid by card."""

    kind: Literal["card"]
    number: str


@dataclasses.dataclass(frozen=True)
class Bill:
    """Paid later."""

    kind: Literal["bill", "invoice"]
    days: int


@attrs.frozen
class Order:
    """Either."""

    paid: Card | Bill
    before: list[Card | Bill | None] = attrs.field(factory=list)
    tip: Card | Bill | int = 0


class Plain(msgspec.Struct):
    """One of msgspec's own."""

    x: int


Named = NewType("Named", User)
ada: dict[str, Any] = {"email": "ADA@X"}
made = User("ADA@X")


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (User, ada, made),
        (User, ada | {"share": None, "token": "t"}, User("ADA@X", None, "t")),
        (list[User], [ada], [made]),
        (Annotated[User, "whose"], ada, made),
        (Named, ada, made),
        (User | None, None, None),
        (User | None, ada, made),
        (User | str, "ada", "ada"),
        (User | str, ada, made),
        (tuple[User, ...], [ada], (made,)),
        (tuple[int, User], [1, ada], (1, made)),
        (Box[User], {"held": ada}, Box(made)),
        (Row, {"user": ada, "more": {"a": 1}}, {"user": made, "more": Sum(1)}),
        (Sum, {"a": 1, "total": 99}, Sum(1)),
        (
            Team,
            {"lead": ada, "all": {"x": [ada]}, "note": "n", "inner": [{"lead": ada}]},
            Team(made, {"x": [made]}, None, "n", [Team(made)]),
        ),
        (Order, {"paid": {"kind": "card", "number": "1"}}, Order(Card("card", "1"))),
        (
            Order,
            {
                "paid": {"kind": "invoice", "days": 3},
                "before": [None, {"kind": "card", "number": "2"}],
                "tip": 3,
            },
            Order(Bill("invoice", 3), [None, Card("card", "2")], 3),
        ),
    ],
)
def test_a_class_is_called_with_what_its_init_takes(
    kind: Any, value: object, found: object
) -> None:
    assert read(kind, value) == (found, ())


@given(st.text(alphabet="aAbB@", min_size=1), st.none() | st.integers(-9, 9))
def test_what_is_read_is_what_the_class_makes(email: str, share: int | None) -> None:
    value = {"email": email, "share": share}
    assert read(User, value) == (User(email=email, share=share), ())


@dataclasses.dataclass
class Line:
    name: str
    count: int = 1
    notes: list[str] = dataclasses.field(default_factory=list)
    parent: Line | None = None


@dataclasses.dataclass(slots=True)
class Slotted:
    name: str
    count: int = 1


lines = st.fixed_dictionaries(
    {"name": st.text()}, optional={"count": st.integers(0, 9), "notes": st.lists(st.text())}
)


@given(lines, lines)
def test_what_json_leaves_out_of_a_dataclass_is_written_as_its_default(
    value: dict[str, object], outer: dict[str, object]
) -> None:
    made = read(Line, outer | {"parent": value})[0]
    defaults = {"count": 1, "notes": [], "parent": None}
    assert msgspec.to_builtins(made) == defaults | outer | {"parent": defaults | value}
    assert msgspec.to_builtins(read(Slotted, {"name": ""})[0]) == {"name": "", "count": 1}


def test_the_schema_of_a_dataclass_has_its_defaults_and_no_generated_docstring() -> None:
    schema = parameters_schema({"line": Line}, {}, {})["$defs"]["Line"]
    defaults = {name: each.get("default") for name, each in schema["properties"].items()}
    assert defaults == {"name": None, "count": 1, "notes": [], "parent": None}
    assert "description" not in schema


@dataclasses.dataclass
class Scaled:
    number: int = 1
    scale: dataclasses.InitVar[int] = 2


def test_what_would_not_be_passed_to_init_is_refused() -> None:
    (misfit,) = read(Scaled, {"scale": 5})[1]
    assert "`InitVar`" in misfit.what


def parse(value: Iterator[str]) -> int:
    """Takes what JSON has no form for, by its own account."""
    return int(cast("int", value))


@attrs.frozen
class Own:
    """With converters that say nothing of JSON."""

    a: int = attrs.field(converter=parse)
    b: list[int] = attrs.field(converter=attrs.Converter(list))  # type: ignore[misc]
    c: int | None = attrs.field(converter=attrs.converters.optional(parse), default=None)


def test_a_converter_that_says_nothing_of_json_takes_what_the_member_is() -> None:
    assert read(Own, {"a": 1, "b": [2]}) == (Own(1, [2]), ())  # type: ignore[arg-type]
    assert read(Own, {"a": "1", "b": [2]})[1] == (Misfit(("a",), "expected `int`, got `str`"),)


@pytest.mark.parametrize(
    "kind",
    [
        *(int, Any, list[Plain], Plain | None, Card | None, Bill | str, Box[int], Slotted),
        *(dict[str, tuple[Card, ...]], Card | Plain, Annotated[str, {"a": 1}]),
    ],
)
def test_what_needs_no_help_is_the_annotation_itself(kind: object) -> None:
    assert for_msgspec(kind) is kind


@pytest.mark.parametrize(
    ("kind", "value", "misfits"),
    [
        (User, {"email": 1}, {"email": "expected `str`, got `int`"}),
        (User, {}, {"email": "is missing"}),
        (User, [], {"": "expected `object`, got `array`"}),
        (
            list[User],
            [ada, {"email": "5"}],
            {"[1].email": "'email' must match regex '[a-z@]+' ('5' doesn't)"},
        ),
        (
            Box[User],
            {"held": {"email": "5"}},
            {"held.email": "'email' must match regex '[a-z@]+' ('5' doesn't)"},
        ),
        (
            Order,
            {"paid": {"kind": "cash"}},
            {"paid.kind": "'cash' is none of 'card', 'bill', 'invoice'"},
        ),
        (Order, {"paid": {}}, {"paid": "object missing required field `kind`"}),
        (Order, {"paid": 3}, {"paid": "expected `object`, got `int`"}),
        (Order, {"paid": {"kind": "card"}}, {"paid.number": "is missing"}),
        (
            Order,
            {"paid": {"kind": "bill", "days": 1}, "tip": "x"},
            {"tip": "expected `int`, got `str`"},
        ),
        (Plain, {"x": ""}, {"x": "expected `int`, got `str`"}),
    ],
)
def test_what_does_not_fit_is_told_by_its_path(
    kind: Any, value: object, misfits: Mapping[str, str]
) -> None:
    assert {each.path: each.what for each in read(kind, value)[1]} == misfits


def unread(value: int) -> int:
    """Raises what is no ValueError."""
    raise OSError(value)


@attrs.frozen
class Failing:
    """Its converter may raise anything."""

    a: int = attrs.field(converter=unread)


def test_what_a_converter_raises_is_a_misfit() -> None:
    assert read(list[Failing], [{"a": 0}])[1] == (Misfit((0,), "OSError: 0"),)


def test_the_schema_has_what_init_takes_in_its_own_order() -> None:
    told = parameters_schema({"user": User}, {}, {})["$defs"]["User"]
    assert told["description"] == "A user."
    assert told["required"] == ["email"]
    assert list(told["properties"].items()) == [
        ("email", {"description": "Where they are written to.", "type": "string"}),
        (
            "share",
            {
                "description": "Of a hundred.",
                "anyOf": [{"type": "integer"}, {"type": "null"}],
                "default": 1,
            },
        ),
        ("token", {"type": "string", "default": ""}),
        ("tags", {"type": "array", "items": {"type": "string"}}),
    ]


def test_a_schema_refers_to_what_is_made_and_back() -> None:
    schema = class_schema(Team).schema
    user = {"$ref": "#/$defs/User"}
    assert schema["properties"]["lead"] == user
    assert schema["properties"]["note"] == {"anyOf": [user, {"type": "string"}]}
    assert schema["properties"]["inner"]["items"] == {"$ref": "#/$defs/Team"}
    assert set(schema["$defs"]) == {"User", "Team"}


def test_a_union_of_classes_is_told_as_one_of_their_schemas() -> None:
    schema = class_schema(Order)
    assert schema.strict
    assert schema.schema["properties"]["paid"] == {
        "anyOf": [{"$ref": "#/$defs/Card"}, {"$ref": "#/$defs/Bill"}]
    }
    assert set(schema.schema["$defs"]) == {"Card", "Bill"}


class Counts(msgspec.Struct):
    """An object in JSON as well."""

    a: int


@pytest.mark.parametrize(
    "kind", [Card | Team, User | dict[str, int], User | Mapping[str, int] | None, User | Counts]
)
def test_a_union_that_nothing_tells_apart_is_refused_with_what_to_write(kind: object) -> None:
    message = r'a union of classes needs a member.* `kind: Literal\["\.\.\."\]`, or write one'
    with pytest.raises(TypeError, match=message):
        object_schema({"x": kind}, {})


@attrs.define(init=False)
class Handmade:
    """Its `__init__` is its own."""

    a: int = attrs.field(converter=int)

    def __init__(self, other: int) -> None:
        self.a = other


@attrs.define
class Doubled:
    number: int

    def __init__(self, number: int) -> None:
        self.__attrs_init__(number * 2)  # type: ignore[attr-defined]


@dataclasses.dataclass
class Trimmed:
    text: str

    def __init__(self, text: str) -> None:
        self.text = text.strip()


@attrs.define
class Defaulted:
    spare: int
    needed: int = 0

    def __init__(self, needed: int, spare: int = 7) -> None:
        self.needed, self.spare = needed, spare


@attrs.define
class Begun:
    number: int

    def __attrs_pre_init__(self, number: int) -> None:
        if number < 0:
            raise ValueError("URLs have no negative number")


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (Doubled, {"number": 3}, Doubled(3)),
        (list[Trimmed], [{"text": " a "}], [Trimmed("a")]),
        (Begun, {"number": 3}, Begun(3)),
    ],
)
def test_a_class_is_made_by_the_init_that_is_written_in_it(
    kind: object, value: object, made: object
) -> None:
    """Msgspec would set its members, as if there were none."""
    assert read(kind, value) == (made, ())


def test_what_may_be_left_out_is_what_such_an_init_has_a_default_for() -> None:
    """Of the class's own defaults it knows nothing."""
    assert read(Defaulted, {"needed": 1}) == (Defaulted(1), ())
    assert read(Defaulted, {"spare": 1})[1] == (Misfit(("needed",), "is missing"),)
    told = parameters_schema({"it": Defaulted}, {}, {})["$defs"]["Defaulted"]
    assert told["required"] == ["needed"]
    assert told["properties"]["spare"] == {"type": "integer", "default": 7}


def test_a_name_in_capitals_begins_a_complaint_as_it_is_written() -> None:
    _, (misfit,) = read(Begun, {"number": -1})
    assert str(misfit) == "URLs have no negative number"
    assert str(read(Begun, {"number": ""})[1][0]) == "`number`: expected `int`, got `str`"


SELF_MADE = alias("SelfMade", "dict[str, SelfMade] | list[SelfMade] | str | int | None")


def tree_list(trees: list[Tree]) -> list[Tree]:
    return trees


@attrs.frozen
class Tree:
    name: str
    trees: list[Tree] = attrs.field(factory=list, converter=tree_list)


@pytest.mark.parametrize(
    "kind",
    [
        SELF_MADE,
        dict[str, Tree | None] | cast("Any", list)[SELF_MADE],
        cast("Any", tuple)[User, SELF_MADE],
        alias("Ring", "list[Ring]"),
        alias("Mixed", "T | list[Mixed[T]]", "T")[Tree],
        alias("Grows", "list[Grows[list[T]]]", "T")[int],
    ],
)
def test_a_recursive_alias_is_refused_by_its_name(kind: object) -> None:
    """A class may be made of itself, and is."""
    with pytest.raises(TypeError, match=r"`(SelfMade|Ring|Mixed.*|Grows.*)` is a recursive alias"):
        for_msgspec(kind)


def test_an_alias_may_stand_in_itself_more_than_once_and_be_part_of_a_class_in_it() -> None:
    pair = alias("Pair", "tuple[T, T]", "T")
    assert for_msgspec(pair[pair[int]]) == pair[pair[int]]
    found, misfits = read(Tree, {"name": "a", "trees": [{"name": "b"}]})
    assert (found, misfits) == (Tree("a", [Tree("b")]), ())


@attrs.define
class Needy:
    a: int

    def __init__(self, a: int, b: int) -> None:
        self.a = a + b


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Handmade, r"\(a\): .* 'other'"), (Needy, r"\(a\): missing a required argument: 'b'")],
)
def test_an_init_that_does_not_take_the_members_is_refused(kind: type, why: str) -> None:
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.__init__ cannot be called .* {why}"):
        class_schema(kind)


def test_a_bound_in_an_alias_binds() -> None:
    few = alias("Few", "Annotated[list[T], Meta(max_length=1)]", "T")
    assert read(few[Begun], [{"number": 1}]) == ([Begun(1)], ())
    assert read(few[Begun], [{"number": 1}] * 2)[1] == (
        Misfit((), "expected `array` of length <= 1"),
    )


if sys.version_info >= (3, 13):  # pragma: no cover
    from typing import ReadOnly

    class Total(TypedDict):
        sum: ReadOnly[int]
        note: NotRequired[ReadOnly[str]]
        to: ReadOnly[NotRequired[str]]

    def test_a_member_that_is_read_only_is_read() -> None:
        for given in ({"sum": 1}, {"sum": 1, "note": "x", "to": "y"}):
            assert read(list[Total], [given]) == ([given], ())
        assert read(Total, {"sum": "x"})[1] == (Misfit(("sum",), "expected `int`, got `str`"),)
        assert class_schema(Total).schema["properties"]["sum"] == {"type": "integer"}
