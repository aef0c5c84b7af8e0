"""What was named and not called: a step, pipeline or function where its result is wanted."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType

from orchestra.graph.gather import Gathering
from orchestra.graph.nodes import Choice, Collect, Constant, Node, Route
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.steps import Step
from orchestra.graph.wires import Wire, node_of
from orchestra.problem import Problem


def uncalled_arms(node: Node) -> Iterator[Problem]:
    """The arms of a choice, and what is collected, that were named and not called."""
    if isinstance(node, Collect):
        for held in uncalled(node.source):
            yield _problem("what collect(...) is given", held, node.origin.where)
    if isinstance(node, Choice):
        keys = [repr(key) for key in node.keys] if isinstance(node, Route) else []
        names = [*keys, "default"] if keys else map(str, range(1, len(node.arms) + 1))
        for arm, name in zip(node.arms, names, strict=False):
            for held in uncalled(arm):
                yield _problem(f"arm {name} of {node.label}(...)", held, node.origin.where)


def uncalled_result(output: Wire, pipeline: str, where: str) -> Iterator[Problem]:
    """What of a pipeline's result was named and not called."""
    for held in uncalled(output):
        yield _problem(f"the result of pipeline {pipeline!r}", held, where)


def call_of(value: object) -> str | None:
    """The call of a step, pipeline or function, as it is written; None for all else."""
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
        return [*inspect.signature(function).parameters]
    except ValueError:  # of some that are written in C
        return ["..."]


def uncalled(wire: Wire) -> Iterator[object]:
    """Those that a wire carries, also in a list, a tuple or a dict."""
    node = node_of(wire)
    if isinstance(node, Constant):
        yield from _in(node.value)
    elif isinstance(node, Gathering):
        yield from _in(node.arguments["value"])


def _in(value: object) -> Iterator[object]:
    if call_of(value) is not None:
        yield value
    elif type(value) in (list, tuple):
        for part in value:  # type: ignore[attr-defined]
            yield from _in(part)
    elif type(value) is dict:
        yield from _in(list(value.values()))


def _problem(what: str, value: object, where: str) -> Problem:
    kind = type(value).__name__.lower() if isinstance(value, Step | Pipeline) else "function"
    call = call_of(value) or ""
    if call.startswith("<lambda>"):
        message = f"{what} is a lambda, which nobody calls"
        return Problem("uncalled", where, message, "write what it gives, without `lambda`")
    message = f"{what} is the {kind} {call.partition('(')[0]!r} itself, which nobody calls"
    return Problem("uncalled", where, message, f"call it: `{call}`")
