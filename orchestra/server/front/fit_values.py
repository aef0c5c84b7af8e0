"""Values as clients may read them: each `Failed` in them without what is its owner's. Pure.

A `Failed` quotes an exception, as events do. It is looked for where a result holds it by itself or
in lists, tuples, dicts, attrs classes and dataclasses, at most `DEPTH_MAX` below each other.
What holds none is given back as it is.

Rules of the file: a value of our own is not looked through, and of a list of what can hold none
only the types are. A vector has thousands of numbers, and an answer as many tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from copy import copy
from functools import lru_cache
from typing import Any

import attrs

from orchestra.failed import Failed

DEPTH_MAX = 32
"""An `each` in an `each` is one list deeper; nobody writes so many, and a list may hold itself."""

_KINDS_MAX = 1_024
"""Classes that are remembered: a step may make new ones in each run."""


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
    if kind is dict:
        pairs: dict[object, object] = value  # type: ignore[assignment]
        found = {key: fit(part) for key, part in pairs.items()}
        changed = any(found[key] is not part for key, part in pairs.items())
        return found if changed else value
    if kind is list or kind is tuple:
        parts: list[object] | tuple[object, ...] = value  # type: ignore[assignment]
        if not any(map(_may_hold, set(map(type, parts)))):
            return value
        fitted = [fit(part) for part in parts]
        same = all(new is old for new, old in zip(fitted, parts, strict=True))
        return value if same else kind(fitted)
    return _fit_members(value, fit)


def forget_classes() -> None:
    """Let classes that nobody else has go, and the modules that they are of."""
    _may_hold.cache_clear()
    _members.cache_clear()


@lru_cache(_KINDS_MAX)
def _may_hold(kind: Any) -> bool:
    """Whether a value of this type may be a `Failed`, or have one below it."""
    return kind in (dict, list, tuple) or issubclass(kind, Failed) or bool(_members(kind))


def _fit_members(value: object, fit: Callable[[object], object]) -> object:
    """An object of members, copied where one of them holds a `Failed`."""
    new = value
    kind: Any = type(value)
    for name in _members(kind):
        part = getattr(value, name, None)
        fitted = fit(part)
        if fitted is not part:
            new = copy(value) if new is value else new
            object.__setattr__(new, name, fitted)  # also of a class that is frozen
    return new


@lru_cache(_KINDS_MAX)
def _members(kind: type[Any]) -> tuple[str, ...]:
    if str(getattr(kind, "__module__", "")).startswith("orchestra."):
        return ()  # of our own values only a `Failed` holds what a step gives
    if attrs.has(kind):
        return tuple(each.name for each in attrs.fields(kind))
    if dataclasses.is_dataclass(kind):
        return tuple(each.name for each in dataclasses.fields(kind))
    return ()
