"""Checks of the plain values in a call, and of the containers around wires."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import cast

import attrs

from orchestra.annotations.facts import Fit, accepts, chunk_of, compare, spell
from orchestra.annotations.pydantic_models import is_model, values_in
from orchestra.compiler.checks.uncalled import call_of
from orchestra.graph.calls.closures import wires_held_by
from orchestra.graph.nodes import Call
from orchestra.graph.parts import is_wired, parts_in
from orchestra.graph.source.decorated import Decorated
from orchestra.graph.wires import Wire, spelled
from orchestra.messages import safe_repr
from orchestra.problem import Problem

_DEPTH_MAX = 20
"""How deep a value is searched for wires: deeper than real values; some create parts endlessly."""


def argument_problems(node: Call) -> Iterator[Problem]:
    """The problems of the arguments of a call, apart from its wires."""
    for name, argument, expects in node.places:
        yield from _problems(node, node.into(name), argument, expects)


def wires_held(value: object) -> Iterator[Wire]:
    """Every wire in a value, even where a run would not fill it: `Message("user", q)`."""
    return (each for each in values_held(value) if isinstance(each, Wire))


def values_held(value: object) -> Iterator[object]:
    """The value and all values inside it; an object is searched again only if found less deep."""
    left, seen = [(value, 0)], dict[int, tuple[object, int]]()  # kept alive, as ids are reused
    while left:
        value, depth = left.pop()
        yield value
        if depth < seen.get(id(value), (None, _DEPTH_MAX))[1] and not isinstance(value, Wire):
            parts = [(part, depth + 1) for part in _held_by(value)]
            if parts:
                seen[id(value)] = value, depth
            left += reversed(parts)


def _held_by(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, _COLLECTIONS):
        yield from value
    elif isinstance(value, Decorated):
        return  # the wires of a pipeline belong to it
    elif attrs.has(type(value)):
        cls = cast("type[attrs.AttrsInstance]", type(value))
        yield from (getattr(value, each.name, None) for each in attrs.fields(cls))
    elif dataclasses.is_dataclass(value):
        yield from (getattr(value, each.name, None) for each in dataclasses.fields(value))
    elif is_model(type(value)):
        yield from values_in(value).values()


_COLLECTIONS = (list, tuple, set, frozenset, deque)
_CONTAINERS = (*_COLLECTIONS, Mapping)


def _problems(node: Call, into: str, argument: object, expects: object) -> Iterator[Problem]:
    where, takes = node.origin.where, spell(expects)
    if isinstance(argument, Wire):
        return
    if is_wired(argument):
        if compare(_kind(argument), expects) is Fit.CANNOT:
            message = f"{into} takes {takes}, and is given a {type(argument).__name__}"
            fix = _instead(node, takes, argument)
            yield Problem("type-clash", where, message, fix)
            return
        for _, part, wanted in parts_in(argument, expects):
            yield from _problems(node, into, part, wanted)
    elif (hidden := next(hidden_in(argument), None)) is not None:
        yield hidden_problem(into, argument, hidden, where)
    elif chunk_of(expects) is not None:
        message = f"{into} takes {takes}, and is given {safe_repr(argument):.200}"
        fix = "pass the result of a step that is an async generator"
        yield Problem("value-into-stream", where, message, fix)
    elif not accepts(expects, argument):
        message = f"{into} takes {takes}, and is given {safe_repr(argument):.200}"
        fix = _instead(node, takes, argument)
        if isinstance(argument, Decorated) and (call := call_of(argument)):
            message = f"{into} takes {takes}, and is given {argument.name!r} itself, uncalled"
            fix = f"call it: `{call}`"
        yield Problem("type-clash", where, message, fix)


def _instead(node: Call, takes: str, argument: object) -> str:
    """What to pass instead, also for a message written as a dict, as for OpenAI's API."""
    argument = argument[0] if isinstance(argument, list) and argument else argument
    if isinstance(argument, dict) and "role" in argument and "Message" in takes:
        return (
            "write a Message of orchestra.values; with a wire in it, make it in a step: "
            f"`return [Message({argument['role']!r}, text)]`"
        )
    return f"pass {takes}; the step is defined at {node.step.where}"


def hidden_in(argument: object) -> Iterator[Wire]:
    """The wires in an argument that would never be filled, including those held by functions."""
    if isinstance(argument, Decorated):
        return iter(())  # its wires belong to it
    return chain(wires_held(argument), wires_held_by(argument) if callable(argument) else ())


def hidden_problem(into: str, value: object, hidden: Wire, where: str) -> Problem:
    """The problem of a value that holds a wire."""
    name, kind = spelled(hidden), type(_holder(value)).__name__
    message = f"{into} is given a {kind} that holds the wire {name}, which would never be filled"
    return Problem("wire-in-value", where, message, f"make the {kind} in a step that takes {name}")


def _holder(value: object) -> object:
    """The innermost object that holds a wire: of a list of messages, the message."""
    objects = (each for each in values_held(value) if not isinstance(each, _CONTAINERS))
    holds = (each for each in objects if any(isinstance(part, Wire) for part in _held_by(each)))
    return next(holds, value)


def _kind(container: object) -> object:
    """The annotation of a container, without the types of its parts."""
    if type(container) is tuple:
        return tuple[(object,) * len(container)]  # type: ignore[misc]
    if type(container) is partial:
        return Callable[..., object]
    return list[object] if type(container) is list else dict[object, object]
