"""Annotations of every kind, and the values that have them."""

from __future__ import annotations

import enum
import functools
import sys
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
from hypothesis import strategies as st
from msgspec import Meta  # noqa: F401 - stands in texts of aliases

from orchestra.accounts import Certainty
from orchestra.annotations.builtin_bases import generic
from orchestra.documents import Document  # noqa: F401 - as above
from orchestra.values import Label, Passage, Role, Vector

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


class Tree:
    def __iter__(self) -> TreeWalk:
        return TreeWalk()


class TreeWalk:
    def __iter__(self) -> typing.Self:
        return self

    def __next__(self) -> Tree:
        raise StopIteration


class Ticker:
    def __aiter__(self) -> typing.Self:
        return self

    async def __anext__(self) -> int:
        raise StopAsyncIteration


class Silent:
    def __iter__(self):  # type: ignore[no-untyped-def] # noqa: ANN204
        return iter(())


class Withdrawn(Tree):
    __iter__ = None  # type: ignore[assignment]


class YearInt(TypedDict, total=False):
    year: int


class YearStr(TypedDict, total=False):
    year: str


class TitleInt(TypedDict):
    title: int


class Anything:
    def __getattr__(self, name: str) -> str:
        return name


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


def forget_unions() -> None:
    """typing hands out an equal union that it has cached, with its members in any order."""
    for forget in vars(typing)["_cleanups"]:
        forget()


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Values that certainly have this annotation; written out, so as not to trust what we test."""
    origin, args = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin in (Any, object):
        return st.sampled_from([0, "a", None, [1]])
    if origin is Annotated:
        return values_of(args[0])
    if origin is typing.Union:
        # typing hands out an equal union that it has cached, with its members in any order.
        return st.one_of([values_of(each) for each in sorted(args, key=repr)])
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
        dicts = st.dictionaries(
            st.text(min_size=1, max_size=2), values_of(args[1]), min_size=1, max_size=2
        )
        return dicts if origin is dict else dicts.map(types.MappingProxyType)
    return LEAF_VALUES[origin] if origin in LEAF_VALUES else st.from_type(origin)


LEAF_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    UserId: st.text(min_size=1, max_size=2),
    str: st.text(min_size=1, max_size=2),
    bytes: st.binary(min_size=1, max_size=2),
    Movie: st.sampled_from([{"title": "M"}, {"title": "M", "year": 1931}]),
    Named: st.sampled_from([{"title": "M"}]),
    IntBox: st.builds(IntBox, st.integers()),
    Upper: st.sampled_from(["a", b"a"]),
    Vector: st.just(Vector.of([1.0])),
    Label: st.just(Label("a", 1.0)),
    Passage: st.just(Passage("1", "text")),
    float: st.floats(allow_nan=False),
}


class FakeAlias:
    """Stands for `type X = ...` where Python cannot read that yet."""

    def __init__(self, name: str, text: str, parameters: tuple[object, ...]) -> None:
        self.__name__ = name
        self.__type_params__ = self.__parameters__ = parameters
        self._text = text

    @property
    def __value__(self) -> object:
        return eval(self._text, {**globals(), self.__name__: self})

    def __getitem__(self, given: object) -> object:
        return types.GenericAlias(self, given)  # type: ignore[arg-type]

    def __call__(self) -> None:
        """So that typing takes it for a type."""


FakeAlias.__name__ = "TypeAliasType"


def alias(name: str, text: str, parameter: str = "") -> Any:
    """`type name[parameter] = text`."""
    if sys.version_info >= (3, 12):
        scope: dict[str, Any] = dict(globals())
        exec(f"type {name}{f'[{parameter}]' if parameter else ''} = {text}", scope)
        return scope[name]
    return FakeAlias(name, text, (globals()[parameter],) if parameter else ())
