"""Whether a value fits an annotation: the check during a run, where `fits` says only MAY.

A request may contain a list of a hundred thousand lists. So in each check, an annotation is
analysed once (`once`), and not again for each element.
"""

from __future__ import annotations

import typing
from abc import ABCMeta
from collections import abc
from collections.abc import Callable
from itertools import repeat
from types import UnionType
from typing import Any, Literal, NewType, TypeAlias, TypeVar, cast, get_origin

from orchestra.annotations import classes
from orchestra.annotations.shapes import (
    MISSING,
    alternatives,
    arguments,
    fields,
    parts,
    plain,
    required_keys,
    same,
    tuple_items,
)

T = TypeVar("T")


def accepts(target: object, value: object) -> bool:
    """Whether this value may be passed to a parameter annotated `target`.

    Every element of a container is checked, but no element of an iterator. If the annotation is
    not understood, every value is accepted. Never raises, whatever the value's own methods do.
    """
    if type(value) is target:  # true for nearly every value; the rest costs microseconds
        return True
    return _fits(target, value, {})


def _fits(target: object, value: object, known: Known, *, inside: bool = True) -> bool:
    try:
        return _accepts(target, value, known, inside=inside)
    except Exception:  # noqa: BLE001 - it calls the value's `__iter__`, `__eq__`, `__class__`
        return True


def misfit(target: object, value: object) -> tuple[str, object, object]:
    """The innermost part of a value that does not fit: its place, its annotation, and the part.

    If several parts do not fit, it is the first one. The place is in Python's notation,
    `[2]['name']`, and empty for the value itself. Never raises, whatever the value's methods do.
    """
    known: Known = {}
    try:
        for where, wanted, held in _placed_parts(target, value):
            if not _fits(wanted, held, known):
                inner, innermost, part = misfit(wanted, held)
                return where + inner, innermost, part
    except Exception:  # noqa: BLE001 - it calls the value's `__iter__` and `__repr__`
        return "", target, value
    return "", target, value


def is_of(target: object, value: object) -> bool:
    """As `accepts`, but only the value's class is checked, and nothing that the value contains."""
    return _fits(target, value, {}, inside=False)


def is_anything(annotation: object) -> bool:
    """Whether the annotation accepts every value: Any, object, or no annotation."""
    annotation = plain(annotation)
    return annotation is Any or annotation is object


def is_nothing(annotation: object) -> bool:
    """Whether the annotation accepts no value: Never or NoReturn."""
    return any(annotation is bottom for bottom in _BOTTOMS)


_BOTTOMS: tuple[object, ...] = (typing.Never, typing.NoReturn)


def is_among(value: object, values: abc.Iterable[object]) -> bool:
    """Whether `Literal[values]` includes this value, of this very type: `True` is not `1` here."""
    return any(type(value) is type(each) and value == each for each in values)


def bound(variable: TypeVar) -> object:
    """The upper bound of a type variable; Any if it has none."""
    return Any if variable.__bound__ is None else variable.__bound__


def plain_classes(target: object) -> tuple[type, ...]:
    """Classes whose instances certainly all pass `is_of`; other classes may pass, too."""
    if is_anything(target):
        return (object,)
    origins = [parts(member)[0] for member in alternatives(plain(target))]
    found = (each for each in origins if isinstance(each, type) and type(each) in _PLAIN)
    return tuple(each for each in found if not classes.is_protocol(each))


_PLAIN = (type, ABCMeta)
"""Metaclasses that do not change `isinstance`."""


Known: TypeAlias = dict[tuple[object, ...], tuple[Any, tuple[object, ...]]]
"""The results of functions for annotations, by the annotations' ids, as not all can be hashed. The
annotations are kept beside their result, so that no other object can get the same id."""


def once(known: Known, function: Callable[..., T], *annotations: object) -> T:
    """The function's result for these annotations, computed once in a check."""
    key = (function, *map(id, annotations))
    found = known.get(key)
    if found is None:
        found = known[key] = function(*annotations), annotations
    return cast("T", found[0])


def _meaning(target: object) -> tuple[Any, tuple[object, ...], Any, tuple[object, ...]]:
    """The plain annotation, its alternatives, its origin and its arguments."""
    target = plain(target)
    return target, alternatives(target), *parts(target)


