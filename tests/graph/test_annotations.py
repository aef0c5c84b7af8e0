"""The laws and examples of the compiler's type logic."""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections import abc
from dataclasses import InitVar, dataclass
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Protocol,
    TypedDict,
    TypeVar,
)

import attrs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestra.graph.annotations import (
    MISSING,
    Fit,
    accepts,
    compare,
    element,
    item,
    member,
    spell,
)
from orchestra.values import Certainty, Label, Passage, Role, Vector

MUST, MAY, CANNOT = Fit.MUST, Fit.MAY, Fit.CANNOT

T = TypeVar("T")
B = TypeVar("B", bound=str)
N = TypeVar("N", int, str)
Sunk_contra = TypeVar("Sunk_contra", contravariant=True)

UserId = NewType("UserId", str)
AdminId = NewType("AdminId", UserId)
OrderId = NewType("OrderId", str)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Animal:
    legs = 4

    def __init__(self) -> None:
        self.name = "?"

    def called(self) -> str:
        return self.name

    @property
    def age(self) -> int:
        return 1

    @functools.cached_property
    def weight(self) -> float:
        return 1.0

    @classmethod
    def born(cls) -> typing.Self:
        return cls()


class Dog(Animal): ...


class Rock: ...


@attrs.frozen
class Box(Generic[T]):
    value: T
    note: str = ""


@attrs.frozen
class IntBox(Box[int]):
    pass


@dataclass
class Pair(Generic[T]):
    left: T
    right: T
    count: ClassVar[int] = 0
    seed: InitVar[int] = 0


class Point(NamedTuple):
    x: int
    label: str


class Movie(TypedDict):
    title: str
    year: typing.NotRequired[int]


class Named(TypedDict):
    title: str


class Bag(abc.Sequence[T]):
    def __init__(self, *items: T) -> None:
        self.items = items

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


class Names(list[str]): ...


class Speaks(Protocol):
    def speak(self) -> str: ...


class Upper(Protocol):
    def upper(self) -> str: ...


class Duck:
    def speak(self) -> str:
        return "quack"


class Actor(Speaks):
    def speak(self) -> str:
        return "to be"


class Sink(Generic[Sunk_contra]): ...


