"""The structure of annotations: their plain form, their class, and their arguments for a base.

The rules of the file:

* `plain` comes first. It removes everything that does not change the set of values
  (`Annotated`, aliases, qualifiers), so that no other function has to handle these.
* An annotation is an `object`: it may be a class, an alias, a string, or nonsense. One that is not
  understood stays as it is, and its readers treat it as unknown. Nothing here raises.
* A missing type argument is `Any`.
"""

from __future__ import annotations

import inspect
import typing
from collections import abc
from dataclasses import InitVar
from itertools import zip_longest
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    NotRequired,
    Required,
    Self,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

from orchestra.annotations.builtin_bases import BASES, generic
from orchestra.annotations.deferred import written
from orchestra.annotations.pydantic_models import is_model, model_fields
from orchestra.eventclass import frozen

ALIASES_MAX = 32
"""The most nested aliases, as one may refer to itself, or grow for ever:
`type A[T] = list[A[list[T]]]`."""


@frozen
class Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
"""Says that there is certainly no such attribute, item or element."""
READ_ONLY: Final[object] = getattr(typing, "ReadOnly", MISSING)  # from Python 3.13 on


def plain(annotation: object) -> object:
    """The annotation without `Annotated`, aliases and qualifiers; it means the same values.

    `None` becomes `NoneType`, a missing annotation becomes `Any`, and `typing.List` becomes `list`.
    """
    for _ in range(ALIASES_MAX):
        inner = unwrapped(annotation)
        if inner is annotation:
            return annotation
        annotation = inner
    return annotation


def layers(annotation: object) -> abc.Iterator[object]:
    """The annotation, and what is left after each of its layers is removed, down to `plain`."""
    yield annotation
    for _ in range(ALIASES_MAX):
        inner = unwrapped(annotation)
        if inner is annotation:
            return
        yield inner
        annotation = inner


def parts(annotation: object) -> tuple[object, tuple[object, ...]]:
    """The origin and the arguments of a plain annotation: `list[int]` → `(list, (int,))`."""
    origin = get_origin(annotation)
    return (annotation if origin is None else origin), get_args(annotation)


def class_of(annotation: object) -> type | None:
    """The class of an annotation, with or without arguments; None if it is not a single class."""
    origin = parts(plain(annotation))[0]
    return origin if isinstance(origin, type) else None


def alternatives(annotation: object) -> tuple[object, ...]:
    """The alternatives of a plain annotation; any other annotation is its own only alternative.

    These are the members of a union, the values of a Literal, and a type variable's constraints.
    """
    origin, given = parts(annotation)
    if isinstance(annotation, TypeVar) and annotation.__constraints__:
        return annotation.__constraints__
    if origin is Literal:
        return tuple(literal(value) for value in given) if len(given) > 1 else (annotation,)
    return given if is_union(annotation) else (annotation,)


def literal(value: object) -> object:
    """`Literal[value]`."""
    return _subscript(Literal, (value,))


def is_union(annotation: object) -> bool:
    """Whether the annotation is a union, in either spelling: `Union[A, B]` or `A | B`."""
    return get_origin(annotation) in (Union, UnionType)


def same(one: object, other: object) -> bool:
    """Whether two annotations or values are identical or equal; False if comparing them raises."""
    try:
        return one is other or bool(one == other)
    except Exception:  # noqa: BLE001 - metadata may be an array, whose == has no truth value
        return False


def union(members: abc.Iterable[object]) -> object:
    """The union of the annotations, without duplicates; Any if one of them is Any."""
    distinct: list[object] = []
    for member in members:
        if not any(same(member, known) for known in distinct):
            distinct.append(member)
    if not distinct or Any in distinct:
        return Any
    return distinct[0] if len(distinct) == 1 else _subscript(Union, tuple(distinct))


def arguments(annotation: object, base: object) -> tuple[object, ...] | None:
    """The arguments of an annotation for the type parameters of `base`.

    `arguments(dict[str, int], Iterable)` is `(str,)`. None if the annotation is no subclass of
    `base`; empty if it is `base` itself without arguments. For a class that is iterable only by its
    methods, the methods' annotations are read.
    """
    found = _inherited(annotation, base)
    if found is None and base in _METHODS:
        return _structural(annotation, base)
    return found


