"""Refusals: the messages when a pipeline's function uses a wire as if it were a value.

Each message shows the wrong line and a right one. The right line is made from the user's
own expression: a condition becomes a `route`, a loop an `each`, an f-string a `prompt`.
Every other expression is moved into a step, and the step is shown too. The advice is a
general one only where there is no source, or no rule fits the expression.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from textwrap import indent
from types import FrameType, TracebackType
from typing import cast

from orchestra.graph.parts import is_wired
from orchestra.graph.refusals.branching import route_of_condition, route_of_match, route_of_table
from orchestra.graph.refusals.lifting import (
    COMPREHENSIONS,
    Advice,
    Lifted,
    in_a_step,
    lift,
    makes_graph,
    makes_nodes_per_item,
    wire_text,
)
from orchestra.graph.refusals.rewriting import (
    Comprehension,
    each_of_loop,
    each_of_map,
    left_in_a_step,
    loop_in_a_step,
    parts_of_spreading,
    parts_of_unpacking,
    policy_before_call,
    side_by_side,
)
from orchestra.graph.refusals.shadowing import shadowed_by_wire
from orchestra.graph.refusals.texts import prompt_of_text
from orchestra.graph.source.frames import is_users
from orchestra.graph.source.site import Path, Site, is_library, site_of
from orchestra.graph.wires import Wire, spelled


def refusal(frame: FrameType, instruction: int, wire: Wire | None, act: str) -> str:
    """The message when an instruction in the user's frame needs a wire to `act` ("be tested").

    With None for the wire, the message names the first wire in the instruction's expression.
    """
    site = site_of(frame, instruction)
    if act == "be called" and (hidden := shadowed_by_wire(site, frame)) is not None:
        return hidden
    return refusal_at(site, spelled(wire) if wire is not None else _first_wire(site), act)


def refusal_at(site: Site, name: str, act: str) -> str:
    """The message when the expression at the site needs the wire `name` to `act`."""
    if act == "be called" and _spreads(site):  # Python calls `keys()` of a mapping
        name, act = name.removesuffix(".keys"), "be spread with `**`"
    try:
        advice = _advice(site) if site.path else None
    except RecursionError:  # a sum of 300 parts is 300 levels deep
        advice = None
    right, step = (advice.right, advice.step) if advice else (_general_advice(act, name), "")
    lines = [
        f"{site.where}: `{name}` cannot {act}: it has no value while the pipeline is being defined",
        *_titled("wrong", site.wrong),
        *_titled("right", right),
        *_titled("where", step),
    ]
    return "\n".join(lines)


def refusal_of_error(error: TypeError | ValueError) -> str | None:
    """The message when Python itself raised because of a wire, as in `", ".join(wires)`.

    Pydantic raises a ValueError if a field of a model is given one. None if the error is about
    something else.
    """
    found = None
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if is_users(trace.tb_frame.f_code.co_filename) and not module.startswith("pydantic."):
            found = trace
        trace = trace.tb_next
    if found is None:
        return None
    if "Wire" not in str(error) and (isinstance(error, ValueError) or not _calls_library(found)):
        return None
    return refusal(found.tb_frame, found.tb_lasti, None, "be used as a plain value")


def _calls_library(trace: TracebackType) -> bool:
    """Whether the user's line calls a function of the standard library with a wire."""
    site = site_of(trace.tb_frame, trace.tb_lasti)
    match site.path[-1:]:
        case [ast.Call(func=function) as call] if is_library(site.meaning(function)):
            return any(_wires(site, call))
    return False


def _titled(title: str, text: str) -> list[str]:
    if not text:
        return []
    return indent(text, " " * 11).replace(" " * 11, f"    {title}: ", 1).splitlines()


def _first_wire(site: Site) -> str:
    """The first wire in the site's expression, as it is written there."""
    return next(_wires(site, site.path[-1]), "a wire") if site.path else "a wire"


def _wires(site: Site, node: ast.AST) -> Iterator[str]:
    return (site.text(each) for each in ast.walk(node) if is_wired(site.meaning(each)))