SCALARS = [int, float, bool, str, bytes, type(None), Colour, Passage, Vector, Label, Certainty]
LITERALS = [Literal["a"], Literal["a", "b"], Literal[1], Literal[True], Literal[Colour.RED]]
LEAVES = st.sampled_from(
    [*SCALARS, *LITERALS, Any, object, UserId, Point, Movie, Named, IntBox, Role, Upper]
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one = [list, abc.Sequence, abc.Iterable, abc.Collection, Box, Bag, typing.List]  # noqa: UP006
    return st.one_of(
        st.builds(lambda cls, arg: cls[arg], st.sampled_from(one), inner),
        st.builds(lambda arg: generic(tuple, arg, ...), inner),
        st.builds(lambda left, right: generic(tuple, left, right), inner, inner),
        st.builds(lambda cls, v: cls[str, v], st.sampled_from([dict, abc.Mapping]), inner),
        st.builds(lambda left, right: typing.Union[left, right], inner, inner),  # noqa: UP007
        st.builds(lambda arg: typing.Optional[arg], inner),  # noqa: UP045
        st.builds(lambda arg: Annotated[arg, "a note"], inner),
    )


ANNOTATIONS = st.recursive(LEAVES, nested, max_leaves=4)


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Values that certainly have this annotation; written out, so as not to trust what we test."""
    origin, args = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin in (Any, object):
        return st.sampled_from([0, "a", None, [1]])
    if origin is Annotated:
        return values_of(args[0])
    if origin is typing.Union:
        return st.one_of([values_of(each) for each in args])
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (list, abc.Sequence, abc.Iterable, abc.Collection):
        lists = st.lists(values_of(args[0]), min_size=1, max_size=2)
        return lists if origin is list else lists | lists.map(tuple)
    if origin in (Box, Bag):
        return values_of(args[0]).map(origin)
    if origin is tuple:
        if args[1] is ...:
            return st.lists(values_of(args[0]), min_size=1, max_size=2).map(tuple)
        return st.tuples(*map(values_of, args))
    if origin in (dict, abc.Mapping):
        dicts = st.dictionaries(st.text(max_size=2), values_of(args[1]), min_size=1, max_size=2)
        return dicts if origin is dict else dicts.map(types.MappingProxyType)
    return LEAF_VALUES[origin] if origin in LEAF_VALUES else st.from_type(origin)


LEAF_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    UserId: st.text(max_size=2),
    Movie: st.sampled_from([{"title": "M"}, {"title": "M", "year": 1931}]),
    Named: st.sampled_from([{"title": "M"}]),
    IntBox: st.builds(IntBox, st.integers()),
    Upper: st.sampled_from(["a", b"a"]),
    Vector: st.just(Vector.of([1.0])),
    Label: st.just(Label("a", 1.0)),
    Passage: st.just(Passage("1", "text")),
    float: st.floats(allow_nan=False),
}


class TestLaws:
    @given(ANNOTATIONS, ANNOTATIONS, st.data())
    @settings(max_examples=600, deadline=None)
    def test_a_value_is_accepted_where_it_must_fit_and_refused_where_it_cannot(
        self, source: Any, target: Any, data: st.DataObject
    ) -> None:
        fit = compare(source, target)
        assume(fit is not MAY)
        value = data.draw(values_of(source))
        assert accepts(target, value) is (fit is MUST)

    @given(ANNOTATIONS, st.data())
    @settings(max_examples=200, deadline=None)
    def test_every_value_is_accepted_by_its_own_annotation(
        self, annotation: Any, data: st.DataObject
    ) -> None:
        assert accepts(annotation, data.draw(values_of(annotation)))

    @given(ANNOTATIONS)
    @settings(max_examples=200, deadline=None)
    def test_everything_fits_itself(self, annotation: Any) -> None:
        assert compare(annotation, annotation) is MUST

    @given(ANNOTATIONS, ANNOTATIONS, ANNOTATIONS)
    @settings(max_examples=600, deadline=None)
    def test_what_must_fit_twice_must_fit_through(self, a: Any, b: Any, c: Any) -> None:
        """Any is left out: it takes everything and promises nothing."""
        b = typing.Union[a, b]  # noqa: UP007 - so that the first step often holds
        assume(not any("Any" in spell(each) or "object" in spell(each) for each in (a, b, c)))
        if compare(a, b) is MUST and compare(b, c) is MUST:
            assert compare(a, c) is MUST

    @given(ANNOTATIONS, ANNOTATIONS)
    @settings(max_examples=300, deadline=None)
    def test_a_wider_target_never_fits_less(self, source: Any, target: Any) -> None:
        order = [CANNOT, MAY, MUST]
        wider = typing.Optional[target]  # noqa: UP045
        assert order.index(compare(source, wider)) >= order.index(compare(source, target))

    @given(ANNOTATIONS, st.data())
    @settings(max_examples=200, deadline=None)
    def test_what_iterating_gives_is_what_element_says(
        self, annotation: Any, data: st.DataObject
    ) -> None:
        value = data.draw(values_of(annotation))
        inside = element(annotation)
        if isinstance(value, abc.Iterable):
            assert inside is not MISSING
            assert all(accepts(inside, each) for each in value)

    @given(ANNOTATIONS, st.sampled_from([0, 1, "title", "a", slice(1)]), st.data())
    @settings(max_examples=200, deadline=None)
    def test_what_subscripting_gives_is_what_item_says(
        self, annotation: Any, key: Any, data: st.DataObject
    ) -> None:
        value = data.draw(values_of(annotation))
        try:
            found = value[key]
        except (TypeError, LookupError):
            return
        assert accepts(item(annotation, key), found)
        assert item(annotation, key) is not MISSING

    @given(ANNOTATIONS, st.sampled_from(["value", "text", "x", "upper", "name"]), st.data())
    @settings(max_examples=200, deadline=None)
    def test_an_attribute_that_exists_is_of_the_type_that_member_says(
        self, annotation: Any, name: str, data: st.DataObject
    ) -> None:
        value = data.draw(values_of(annotation))
        if hasattr(value, name):
            assert member(annotation, name) is not MISSING
            assert accepts(member(annotation, name), getattr(value, name))

    @given(ANNOTATIONS)
    @settings(max_examples=200, deadline=None)
    def test_what_is_spelled_is_python_and_means_the_same(self, annotation: Any) -> None:
        names = {**globals(), **vars(abc), "Any": Any}
        read = eval(spell(annotation), names)
        assert compare(annotation, read) is MUST or not {"Any", "object"}.isdisjoint(
            spell(annotation).replace("[", " ").replace("]", " ").replace(",", " ").split()
        )
        assert spell(read) == spell(annotation)
