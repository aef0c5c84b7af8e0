"""Makes results fit for clients: removes the owner's details from each `Failed` in them. Pure.

A `Failed` quotes an exception, as events do. The result itself is searched, and everything whose
members are written to JSON: sequences, sets, mappings, attrs classes, dataclasses and msgspec
structs, nested at most `DEPTH_MAX` deep. Values without a `Failed` are returned unchanged; a user's
sequence, set or mapping with one becomes a plain one, which is written in the same way.

Rules of the file: values of our own classes are not searched. If the types of a list's items cannot
contain a `Failed`, the items are not searched either: a vector has thousands of numbers, and an
answer as many tokens.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from copy import copy
from functools import lru_cache
from itertools import chain
from typing import Any

import attrs
from msgspec import Struct, structs

from orchestra.failed import Failed

DEPTH_MAX = 32
"""The deepest nesting: each nested `each` adds one list; a list may also contain itself."""

_KINDS_MAX = 1_024
"""The size of the caches of classes, which need one: a step may make new classes in each run."""

_SERIES = (list, tuple, set, frozenset, deque)


def fit_value(value: object, fit_message: Callable[[str, str], str], depth: int = 0) -> Any:
    """The value, with the message of each `Failed` in it replaced by `fit_message(error, message)`.

    The model's name is removed, as it is internal to the deployment.
    """
    kind: Any = type(value)
    if depth > DEPTH_MAX or not _may_hold(kind) or not (depth or _looks_further(value)):
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


def _looks_further(value: object) -> bool:
    """Whether a value may contain a `Failed`: not if it is plain lists and dicts of plain leaves.

    All values of one depth are checked at once, which takes a tenth of the time.
    """
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        kinds = set(map(type, level))
        if any(map(_may_hold, kinds - {list, dict})):
            return True
        if list not in kinds and dict not in kinds:
            return False
        lists = {id(each): each for each in level if type(each) is list}  # each only once
        dicts = {id(each): each.values() for each in level if type(each) is dict}
        level = [*chain(*lists.values(), *dicts.values())]
    return False


def forget_classes() -> None:
    """Clear the caches of classes, so that unused classes and their modules can be freed."""
    _may_hold.cache_clear()
    _members.cache_clear()


@lru_cache(_KINDS_MAX)
def _may_hold(kind: Any) -> bool:
    """Whether a value of this type may be a `Failed`, or contain one."""
    return issubclass(kind, (Failed, Mapping, *_SERIES)) or bool(_members(kind))


def _fit_mapping(value: Mapping[Any, object], fit: Callable[[object], object]) -> object:
    try:
        pairs = dict(value)
    except Exception:  # noqa: BLE001 - a user's mapping may raise anything
        return value  # it cannot be written to JSON either
    found = {key: fit(part) for key, part in pairs.items()}
    return found if any(found[key] is not part for key, part in pairs.items()) else value


def _fit_members(value: object, fit: Callable[[object], object]) -> object:
    """The object, or a copy of it if one of its members contains a `Failed`."""
    new: Any = value
    kind: Any = type(value)
    for name in _members(kind):
        part = getattr(value, name, None)
        fitted = fit(part)
        if fitted is not part:
            new = copy(value) if new is value else new
            put = structs.force_setattr if isinstance(value, Struct) else object.__setattr__
            put(new, name, fitted)  # this also works for frozen classes
    return new


@lru_cache(_KINDS_MAX)
def _members(kind: type[Any]) -> tuple[str, ...]:
    if str(getattr(kind, "__module__", "")).startswith("orchestra."):
        return ()  # of our own classes only a `Failed` contains results of steps
    if issubclass(kind, Struct):
        return kind.__struct_fields__
    if attrs.has(kind):
        return tuple(each.name for each in attrs.fields(kind))
    if dataclasses.is_dataclass(kind):
        return tuple(each.name for each in dataclasses.fields(kind))
    return ()