def _accepts(target: object, value: object, known: Known, *, inside: bool = True) -> bool:
    """As `accepts`; without `inside`, as `is_of`."""
    if type(value) is target:
        return True
    target, members, origin, given = once(known, _meaning, target)
    if target is Any or target is object:
        return True
    if len(members) > 1:
        return any(_accepts(member, value, known, inside=inside) for member in members)
    if isinstance(target, TypeVar):
        return _accepts(bound(target), value, known, inside=inside)
    if isinstance(target, NewType):
        return _accepts(target.__supertype__, value, known, inside=inside)
    if origin is Literal:
        return is_among(value, given)
    if not isinstance(origin, type):
        return not is_nothing(target)
    if typing.is_typeddict(origin):
        return _accepts_keys(target, value, known) if inside else isinstance(value, dict)
    if origin is type and (cls := _class_of_alias(value)) is not None:
        return not (inside and given) or _accepts_class(given[0], cls)
    if not classes.is_instance(value, origin):
        return False
    return not inside or get_origin(target) is None or _accepts_inside(target, value, known)


def _accepts_keys(target: object, value: object, known: Known) -> bool:
    origin, _ = once(known, parts, target)
    if not isinstance(value, dict) or not once(known, required_keys, origin) <= value.keys():
        return False
    hints = once(known, fields, target)
    return all(_accepts(hints[key], item, known) for key, item in value.items() if key in hints)


def _accepts_inside(target: object, value: object, known: Known) -> bool:
    """Whether the contents of a value fit the arguments of a subscripted class."""
    items = once(known, tuple_items, target)
    if isinstance(value, tuple) and items is not None:
        return len(items) == len(value) and all(map(_accepts, items, value, repeat(known)))
    if isinstance(value, type) and (of := parts(target))[0] is type:
        return _accepts_class(of[1][0], value)
    if isinstance(value, abc.Mapping) and (pairs := once(known, arguments, target, abc.Mapping)):
        keys, values = pairs
        return all(
            _accepts(keys, key, known) and _accepts(values, held, known)
            for key, held in value.items()
        )
    of_all = once(known, arguments, target, abc.Iterable)
    of_all = of_all or once(known, arguments, target, abc.Container)
    if isinstance(value, abc.Iterable) and isinstance(value, abc.Sized) and of_all:
        return all(_accepts(of_all[0], item, known) for item in _elements_to_check(value))
    return _accepts_fields(target, value, known)


def _elements_to_check(value: abc.Iterable[object]) -> abc.Iterable[object]:
    """The elements; of a str, bytes or range only the first, as all have the same type."""
    return value[:1] if isinstance(value, (str, bytes, bytearray, range)) else value


def _class_of_alias(value: object) -> type | None:
    """The class of a generic alias such as `Box[int]`, which can be called like a class."""
    cls = get_origin(value)
    return cls if isinstance(cls, type) and cls not in _NO_CLASSES else None


_NO_CLASSES: tuple[object, ...] = (typing.Annotated, UnionType)
"""Origins that are classes in Python, though an annotation with them does not mean that class."""


def _accepts_class(wanted: object, cls: type) -> bool:
    """Whether a class, as a value, fits `type[wanted]`."""
    wanted = plain(wanted)
    members = alternatives(wanted)
    if len(members) > 1:
        return any(_accepts_class(member, cls) for member in members)
    if isinstance(wanted, TypeVar):
        return _accepts_class(bound(wanted), cls)
    origin = parts(wanted)[0]
    if is_anything(wanted) or not isinstance(origin, type) or classes.is_protocol(origin):
        return True
    return classes.inherits(cls, origin)


def _accepts_fields(target: object, value: object, known: Known) -> bool:
    """Whether the attributes fit whose annotations depend on the generic class's arguments."""
    open_hints = once(known, fields, once(known, parts, target)[0])
    for name, hint in once(known, fields, target).items():
        held = getattr(value, name, MISSING)
        if held is MISSING or same(hint, open_hints[name]):
            continue
        if not _accepts(hint, held, known):
            return False
    return True


def _placed_parts(target: object, value: object) -> abc.Iterator[tuple[str, object, object]]:
    """The parts of a value, each as its place, its annotation and the part."""
    members = [member for member in alternatives(plain(target)) if is_of(member, value)]
    if len(members) != 1:  # unknown which member is meant
        return
    target = members[0]
    items = tuple_items(target)
    if isinstance(value, tuple) and items is not None:
        if len(items) == len(value):
            places = enumerate(zip(items, value, strict=True))
            yield from ((f"[{i}]", wanted, held) for i, (wanted, held) in places)
    elif isinstance(value, abc.Mapping):
        of_all = arguments(target, abc.Mapping) or (object, object)
        hints = fields(target) if typing.is_typeddict(parts(target)[0]) else {}
        for key, held in value.items():
            yield f"[{key!r:.100}]", hints.get(key, of_all[1]), held
    elif isinstance(value, abc.Sequence) and not isinstance(value, (str, bytes, bytearray, range)):
        given = arguments(target, abc.Iterable)
        if given:
            yield from ((f"[{i}]", given[0], held) for i, held in enumerate(value))
