"""Handlers: `try` and `with` around calls of steps, which have no effect there.

A step that is called in a pipeline's function runs later, when that function has returned. So
a handler around the call sees neither the step's errors nor its time. The source is searched only
if Python has recorded a handler in the bytecode. `check` reports all of them, since an error raised
here could be caught by the very handler that is wrong.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import cast

from orchestra.graph.source.frames import is_users, place
from orchestra.graph.source.site import FUNCTIONS, Site, site_of
from orchestra.problem import Problem


def handlers_around(frame: FrameType | None, called: str) -> Iterator[Problem]:
    """The problems of handlers around the call of a step, from a frame out to the pipeline's.

    Frames of orchestra are passed over: the pipeline may be part of orchestra.
    """
    while frame is not None and frame.f_code.co_name != "_define":  # in `pipelines`
        code = frame.f_code
        if code.co_exceptiontable and is_users(code.co_filename):
            site = site_of(frame, frame.f_lasti)
            yield from _of_site(site, code.co_filename, f"{called}(...)")
        frame = frame.f_back


def handler_that_failed(trace: TracebackType | None) -> Problem | None:
    """The problem of a Trio cancel scope that raised an error on entry: what to write instead."""
    while trace is not None:
        code = trace.tb_frame.f_code
        if is_users(code.co_filename):
            site = site_of(trace.tb_frame, trace.tb_lasti)
            for node in site.path:
                if isinstance(node, ast.With) and _kind(site, node) is not None:
                    calls = (each for each in ast.walk(node.body[0]) if isinstance(each, ast.Call))
                    call = next(calls, None)
                    called = "its body" if call is None else f"{site.text(call.func)}(...)"
                    return _of_with(site, code.co_filename, node, call, called)
        trace = trace.tb_next
    return None


def _of_site(site: Site, filename: str, called: str) -> Iterator[Problem]:
    call = site.path[-1] if site.path and isinstance(site.path[-1], ast.Call) else None
    functions = (n for n, node in enumerate(site.path) if isinstance(node, FUNCTIONS))
    inside = max(functions, default=0)
    for outer, inner in zip(site.path[inside:], site.path[inside + 1 :], strict=False):
        if isinstance(outer, ast.Try | ast.TryStar) and inner in outer.body and outer.handlers:
            arm = _arm(site, inner, call, called)
            yield _of_try(site, filename, outer, arm, called)
        if isinstance(outer, ast.With) and inner in outer.body and _kind(site, outer) is not None:
            yield _of_with(site, filename, outer, call, called)


def _of_try(
    site: Site, filename: str, node: ast.Try | ast.TryStar, arm: str, called: str
) -> Problem:
    handler = node.handlers[0]
    errors = "Exception" if handler.type is None else site.text(handler.type)
    instead = "..."
    match handler.body:
        case [ast.Return(value=ast.expr() as given) | ast.Assign(value=given)]:
            instead = site.text(given)
    return Problem(
        "handler-unfit",
        place(filename, node.lineno),
        f"`except {errors}` catches no error of {called}, which runs later, when the pipeline runs",
        f"write `fallback({arm}, {instead}, on={errors})`, and keep the `try` around other code",
    )


def _arm(site: Site, statement: ast.AST, call: ast.Call | None, called: str) -> str:
    """The first arm of the fallback to write: the statement's value, or the call."""
    match statement:
        case (
            ast.Return(value=ast.expr() as whole)
            | ast.Assign(value=whole)
            | ast.AnnAssign(value=ast.expr() as whole)
        ):
            return site.text(whole)
    return site.text(call) if call is not None else called


_SCOPES = ("fail_after", "move_on_after", "fail_at", "move_on_at", "CancelScope")


def _kind(site: Site, node: ast.With) -> tuple[str, ast.Call] | None:
    """The name and call of `suppress`, or of a Trio timeout; None for every other `with`."""
    for item in node.items:
        call = item.context_expr
        if isinstance(call, ast.Call):
            meaning = site.meaning(call.func)
            name = str(getattr(meaning, "__name__", ""))
            module = str(getattr(meaning, "__module__", "")).partition(".")[0]
            if meaning is contextlib.suppress or (module == "trio" and name in _SCOPES):
                return name, call
    return None


def _of_with(
    site: Site, filename: str, node: ast.With, call: ast.Call | None, called: str
) -> Problem:
    name, scope = cast("tuple[str, ast.Call]", _kind(site, node))
    given = ", ".join(map(site.text, scope.args))
    if name == "suppress":
        errors = given if len(scope.args) == 1 else f"({given})"
        arm = _arm(site, node.body[0], call, called)
        what, fix = "suppresses no error", f"write `fallback({arm}, None, on={errors})`"
    else:
        seconds = given if name in ("fail_after", "move_on_after") else "..."
        arm = called
        if call is not None:
            function = site.text(call.func)
            arguments = site.text(call).removeprefix(function)
            arm = f"{function}.using(Policy(timeout_s={seconds})){arguments}"
        if name == "move_on_after":
            arm = f"fallback({arm}, None, on=DeadlineError)"
        what = "does not bound the time"
        fix = f"write `{arm}`, or @pipeline(deadline_s={seconds}) for all of it"
    message = f"`with {site.text(scope)}` {what} of {called}, which runs later, when the pipeline"
    return Problem("handler-unfit", place(filename, node.lineno), f"{message} runs", fix)
