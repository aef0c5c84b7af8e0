"""Reading: what fits is the value, and of what does not, every place is told."""

from __future__ import annotations

import dataclasses
import enum
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import count
from typing import Any, Literal, NewType, NotRequired, TypedDict

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.annotations import custom_types, reading
from orchestra.annotations.places import Place
from orchestra.annotations.reading import MISFITS_MAX, Misfit, decoded, read, read_members
from orchestra.annotations.records import Member, members_of
from orchestra.annotations.schemas import class_schema


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Line:
    name: str
    price: float = attrs.field(validator=attrs.validators.ge(0))


class Address(TypedDict):
    street: str
    town: NotRequired[str]


@dataclasses.dataclass
class Order:
    lines: list[Line]
    to: Address | None = None
    colour: Colour = Colour.RED
    sizes: tuple[int, str] = (1, "a")
    stock: dict[str, int] = dataclasses.field(default_factory=dict)
    inner: Order | None = None


@attrs.frozen
class Deep:
    size: int
    rest: Any


@attrs.frozen
class Circle:
    kind: Literal["circle"]
    radius: int


@attrs.frozen
class Square:
    kind: Literal["square"]
    side: int


@attrs.frozen
class Open:
    name: str
    meta: dict[str, object] = attrs.field(factory=dict)
    more: object = None


@attrs.frozen
class Loose:
    size: int
    rest: Any
    rates: list[float]
    either: int | float


Ids = NewType("Ids", list[int])


