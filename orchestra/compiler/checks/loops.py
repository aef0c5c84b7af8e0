"""Steps that are made in a loop and read its variable: at run time all read its last value.

A function reads a variable when it is called. A function that is called inside the loop is
right; a step is called only when the loop, and the whole pipeline's function, has ended.
"""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType

from orchestra.graph.nodes import Call, Node
from orchestra.problem import Problem

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def late_problems(nodes: Sequence[Node]) -> Iterator[tuple[Node, Problem]]:
    """For each function made a step several times in a loop: the variables it reads too late."""
    made: dict[CodeType, tuple[object, FunctionType]] = {}
    told: set[CodeType] = set()
    for node in nodes:
        function = inspect.unwrap(node.step.call) if isinstance(node, Call) else None
        if not isinstance(node, Call) or not isinstance(function, FunctionType):
            continue
        code = function.__code__
        step, first = made.setdefault(code, (node.step.call, function))
        if step is node.step.call or code in told or not _reads_the_same(first, function):
            continue
        told.add(code)
        for name in _read_late(code):
            what = f"step {node.step.name!r} is made anew for each `{name}`, and reads it when it "
            fix = f"make the step once, above the loop, with a parameter {name!r}, and pass it: "
            fix += f"`{node.step.name}(..., {name}={name})`"
            message = f"{what}runs, after the loop: each of them reads its last value"
            yield node, Problem("late-value", node.step.where, message, fix)


def _reads_the_same(one: FunctionType, other: FunctionType) -> bool:
    """Whether the closures of two functions share their variables, not only equal values."""
    cells = zip(one.__closure__ or (), other.__closure__ or (), strict=True)
    return all(each is theirs for each, theirs in cells)


def _read_late(code: CodeType) -> list[str]:
    """The variables of enclosing loops that a function reads; empty without source."""
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:  # it was changed since the import
        return []
    found = _with_loops(tree, code, frozenset())
    if found is None:
        return []
    function, loops = found
    inner = [part for each in function.body for part in ast.walk(each)]
    names = [each for each in inner if isinstance(each, ast.Name)]
    read = {each.id for each in names if isinstance(each.ctx, ast.Load)}
    own = {each.id for each in names if not isinstance(each.ctx, ast.Load)}  # comprehensions too
    own |= {each.arg for each in ast.walk(function) if isinstance(each, ast.arg)}
    return sorted(read & loops - own)


def _with_loops(
    node: ast.AST, code: CodeType, loops: frozenset[str]
) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, frozenset[str]] | None:
    """The syntax node of a function, and the variables of the loops around it."""
    if isinstance(node, _FUNCTIONS):
        first = min(each.lineno for each in (node, *node.decorator_list))
        if (node.name, first) == (code.co_name, code.co_firstlineno):
            return node, loops
        loops = frozenset()  # each call has its own variables
    elif isinstance(node, ast.For):
        loops |= {*_names(node.target)}
    children = (_with_loops(each, code, loops) for each in ast.iter_child_nodes(node))
    return next(filter(None, children), None)


def _names(node: ast.AST) -> Iterator[str]:
    return (each.id for each in ast.walk(node) if isinstance(each, ast.Name))