def _spreads(site: Site) -> bool:
    match site.path[-1:]:
        case [ast.Call(keywords=keywords)]:
            return any(keyword.arg is None for keyword in keywords)
        case [ast.Dict(keys=keys)]:
            return None in keys
    return False


# --- the advice for an expression --------------------------------------------------------------


def _advice(site: Site) -> Advice | None:
    """The code to write instead of the expression at the end of the site's path."""
    if any(isinstance(node, ast.pattern) for node in site.path):
        return route_of_match(site, next(n for n in site.path if isinstance(n, ast.Match)))
    if isinstance(site.path[-1], ast.expr) and (advice := policy_before_call(site, site.path[-1])):
        return advice
    paths = _enclosing_paths(site, _needed_path(site, site.path))
    return next(filter(None, (_of_path(site, path) for path in paths)), None)


def _of_path(site: Site, path: Path) -> Advice | None:
    """The advice for the expression at the end of a path: it depends on the syntax around it."""
    node = path[-1]
    match path[-2]:
        case ast.AugAssign() as statement:
            return _of_sum(site, statement)
        case ast.Assert() as statement:
            return _of_assert(site, statement)
        case ast.Expr() as statement if advice := _of_effect(site, statement):
            return advice
        case ast.If(test=test) as statement if test is node:
            guard = _of_guard(site, statement) or left_in_a_step(site, statement)
            return guard or route_of_condition(site, statement)
        case ast.IfExp(test=test) as choice if test is node:
            return route_of_condition(site, choice)
        case ast.For(iter=items) as loop if items is node:
            return each_of_loop(site, loop)
        case ast.comprehension(iter=items) if items is node:
            return each_of_loop(site, cast("Comprehension", path[-3]), path[-4])
        case ast.While() as loop:
            return loop_in_a_step(site, loop)
        case ast.Assign(targets=targets) as statement if node in targets:
            return parts_of_unpacking(site, statement)
        case ast.withitem():
            return None
    return _of_expression(site, node) if isinstance(node, ast.expr) else None


def _of_expression(site: Site, node: ast.expr) -> Advice | None:
    if not isinstance(getattr(node, "ctx", _LOAD), ast.Load):
        return None
    if isinstance(node, ast.Call) and makes_graph(site, node):
        return parts_of_spreading(site, node)
    tried = (side_by_side, each_of_map, route_of_table, prompt_of_text, in_a_step)
    return next(filter(None, (advice(site, node) for advice in tried)), None)


def _of_sum(site: Site, statement: ast.AugAssign) -> Advice | None:
    """`total += price` as a step that adds."""
    target = ast.unparse(statement.target)
    before = ast.parse(target, mode="eval").body
    sum_ = lift(site, ast.BinOp(before, statement.op, statement.value))
    return Advice(f"{target} = {sum_.call}", sum_.step) if sum_ else None


def _of_assert(site: Site, statement: ast.Assert) -> Advice | None:
    """`assert found` as a step that asserts."""
    inside = _in_a_step(site, [statement.test, *([statement.msg] if statement.msg else [])])
    if inside is None:
        return None
    return _step_with_effect(inside[0], "checked", ast.unparse(ast.Assert(*inside[1])))


def _of_guard(site: Site, statement: ast.If) -> Advice | None:
    """`if not found: raise ...` as a step that raises; None for any other `if`."""
    match statement:
        case ast.If(body=[ast.Raise(exc=ast.Call(func=kind, args=args, keywords=[]))], orelse=[]):
            inside = _in_a_step(site, [statement.test, *args])
        case _:
            return None
    if inside is None:
        return None
    lifted, (test, *given) = inside
    error = ast.Raise(ast.Call(kind, given, []))
    return _step_with_effect(lifted, "checked", ast.unparse(ast.If(test, [error], [])))


def _in_a_step(
    site: Site, expressions: Sequence[ast.expr]
) -> tuple[Lifted, Sequence[ast.expr]] | None:
    """Several expressions lifted into one step, and each as the step's body has it."""
    lifted = lift(site, ast.Tuple([*expressions], ast.Load()))
    if lifted is None:
        return None
    return lifted, cast("ast.Tuple", ast.parse(lifted.body, mode="eval").body).elts