def fields(annotation: object) -> dict[str, object]:
    """The annotations of a class and its bases, by name; type variables are replaced.

    Empty for anything that is not a class, and if a name in an annotation cannot be resolved.
    """
    cls = class_of(annotation)
    if cls is None:
        return {}
    if is_model(cls):
        return model_fields(cls)
    found = {}
    for name, hint in _hints(cls).items():
        owners = (each for each in cls.__mro__ if name in written(each))
        found[name] = substitute(hint, _table_for(annotation, next(owners, cls)))
    return found


def returned(annotation: object, name: str) -> object:
    """The return annotation of a method or property; MISSING if the class has none."""
    origin = class_of(annotation)
    for cls in origin.__mro__ if origin is not None else ():
        if name in vars(cls):
            if vars(cls)[name] is None:  # removed, as by `__hash__ = None`
                return MISSING
            hint = _hints(_function(vars(cls)[name])).get("return", Any)
            return annotation if hint is Self else substitute(hint, _table_for(annotation, cls))
    return MISSING


def callable_of(result: object) -> object:
    """`Callable[..., result]`."""
    return _subscript(typing.Callable, (..., result))


def tuple_items(annotation: object) -> tuple[object, ...] | None:
    """The annotations of the items of a tuple of fixed length; None for any other annotation."""
    origin, given = parts(plain(annotation))
    if isinstance(origin, type) and issubclass(origin, tuple) and hasattr(origin, "_fields"):
        hints = fields(annotation)
        return tuple(hints.get(name, Any) for name in origin._fields)
    if origin is not tuple or get_origin(plain(annotation)) is None:
        return None
    if Ellipsis in given or any(_is_unpacked(item) for item in given):
        return None
    return tuple(NoneType if item is None else item for item in given)


def required_keys(typed_dict: object) -> frozenset[str]:
    """The required keys of a TypedDict.

    `__required_keys__` alone is wrong if annotations are strings, which it does not evaluate.
    """
    listed = getattr(typed_dict, "__required_keys__", ())
    marks = {key: unmarked(hint)[1] for key, hint in fields(typed_dict).items()}
    return frozenset(
        key
        for key, found in marks.items()
        if Required in found or (key in listed and NotRequired not in found)
    )


def unmarked(hint: object) -> tuple[object, list[object]]:
    """An annotation without `Required`, `NotRequired` and `ReadOnly`, and those that it had."""
    found = []
    while (origin := get_origin(hint)) in _MARKS:
        found.append(origin)
        (hint,) = get_args(hint)
    return hint, found


def substitute(annotation: object, table: abc.Mapping[object, object]) -> object:
    """The annotation with its type variables replaced."""
    if isinstance(annotation, TypeVar):
        return table.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if isinstance(annotation, type) or not isinstance(parameters, tuple) or not parameters:
        return annotation
    return _subscript(annotation, tuple(table.get(each, each) for each in parameters))


def is_alias(annotation: object) -> bool:
    """Whether the annotation is an alias `type X = ...`, with or without arguments."""
    return type(parts(annotation)[0]).__name__ == "TypeAliasType"


def unwrapped(annotation: object) -> object:
    """The annotation without its outermost layer; the same object if there is none."""
    for special, meant in _SPECIAL:
        if annotation is special:
            return meant
    if isinstance(annotation, InitVar):
        return annotation.type
    origin, given = parts(annotation)
    if origin is Literal and given == (None,):
        return NoneType
    if any(origin is qualifier for qualifier in _QUALIFIERS):
        return given[0] if given else Any
    if is_alias(annotation):
        return _alias_value(origin, given, annotation)
    if origin is not annotation and not hasattr(annotation, "__args__"):
        return origin  # bare typing.List, typing.Tuple, ...
    return annotation


def _alias_value(alias: object, given: tuple[object, ...], annotation: object) -> object:
    """The value of an alias `type X = ...`; the alias itself if a name in it is not defined."""
    try:
        value: object = getattr(alias, "__value__")  # noqa: B009 - computed on access
    except NameError:
        return annotation
    parameters = getattr(alias, "__type_params__", ())
    return substitute(value, dict(zip_longest(parameters, given, fillvalue=Any)))


