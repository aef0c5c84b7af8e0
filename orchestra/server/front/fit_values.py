"""Values as clients may read them: each `Failed` in them without what is its owner's. Pure.

A `Failed` quotes an exception, as events do. It is looked for in all that is written as what it
holds: sequences, sets, mappings, attrs classes, dataclasses and msgspec's structs, at most
`DEPTH_MAX` below each other. What holds none is given back as it is; a class of somebody's own that
is a sequence, a set or a mapping becomes a plain one, which is written in the same way.

Rules of the file: a value of our own is not looked through, and of a list of what can hold none
only the types are. A vector has thousands of numbers, and an answer as many tokens.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from copy import copy
from functools import cache
from typing import Any

import attrs
from msgspec import Struct, structs

from orchestra.failed import Failed

DEPTH_MAX = 32
"""An `each` in an `each` is one list deeper; nobody writes so many, and a list may hold itself."""

_SERIES = (list, tuple, set, frozenset, deque)


def fit_value(value: object, fit_message: Callable[[str, str], str], depth: int = 0) -> Any:
    """The value, with `fit_message(error, message)` for what each `Failed` in it quotes.

    What it tells of a model is withheld: which one it was is the deployment's own affair.
    """
    kind: Any = type(value)
    if depth > DEPTH_MAX or not _may_hold(kind):
        return value

    def fit(part: object) -> object:
        return fit_value(part, fit_message, depth + 1)

    if isinstance(value, Failed):
        message = fit_message(value.error, value.message)
        return attrs.evolve(value, item=fit(value.item), message=message, model=None)
    if isinstance(value, Mapping):
        return _fit_mapping(value, fit)
    if isinstance(value, _SERIES):
        parts: list[object] = list(value)
        if not any(map(_may_hold, set(map(type, parts)))):
            return value
        fitted = [fit(part) for part in parts]
        same = all(new is old for new, old in zip(fitted, parts, strict=True))
        return value if same else kind(fitted) if kind in (tuple, deque) else fitted
    return _fit_members(value, fit)


def forget_classes() -> None:
    """Let classes that nobody else has go, and the modules that they are of."""
    _may_hold.cache_clear()
    _members.cache_clear()


@cache
def _may_hold(kind: Any) -> bool:
    """Whether a value of this type may be a `Failed`, or have one below it."""
    return issubclass(kind, (Failed, Mapping, *_SERIES)) or bool(_members(kind))


def _fit_mapping(value: Mapping[Any, object], fit: Callable[[object], object]) -> object:
    try:
        pairs = dict(value)
    except Exception:  # noqa: BLE001 - whoever has made it has written how it is read
        return value  # it cannot be written either
    found = {key: fit(part) for key, part in pairs.items()}
    return found if any(found[key] is not part for key, part in pairs.items()) else value


def _fit_members(value: object, fit: Callable[[object], object]) -> object:
    """An object of members, copied where one of them holds a `Failed`."""
    new: Any = value
    kind: Any = type(value)
    for name in _members(kind):
        part = getattr(value, name, None)
        fitted = fit(part)
        if fitted is not part:
            new = copy(value) if new is value else new
            put = structs.force_setattr if isinstance(value, Struct) else object.__setattr__
            put(new, name, fitted)  # also of a class that is frozen
    return new


@cache
def _members(kind: type[Any]) -> tuple[str, ...]:
    if str(getattr(kind, "__module__", "")).startswith("orchestra."):
        return ()  # of our own values only a `Failed` holds what a step gives
    if issubclass(kind, Struct):
        return kind.__struct_fields__
    if attrs.has(kind):
        return tuple(each.name for each in attrs.fields(kind))
    if dataclasses.is_dataclass(kind):
        return tuple(each.name for each in dataclasses.fields(kind))
    return ()
