"""Finds steps, pipelines and functions that were not called where their result is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, cast

from orchestra.annotations.deferred import signature
from orchestra.graph.gather import Gathering
from orchestra.graph.nodes import Call, Choice, Collect, Constant, Each, Node, Route
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.source.decorated import Decorated
from orchestra.graph.steps import Step
from orchestra.graph.wires import Wire, node_of
from orchestra.problem import Problem


def uncalled_parts(node: Node) -> Iterator[Problem]:
    """The problems of a node's arms, label, items and arguments that were not called."""
    for what, wire in _read_by(node):
        for held in uncalled(wire):
            yield _problem(what, held, node.origin.where)
    if isinstance(node, Call) and not isinstance(node, Gathering):
        for name, argument, expects in node.places:
            for held in uncalled_in(argument) if expects in (object, Any) else ():
                if isinstance(held, Decorated):  # a function may be intended
                    yield _problem(f"the argument of {node.into(name)}", held, node.origin.where)
    if isinstance(node, Choice):
        keys = [repr(key) for key in node.keys] if isinstance(node, Route) else []
        names = [*keys, "default"] if keys else map(str, range(1, len(node.arms) + 1))
        for arm, name in zip(node.arms, names, strict=False):
            for held in uncalled(arm):
                yield _problem(f"arm {name} of {node.label}(...)", held, node.origin.where)


def _read_by(node: Node) -> Iterator[tuple[str, Wire]]:
    match node:
        case Collect(source=source):
            yield "the argument of collect(...)", source
        case Route(on=label):
            yield "the label of route(...)", label
        case Each(items=items):
            yield "the argument of each(...)", items


def uncalled_result(output: Wire, pipeline: str, where: str) -> Iterator[Problem]:
    """The problems of parts of a pipeline's result that were not called."""
    for held in uncalled(output):
        yield _problem(f"the result of pipeline {pipeline!r}", held, where)


def call_of(value: object) -> str | None:
    """The source of a call of a step, pipeline or function; None for other values."""
    if isinstance(value, Step | Pipeline):
        takes = value.required if isinstance(value, Step) else value.inputs
        return f"{value.name}({', '.join(takes)})"
    if isinstance(value, partial):
        return call_of(value.func)
    if isinstance(value, FunctionType | BuiltinFunctionType | MethodType):
        return f"{value.__name__}({', '.join(_parameters(value))})"
    return None


def _parameters(function: FunctionType | BuiltinFunctionType | MethodType) -> list[str]:
    try:
        return [*signature(function).parameters]
    except ValueError:  # some functions written in C have no signature
        return ["..."]


def uncalled(wire: Wire) -> Iterator[object]:
    """The uncalled objects behind a wire, also in a list, a tuple or a dict."""
    node = node_of(wire)
    if isinstance(node, Constant):
        yield from uncalled_in(node.value)
    elif isinstance(node, Gathering):
        yield from uncalled_in(node.arguments["value"])


def uncalled_in(value: object) -> Iterator[object]:
    """The uncalled objects in a plain value, also in its lists, tuples and dicts."""
    left, seen = [value], set[int]()
    while left:
        value = left.pop()
        parts: Iterable[object] = ()
        if call_of(value) is not None:
            yield value
        elif type(value) is dict:
            parts = value.values()
        elif type(value) in (list, tuple):
            parts = cast("list[object] | tuple[object, ...]", value)
        if id(value) not in seen and parts:
            seen.add(id(value))
            left += reversed([*parts])


def _problem(what: str, value: object, where: str) -> Problem:
    kind = type(value).__name__.lower() if isinstance(value, Decorated) else "function"
    call = call_of(value) or ""
    if call.startswith("<lambda>"):
        message = f"{what} is a lambda, which nothing calls"
        return Problem("uncalled", where, message, "write its expression, without `lambda`")
    message = f"{what} is the {kind} {call.partition('(')[0]!r} itself, which nothing calls"
    return Problem("uncalled", where, message, f"call it: `{call}`")
