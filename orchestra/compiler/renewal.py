"""Lists, dicts and sets that stand in a pipeline's code: each run has its own. Pure.

A definition runs once and its literals are made once, where in a function they are made anew with
each call: what one run's step adds to its list must not be in the next run's.
"""

from __future__ import annotations


def changeable(value: object) -> bool:
    """Whether a step that is given the value could change it for others.

    Values of other classes, subclasses too, are passed on as they are, as a function would.
    """
    kind = type(value)
    if kind is tuple:
        return any(map(changeable, value))  # type: ignore[call-overload]
    return kind in _CHANGEABLE


def renewed(value: object) -> object:
    """The same value, in which nothing that is changeable is anybody else's."""
    kind = type(value)
    if kind not in _CONTAINERS:
        return value
    if kind is dict:
        return {key: renewed(part) for key, part in value.items()}  # type: ignore[attr-defined]
    if kind is set:
        return set(value)  # type: ignore[call-overload]
    parts = [renewed(part) for part in value]  # type: ignore[attr-defined]
    return parts if kind is list else tuple(parts)


_CHANGEABLE = frozenset({list, dict, set})
_CONTAINERS = _CHANGEABLE | {tuple}
