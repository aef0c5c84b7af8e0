"""Whether a value fits an annotation: the check at run time, where `fits` could only say MAY."""

from __future__ import annotations

import typing
from abc import ABCMeta
from collections import abc
from types import UnionType
from typing import Any, Literal, NewType, TypeVar, get_origin

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


def accepts(target: object, value: object) -> bool:
    """Whether this value may be given to a parameter annotated `target`.

    Looks at every element of a container, and at no element of an iterator. What is not
    understood is accepted. Never raises, whatever the value's own methods do.
    """
    if type(value) is target:  # nearly every value that arrives; the rest costs microseconds
        return True
    try:
        return _accepts(target, value)
    except Exception:  # noqa: BLE001 - `__iter__`, `__eq__`, `__class__` are the value's own
        return True


def misfit(target: object, value: object) -> tuple[str, object, object]:
    """The innermost part of an unfit value that does not fit: where it is, what it has to be, it.

    The first of several. Where is as Python spells it, `[2]['name']`, and empty for the value
    itself, such as one of another class. Never raises, whatever the value's own methods do.
    """
    try:
        for where, wanted, held in _placed_parts(target, value):
            if not accepts(wanted, held):
                inner, innermost, part = misfit(wanted, held)
                return where + inner, innermost, part
    except Exception:  # noqa: BLE001 - `__iter__` and `__repr__` are the value's own
        return "", target, value
    return "", target, value


def is_of(target: object, value: object) -> bool:
    """As `accepts`, of the value's own class only: it looks at nothing that the value holds."""
    try:
        return _accepts(target, value, inside=False)
    except Exception:  # noqa: BLE001 - `__class__` is the value's own
        return True


def is_anything(annotation: object) -> bool:
    """Whether it takes every value: Any, object, or no annotation."""
    annotation = plain(annotation)
    return annotation is Any or annotation is object


def is_nothing(annotation: object) -> bool:
    """Whether it takes no value: Never, NoReturn."""
    return any(annotation is bottom for bottom in _BOTTOMS)


_BOTTOMS: tuple[object, ...] = (typing.Never, typing.NoReturn)


def is_among(value: object, values: abc.Iterable[object]) -> bool:
    """Whether a Literal of `values` has this value, of this type: `True == 1`, but both differ."""
    return any(type(value) is type(each) and value == each for each in values)


def bound(variable: TypeVar) -> object:
    """What a type variable stands for at most; Any where it is not said."""
    return Any if variable.__bound__ is None else variable.__bound__


def plain_classes(target: object) -> tuple[type, ...]:
    """Classes whose instances are all `is_of` it; there may be others."""
    if is_anything(target):
        return (object,)
    origins = [parts(member)[0] for member in alternatives(plain(target))]
    found = (each for each in origins if isinstance(each, type) and type(each) in _PLAIN)
    return tuple(each for each in found if not classes.is_protocol(each))


_PLAIN = (type, ABCMeta)
"""Classes of classes by which `isinstance` is Python's own."""


def _accepts(target: object, value: object, *, inside: bool = True) -> bool:
    """As `accepts`; without `inside`, as `is_of`."""
    if type(value) is target:
        return True
    target = plain(target)
    if is_anything(target):
        return True
    members = alternatives(target)
    if len(members) > 1:
        return any(_accepts(member, value, inside=inside) for member in members)
    if isinstance(target, TypeVar):
        return _accepts(bound(target), value, inside=inside)
    if isinstance(target, NewType):
        return _accepts(target.__supertype__, value, inside=inside)
    origin, given = parts(target)
    if origin is Literal:
        return is_among(value, given)
    if not isinstance(origin, type):
        return not is_nothing(target)
    if typing.is_typeddict(origin):
        return _accepts_keys(target, value) if inside else isinstance(value, dict)
    if origin is type and (cls := _subscripted(value)) is not None:
        return not (inside and given) or _accepts_class(given[0], cls)
    if not classes.is_instance(value, origin):
        return False
    return not inside or get_origin(target) is None or _accepts_inside(target, value)


def _accepts_keys(target: object, value: object) -> bool:
    if not isinstance(value, dict) or not required_keys(parts(target)[0]) <= value.keys():
        return False
    hints = fields(target)
    return all(_accepts(hints[key], item) for key, item in value.items() if key in hints)


def _accepts_inside(target: object, value: object) -> bool:
    """Whether what a subscripted class holds fits the arguments."""
    origin, given = parts(target)
    items = tuple_items(target)
    if isinstance(value, tuple) and items is not None:
        return len(items) == len(value) and all(map(_accepts, items, value))
    if isinstance(value, type) and origin is type:
        return _accepts_class(given[0], value)
    pairs = arguments(target, abc.Mapping) if isinstance(value, abc.Mapping) else None
    if isinstance(value, abc.Mapping) and pairs:
        return all(_accepts(pairs[0], k) and _accepts(pairs[1], v) for k, v in value.items())
    held = arguments(target, abc.Iterable) or arguments(target, abc.Container)
    if isinstance(value, abc.Iterable) and isinstance(value, abc.Sized) and held:
        return all(_accepts(held[0], item) for item in _told_apart(value))
    return _accepts_fields(target, value)


def _told_apart(value: abc.Iterable[object]) -> abc.Iterable[object]:
    """The elements; only the first where all are of one type, for `range(10**12)` is a value."""
    return value[:1] if isinstance(value, (str, bytes, bytearray, range)) else value


def _subscripted(value: object) -> type | None:
    """The class of a generic class with arguments: it is no class, and made as one is."""
    cls = get_origin(value)
    return cls if isinstance(cls, type) and cls not in _NO_CLASSES else None


_NO_CLASSES: tuple[object, ...] = (typing.Annotated, UnionType)
"""What Python has as classes, of annotations that are none with arguments."""


def _accepts_class(wanted: object, cls: type) -> bool:
    """Whether the class itself fits a `type[wanted]`."""
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


def _accepts_fields(target: object, value: object) -> bool:
    """Looks at those attributes whose annotation the arguments of the generic class decide."""
    open_hints = fields(parts(target)[0])
    for name, hint in fields(target).items():
        held = getattr(value, name, MISSING)
        if held is not MISSING and not same(hint, open_hints[name]) and not _accepts(hint, held):
            return False
    return True


def _placed_parts(target: object, value: object) -> abc.Iterator[tuple[str, object, object]]:
    """The parts that have a place, each with what it has to be."""
    members = [member for member in alternatives(plain(target)) if is_of(member, value)]
    if len(members) != 1:  # of which of them a part is wrong, nobody knows
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