class SpeechlessError(Exception):
    """Its message cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no words")


@attrs.frozen
class Fussy:
    x: int

    def __attrs_post_init__(self) -> None:
        raise KeyError(f"no {self.x}") if self.x == 1 else SpeechlessError


json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["lines", "name", "price", "to", "street", "sizes", "stock", "inner"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KINDS: list[Any] = [Order, Line, Address, list[Line], dict[str, Line], Line | None, int | str]


@given(st.sampled_from(KINDS), json)
def test_there_are_misfits_where_msgspec_refuses_and_nowhere_else(kind: Any, value: object) -> None:
    found, misfits = read(kind, value)
    try:
        expected = msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError:
        assert misfits
        assert len(set(misfits)) == len(misfits) <= MISFITS_MAX
        assert all(misfit.what for misfit in misfits)
    else:
        assert (found, misfits) == (expected, ())


def as_floats(value: object) -> Any:
    """The value as a client writes it that has only one type of number."""
    if isinstance(value, list):
        return [as_floats(each) for each in value]
    if isinstance(value, dict):
        return {key: as_floats(each) for key, each in value.items()}
    return float(value) if type(value) is int else value


@given(st.sampled_from([*KINDS, int, dict[int, list[int]], Literal[1, 2]]), json)
def test_a_float_that_is_a_whole_number_is_an_int(kind: Any, value: object) -> None:
    """As in JSON Schema: 5.0 is an integer."""
    found, misfits = read(kind, value)
    again, more = read(kind, as_floats(value))
    assert again == found
    assert [misfit.path for misfit in more] == [misfit.path for misfit in misfits]


@pytest.mark.parametrize("value", [5.5, float("inf"), 2.0**53 + 2, True, [5.0]])
def test_no_other_number_is_an_int(value: object) -> None:
    assert read(int, value)[1]
    assert type(read(int, 5.0)[0]) is int
    assert type(read(float, 5.0)[0]) is float


def test_a_float_that_is_no_integer_stays_one() -> None:
    assert read(Literal[1, 2], 2.0) == (2, ())
    assert read(list[int | None], [1e3, None]) == ([1000, None], ())
    assert read(tuple[float, Any], [1.0, 2.5]) == ((1.0, 2.5), ())
    (misfit,) = read(Order, {"lines": [], "stock": {"a": 1.0, "b": 1.5}})[1]
    assert str(misfit) == "`stock.b`: expected `int`, got `float`"


@given(json.map(as_floats))
def test_where_a_float_fits_it_stays_one(value: object) -> None:
    """Whether or not another part of the value is an int that was written as `5.0`."""
    found, _ = read(Loose, {"size": 5.0, "rest": value, "rates": [1.0], "either": 1.0})
    assert found == Loose(5, value, [1.0], 1.0)
    assert repr(found) == repr(Loose(5, value, [1.0], 1.0))  # 5 == 5.0


def test_a_float_under_any_stays_one() -> None:
    found, _ = read(Deep, {"size": 5.0, "rest": 1.0})
    assert repr(found) == "Deep(size=5, rest=1.0)"


def test_a_float_is_an_int_in_a_new_type() -> None:
    assert read(Ids, [5.0, 6]) == ([5, 6], ())
    assert repr(read(Ids, [5.0])[0]) == "[5]"


def test_a_deep_value_beside_a_float_that_is_an_integer_is_no_error() -> None:
    deep: object = 1
    for _ in range(3_000):
        deep = [deep]
    made, misfits = read(Deep, {"size": 2.0, "rest": deep})
    assert not misfits
    assert isinstance(made, Deep)
    assert made.size == 2


def test_every_place_that_does_not_fit_is_told_by_its_path() -> None:
    wrong = {
        "lines": [{"name": "a", "price": 1}, {"price": "x"}, {"name": "b", "price": -1}],
        "to": {"town": 3},
        "colour": "blue",
        "sizes": [1, 2],
        "stock": {"a b": "c"},
        "inner": {"lines": 5},
    }
    assert [str(misfit) for misfit in read(Order, wrong)[1]] == [
        "`lines[1].name`: is missing",
        "`lines[1].price`: expected `float`, got `str`",
        "`lines[2]`: 'price' must be >= 0: -1.0",
        "`to.street`: is missing",
        "`to.town`: expected `str`, got `int`",
        "`colour`: invalid enum value 'blue'; one of: 'red'",
        "`sizes[1]`: expected `str`, got `int`",
        "`stock['a b']`: expected `int`, got `str`",
        "`inner.lines`: expected `array`, got `int`",
    ]


def test_members_are_read_one_by_one_and_unknown_ones_are_told() -> None:
    kinds = {"query": str, "most": int, "colour": Literal["red", "blue"]}
    found, misfits = read_members(kinds, {"query"}, {"most": "3", "colour": "red", "qury": "a"})
    assert found["colour"] == "red"
    assert [str(misfit) for misfit in misfits] == [
        "`most`: expected `int`, got `str`",
        "`qury`: is unknown; did you mean `query`?",
        "`query`: is missing",
    ]
    assert str(read_members({}, frozenset(), {"x": 1})[1][0]) == "`x`: is unknown; there is none"


def test_a_class_may_refuse_in_its_own_way() -> None:
    (misfit,) = read(Fussy, {"x": 1})[1]
    assert misfit.what == "KeyError: 'no 1'"
    (misfit,) = read(Fussy, {"x": 2})[1]
    assert misfit.what == "SpeechlessError: (ValueError while it was asked for its message)"


def test_what_is_deep_is_told_as_far_as_is_looked() -> None:
    value: dict[str, Any] = {"lines": 5}
    for _ in range(40):
        value = {"lines": [], "inner": value}
    (misfit,) = read(Order, value)[1]
    assert misfit.path == ".".join(["inner"] * 40 + ["lines"])


def test_keys_may_be_numbers_and_anything_is_anything() -> None:
    assert read(dict[int, str], {"1": "a"}) == ({1: "a"}, ())
    assert read(object, {"1": "a"}) == ({"1": "a"}, ())


@given(json)
def test_an_object_is_anything_wherever_it_is(value: object) -> None:
    """As `Any`, which ruff refuses by its rule ANN401."""
    assert read(list[object], [value]) == ([value], ())
    assert read(object | None, value) == (value, ())
    assert read(int | object, value) == (value, ())
    meta = {"name": "a", "meta": {"b": value}, "more": value}
    assert read(list[Open], [meta]) == ([Open("a", {"b": value}, value)], ())
    assert class_schema(Open).schema["properties"].keys() == {"name", "meta", "more"}


@given(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(0, 20))
def test_a_number_of_15_digits_is_an_exact_decimal_and_a_text_always_is(
    digits: int, places: int
) -> None:
    value = Decimal(digits).scaleb(-places)
    assert read(Decimal, decoded(f"{value:f}")) == (value, ())
    longer = value + Decimal(1).scaleb(-25)
    assert read(Decimal, decoded(f'"{longer:f}"')) == (longer, ())


def test_an_annotation_is_analysed_once_however_many_items_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a wrong body of 500 KB takes two seconds."""
    analysed: list[object] = []

    def analyse(kind: object) -> Mapping[str, Member]:
        analysed.append(kind)
        return members_of(kind)

    for module in (reading, custom_types):
        monkeypatch.setattr(module, "members_of", analyse)
    lines = [{"name": "a", "price": 1.0}] * 1_000
    (misfit,) = read(list[Line], [*lines, {"name": "a", "price": "x"}])[1]
    assert misfit.path == "[1000].price"
    drawn = [{"kind": "circle", "radius": 1}, {"kind": "square", "side": 1}] * 500
    assert not read(list[Circle | Square], drawn)[1]
    (misfit,) = read(list[Circle | Square], [*drawn, {"kind": "square", "side": "x"}])[1]
    assert misfit.path == "[1000].side"
    assert len(analysed) < 20


