"""Which part of a value does not fit an annotation, where `accepts` only says that it does not."""

from __future__ import annotations

import typing
from collections import abc

from orchestra.annotations.acceptance import accepts, is_of
from orchestra.annotations.shapes import alternatives, arguments, fields, parts, plain, tuple_items


def misfit(target: object, value: object) -> tuple[str, object, object]:
    """The innermost part of an unfit value that does not fit: where it is, what it has to be, it.

    The first of several. Where is as Python spells it, `[2]['name']`, and empty for the value
    itself, such as one of another class. Never raises, whatever the value's own methods do.
    """
    try:
        for where, wanted, held in _parts(target, value):
            if not accepts(wanted, held):
                inner, innermost, part = misfit(wanted, held)
                return where + inner, innermost, part
    except Exception:  # noqa: BLE001 - `__iter__` and `__repr__` are the value's own
        return "", target, value
    return "", target, value


def _parts(target: object, value: object) -> abc.Iterator[tuple[str, object, object]]:
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
