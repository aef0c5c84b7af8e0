"""Lists, dicts and sets in a pipeline's code: each run gets its own copy. Pure.

A definition runs once, so its literals are made once; an ordinary function makes them at each call.
An item that a step adds to a list in one run must not be in the next run's list. A container
with more than `PARTS_MAX` parts is a table, not a literal, and is passed on uncopied.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

PARTS_MAX = 1_000


def is_mutable(value: object) -> bool:
    """Whether a step could change the value for other runs, so that each run needs a copy.

    Values of other classes, and of subclasses, are passed on uncopied, as in a call of a function.
    """
    return _parts(value, PARTS_MAX) <= PARTS_MAX and _holds_mutable(value)


def copied_if_mutable(value: object) -> object:
    """The value itself; a deep copy if it is a list, dict, set or tuple that `is_mutable`."""
    return deep_copy(value) if type(value) in _CONTAINERS and is_mutable(value) else value


def deep_copy(value: object) -> object:
    """A copy of a mutable value, with new containers at every level."""
    kind = type(value)
    if kind not in _CONTAINERS:
        return value
    if kind is dict:
        return {key: deep_copy(part) for key, part in value.items()}  # type: ignore[attr-defined]
    if kind is set:
        return set(value)  # type: ignore[call-overload]
    parts = [deep_copy(part) for part in value]  # type: ignore[attr-defined]
    return parts if kind is list else tuple(parts)


def _holds_mutable(value: object) -> bool:
    kind = type(value)
    if kind is tuple:
        return any(map(_holds_mutable, value))  # type: ignore[call-overload]
    return kind in _MUTABLE


def _parts(value: object, most: int) -> int:
    """The number of parts at all levels; counting stops above `most`."""
    kind = type(value)
    if kind not in _CONTAINERS:
        return 0
    found = value.values() if kind is dict else value  # type: ignore[attr-defined]
    parts = cast("Collection[object]", found)
    count = len(parts)
    for part in parts if count <= most and kind is not set else ():
        count += _parts(part, most - count)
        if count > most:
            break
    return count


_MUTABLE = frozenset({list, dict, set})
_CONTAINERS = _MUTABLE | {tuple}
