"""Closures: finds wires that a function holds, which would have no value when it is called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import FunctionType, MethodType

from orchestra.errors import DefinitionError
from orchestra.graph.source.frames import called_at
from orchestra.graph.wires import Wire, spelled

_PARTS_MAX = 1_000
"""Larger containers are not searched: they are tables of data, and hold no wires."""
_CONTAINERS = (list, tuple, set, frozenset, dict)


def wires_held_by(function: object) -> Iterator[Wire]:
    """Each wire in a function's closure, in its defaults, or in the object it is bound to.

    Searches partials, methods, callable objects, and the functions and containers that they
    hold. The attributes of other objects are not searched.
    """
    left, seen = [*_of_object(function), function], set[int]()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Wire):
            yield value
        else:
            left += _held_by(value)


def refuse_wires(function: object, what: str, instead: str) -> None:
    """Check that a function holds no wire.

    Raises:
        DefinitionError: it holds one. In the message, `what` names the function, and `instead` says
            how to pass the value: `{wire}` in it is the wire, and `{name}` a parameter's name.
    """
    held = next(wires_held_by(function), None)
    if held is not None:
        wire = spelled(held)
        advice = instead.replace("{wire}", wire)
        advice = advice.replace("{name}", wire if wire.isidentifier() else "value")
        raise DefinitionError(
            f"{called_at()}: {what} holds the wire {wire}, whose value it would never be "
            f"given; {advice}"
        )


def closed_over(function: FunctionType) -> dict[str, object]:
    """The variables in a function's closure, without those that have no value yet."""
    found: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):
            found[name] = cell.cell_contents
    return found


def _of_object(function: object) -> Iterable[object]:
    """The attributes of a callable object, or of the object that a method is bound to."""
    owner = function.__self__ if isinstance(function, MethodType) else function
    if isinstance(owner, (FunctionType, partial, Wire, type)):
        return ()
    slots = [each for cls in type(owner).__mro__ for each in getattr(cls, "__slots__", ())]
    return [*getattr(owner, "__dict__", {}).values(), *(getattr(owner, n, None) for n in slots)]


def _held_by(value: object) -> Iterable[object]:
    match value:
        case FunctionType():
            by_default = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            return [*closed_over(value).values(), *by_default]
        case MethodType():
            return [value.__func__]
        case partial():
            return [value.func, *value.args, *value.keywords.values()]
    if type(value) not in _CONTAINERS or len(value) > _PARTS_MAX:  # type: ignore[arg-type]
        return ()
    return value.values() if isinstance(value, dict) else value  # type: ignore[return-value]