def _inherited(annotation: object, base: object) -> tuple[object, ...] | None:
    origin, given = parts(plain(annotation))
    if origin is base:
        return given
    for parent in _parents(annotation, origin, given):
        found = _inherited(parent, base)
        if found is not None:
            return found
    return None


def _structural(annotation: object, base: object) -> tuple[object, ...] | None:
    """The element's annotation, as `(element,)`, for a class that is iterable by its methods."""
    opening, advance = _METHODS[base]
    iterator = returned(annotation, opening)
    if iterator is MISSING:
        return None
    found = _inherited(iterator, base)
    if found is not None:
        return found
    element = returned(iterator, advance)
    return (Any,) if element is MISSING else (element,)


def _parents(annotation: object, origin: object, given: tuple[object, ...]) -> tuple[object, ...]:
    """The bases of a class, with the arguments that the class passes to them."""
    if not isinstance(origin, type):
        return ()
    if typing.is_typeddict(origin):
        return (dict[str, object],)
    items = tuple_items(annotation)
    if items is not None and origin is not tuple:  # a NamedTuple
        return (_subscript(tuple, items),)
    if items is not None:
        return (generic(abc.Sequence, union(items)),)
    if origin is tuple:  # variadic: all items have one type, unless a part is unpacked
        return (generic(abc.Sequence, given[0] if given[1:] == (...,) else Any),)
    bases = BASES[origin][1] if origin in BASES else _written_bases(origin)
    table = _table(origin, given)
    return tuple(substitute(base, table) for base in bases)


def _written_bases(cls: type) -> tuple[object, ...]:
    return cast("tuple[object, ...]", vars(cls).get("__orig_bases__", cls.__bases__))


def _table(origin: object, given: tuple[object, ...]) -> dict[object, object]:
    """The argument of each type variable; Any for missing arguments."""
    parameters = _parameters(origin)
    rest = (Any,) * (len(parameters) - len(given))
    return dict(zip(parameters, (*given, *rest), strict=False))


def _parameters(origin: object) -> tuple[object, ...]:
    """The type variables of a class; for `class Bag(abc.Sequence[T])`, those of its bases."""
    if origin in BASES:
        return BASES[origin][0]
    written = getattr(origin, "__parameters__", None)
    if isinstance(written, tuple):
        return written
    bases = _written_bases(origin) if isinstance(origin, type) else ()
    return tuple(dict.fromkeys(each for b in bases for each in getattr(b, "__parameters__", ())))


def _table_for(annotation: object, cls: type) -> dict[object, object]:
    """The arguments that the annotation gives to the type variables of its base class `cls`."""
    return _table(cls, _inherited(annotation, cls) or ())


def _function(found: object) -> object:
    """The function of a property, a cached property, or a static or class method."""
    for attribute in ("fget", "func", "__func__"):
        found = getattr(found, attribute, found)
    return found


def _hints(thing: object) -> dict[str, object]:
    """The resolved annotations of a class or function; empty if they cannot be resolved."""
    try:
        return dict(
            typing.get_type_hints(cast("abc.Callable[..., object]", thing), include_extras=True)
        )
    except Exception:  # noqa: BLE001 - evaluating an annotation runs any expression
        return {}


def _is_unpacked(item: object) -> bool:
    return get_origin(item) is typing.Unpack or bool(getattr(item, "__unpacked__", False))


def _subscript(cls: object, given: tuple[object, ...]) -> object:
    try:
        return cast("Any", cls)[given]
    except TypeError:  # a ParamSpec or TypeVarTuple needs arguments of another shape
        return Any


_SPECIAL: tuple[tuple[object, object], ...] = (
    (None, NoneType),
    (inspect.Parameter.empty, Any),
    (MISSING, Any),
    (typing.LiteralString, str),
)

_MARKS = (Required, NotRequired, READ_ONLY)
_QUALIFIERS = (Annotated, Final, ClassVar, *_MARKS)

_METHODS: abc.Mapping[object, tuple[str, str]] = {
    abc.Iterable: ("__iter__", "__next__"),
    abc.AsyncIterable: ("__aiter__", "__anext__"),
}