def test_a_set_takes_an_item_twice() -> None:
    assert read(set[int], [1, 2.0, 1]) == ({1, 2}, ())


@pytest.mark.parametrize("text", ["", "{", "nope", "[" * 100_000, '"\ud800"'])
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"this is not JSON: .*; write one JSON value"):
        decoded(text)


def test_a_large_value_is_searched_only_so_far_and_its_first_misfit_is_always_told() -> None:
    def told(*wrong: int) -> list[Place]:
        items: list[Any] = [["x" if n in wrong else n] for n in range(30_000)]
        return [each.place for each in read(list[list[int]], items)[1]]

    assert told(3, 70) == [(3, 0), (70, 0)]
    assert told(3, 29_000) == [(3, 0)]
    assert told(15_000, 29_000) == [(15_000, 0)]
    assert told(28_000, 29_000) == [(28_000, 0), (29_000, 0)]


MADE: Counter[int] = Counter()


def made(number: int) -> int:
    MADE[number] += 1
    return number


@attrs.frozen
class Tree:
    number: int = attrs.field(converter=made)
    name: str
    branches: list[Tree] = attrs.field(factory=list)
    other: Tree | None = None
    named: dict[str, Tree] = attrs.field(factory=dict)


@given(st.data())
def test_however_deep_misfits_are_no_part_is_made_more_than_twice(data: st.DataObject) -> None:
    """So a wrong body takes about as long as a right one; each dict around a part adds once."""
    numbers = count()

    def tree(depth: int) -> dict[str, Any]:
        inner = st.lists(st.just(depth - 1), max_size=3 if depth else 0)
        members = {
            "number": next(numbers),
            "name": data.draw(st.sampled_from(["a", "b", None])),
            "branches": list(map(tree, data.draw(inner))),
            "other": tree(depth - 1) if depth and data.draw(st.booleans()) else None,
        }
        return {name: members[name] for name in data.draw(st.permutations(list(members)))}

    MADE.clear()
    read(Tree, tree(4))
    assert not MADE or max(MADE.values()) <= 2


def test_what_msgspec_has_read_before_a_misfit_is_not_read_again() -> None:
    MADE.clear()
    right, wrong = {"number": 1, "name": "a"}, {"number": 2, "name": None}
    value: dict[str, Any] = {"number": 0, "name": "a", "branches": [right, wrong]}
    for _ in range(15):
        value = {"number": 0, "name": "a", "other": value}
    (misfit,) = read(Tree, value)[1]
    assert misfit.place == (*("other",) * 15, "branches", 1, "name")
    assert MADE == {1: 1}


@given(st.integers(0, 15))
def test_misfits_are_searched_in_few_dicts_inside_each_other(depth: int) -> None:
    """Of a wrong value in a dict, msgspec does not tell the key."""
    MADE.clear()
    value = {"number": 1, "name": "a", "named": {"b": {"number": 2, "name": None}}}
    for _ in range(depth):
        value = {"number": 0, "name": "a", "named": {"c": value}}
    (misfit,) = read(Tree, value)[1]
    dicts = depth + 1
    within = ("named", "c") * depth if dicts <= 3 else ("named", ...) * depth
    assert misfit.place == (*within, "named", "b" if dicts <= 3 else ..., "name")
    assert MADE[1] <= 4


@attrs.frozen
class Named:
    name: str

    def __attrs_post_init__(self) -> None:
        raise ValueError(f"there is no {self.name}")


@given(st.lists(st.sampled_from(["a", "` - at `$", " - at `$.b`", " - at `key` in `$[0]`"])))
def test_a_message_that_quotes_a_place_is_told(words: list[str]) -> None:
    (misfit,) = read(list[Named], [{"name": "".join(words)}])[1]
    assert misfit.place[0] == 0
    assert misfit.what.startswith("there is no ")


def test_a_message_is_cut_and_read_in_linear_time() -> None:
    """In quadratic time, this would take minutes."""
    (misfit,) = read(Named, {"name": " - at `$`" * 100_000})[1]
    assert misfit == Misfit((), "there is no ")
    (misfit,) = read(Literal["a", "b"], "x" * 1_000_000)[1]
    assert misfit.what.endswith("xxx...; one of: 'a', 'b'")
    assert len(misfit.what) < 1_100


class Looked(dict[str, object]):
    """Kinds that count how often they are looked through."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()


def test_of_many_unknown_members_only_those_that_are_told_are_compared() -> None:
    kinds = Looked(name=str)
    found, misfits = read_members(kinds, {"name"}, {f"nam{n}": 1 for n in range(1_000)})
    assert not found
    assert len(misfits) == MISFITS_MAX
    assert kinds.times <= 2 * MISFITS_MAX + 1
