"""Finds steps that are made in a loop and read its variable: at run time all read its last value.

A function reads a variable when it is called. A function that is called inside the loop reads the
right value; a step runs only when the loop, and the whole pipeline's function, has ended.
"""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType
from typing import cast

from orchestra.graph.nodes import Call, Node
from orchestra.graph.source.site import FUNCTIONS, path_to_def
from orchestra.problem import Problem


def late_problems(nodes: Sequence[Node]) -> Iterator[tuple[Node, Problem]]:
    """For each function made a step several times in a loop: the variables it reads too late."""
    made: dict[CodeType, tuple[object, FunctionType]] = {}
    reported: set[CodeType] = set()
    for node in nodes:
        function = inspect.unwrap(node.step.call) if isinstance(node, Call) else None
        if not isinstance(node, Call) or not isinstance(function, FunctionType):
            continue
        code = function.__code__
        step, first = made.setdefault(code, (node.step.call, function))
        if step is node.step.call or code in reported or not _reads_the_same(first, function):
            continue
        reported.add(code)
        for name in _read_late(code):
            what = f"step {node.step.name!r} is created for each `{name}`, but reads it when it "
            fix = f"make the step once, above the loop, with a parameter {name!r}, and pass it: "
            fix += f"`{node.step.name}(..., {name}={name})`"
            message = f"{what}runs, after the loop: all of them read its last value"
            yield node, Problem("late-value", node.step.where, message, fix)


def _reads_the_same(one: FunctionType, other: FunctionType) -> bool:
    """Whether the closures of two functions share their variables, not only equal values."""
    cells = zip(one.__closure__ or (), other.__closure__ or (), strict=True)
    return all(cell is same for cell, same in cells)


def _read_late(code: CodeType) -> list[str]:
    """The variables of enclosing loops that a function reads; empty without source."""
    path = path_to_def("".join(linecache.getlines(code.co_filename)), code)
    if not path:
        return []
    from orchestra.graph.refusals.lifting import free_in  # hardly anybody makes steps in a loop

    *around, function = path
    loops: set[str] = set()
    for node in around:
        if isinstance(node, FUNCTIONS):
            loops.clear()  # each call has its own variables
        elif isinstance(node, ast.For):
            loops |= {*_names(node.target)}
    read = free_in(ast.Module(cast("ast.FunctionDef", function).body, []))
    own = {each.arg for each in ast.walk(function) if isinstance(each, ast.arg)}
    return sorted(read & loops - own)


def _names(node: ast.AST) -> Iterator[str]:
    return (each.id for each in ast.walk(node) if isinstance(each, ast.Name))