def _of_effect(site: Site, statement: ast.Expr) -> Advice | None:
    """`print(question)` as a step that prints."""
    lifted = lift(site, statement.value)
    return _step_with_effect(lifted, lifted.call.partition("(")[0], lifted.body) if lifted else None


def _step_with_effect(lifted: Lifted, name: str, does: str) -> Advice:
    """A step with the body `does`, which returns its first parameter that is a variable."""
    named = (each for each in lifted.parameters if each.argument.isidentifier())
    value = next(named, lifted.parameters[0])
    target = value.argument if value.argument.isidentifier() else "value"
    body = indent(does, "    ")
    return Advice(
        f"{target} = {name}({lifted.given})  # the step with this effect runs only if {target} "
        "is read",
        f"@step\ndef {name}({lifted.takes}){value.arrow}:\n{body}\n    return {value.name}",
    )


def _needed_path(site: Site, path: Path) -> Path:
    """The path to the expression whose value was needed.

    For a test, Python 3.11 gives the span of the whole statement; for the iterable of a
    comprehension, the span of the whole comprehension.
    """
    match path[-1]:
        case (  # pragma: no cover - 3.11
            ast.If() | ast.IfExp() | ast.While() | ast.Assert() as holder
        ):
            return (*path, holder.test)
        case ast.For() as holder:  # pragma: no cover - 3.11
            return (*path, holder.iter)
        case ast.AugAssign() as holder:
            return (*path, holder.value)
        case (  # pragma: no cover - 3.11
            ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp() as holder
        ):
            for generator in holder.generators:
                if wire_text(site, generator.iter) or any(_wires(site, generator.iter)):
                    return (*path, generator, generator.iter)
    return path


def _enclosing_paths(site: Site, path: Path) -> list[Path]:
    """The path, and the paths to larger expressions that need values too; the largest first."""
    ends = range(len(path) - 1, 0, -1)
    paths = [path]
    for end in takewhile(lambda end: _needs_inner(site, path[end - 1]), ends):
        unpacks = isinstance(path[end], ast.Starred) and not isinstance(path[end - 1], ast.Call)
        if unpacks or not isinstance(path[end - 1], _CONTAINERS):
            paths.insert(0, path[:end])
    return paths


def _needs_inner(site: Site, around: ast.AST) -> bool:
    """Whether the enclosing expression needs the value of the one inside it."""
    if isinstance(around, ast.Call):
        return not makes_graph(site, around)
    if isinstance(around, COMPREHENSIONS):
        return not makes_nodes_per_item(site, around)
    return isinstance(around, _OPERATORS + _CONTAINERS)


_LOAD = ast.Load()
_OPERATORS = (
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.JoinedStr,
    ast.Attribute,
    ast.Subscript,
)
_CONTAINERS = (
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Dict,
    ast.Starred,
    ast.Slice,
    ast.FormattedValue,
    ast.keyword,
    ast.comprehension,
)
"""Syntax that can stand between an operation and a larger one around it."""


# --- general advice ----------------------------------------------------------------------------

_IN_A_STEP = "some_step({wire})  # with `@step def some_step(value): ...` doing it"
_ROUTE = "route({wire}, {{...: ..., ...: ...}})  # each arm runs only if it is taken"
_GENERAL: Mapping[str, str] = {
    **dict.fromkeys(("be tested", "be compared", "be matched", "be looked up by"), _ROUTE),
    "be iterated": "each({wire}, some_step, at_once=8)  # some_step runs once for each item",
    "be turned into text": 'prompt("... {{name}} ...", name={wire})',
    "be awaited": "{wire}  # just pass it on: the step that reads it waits for it",
    "be changed": "some_step({wire})  # with a step that returns a changed copy",
    "be entered with `with`": "some_step({wire})  # with a step that enters it, and leaves it",
    "be copied": "{wire}  # it can be passed to as many steps as you like",
}


def _general_advice(act: str, name: str) -> str:
    return _GENERAL.get(act, _IN_A_STEP).format(wire=name)
