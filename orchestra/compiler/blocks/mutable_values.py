"""Lists, dicts and sets that stand in a pipeline's code: each run has its own. Pure.

A definition runs once and its literals are made once, where in a function they are made anew with
each call: what one run's step adds to its list must not be in the next run's. What has more than
`PARTS_MAX` parts is a table, and no literal: it is passed on as it is, as a function would.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

PARTS_MAX = 1_000


def is_mutable(value: object) -> bool:
    """Whether a step that is given the value could change it for others, and is given its own.

    Values of other classes, subclasses too, are passed on as they are, as a function would.
    """
    return _holds_mutable(value) and _parts(value, PARTS_MAX) <= PARTS_MAX


def copied_if_mutable(value: object) -> object:
    """The value itself, or a copy of a list, dict, set or tuple that `is_mutable`."""
    return deep_copy(value) if type(value) in _CONTAINERS and is_mutable(value) else value


def deep_copy(value: object) -> object:
    """A copy of a value that is known to be mutable, with new containers all the way down."""
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
    """How many parts it has, however deep; no more are counted than one over the most."""
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
