"""Shadowing: a local variable with the name of a step hides the step.

Python looks up a local name only in the function. So `summary = summary(text)` reads a variable
that has no value yet, and in `def p(summary)` a call of `summary` calls the input.
"""

from __future__ import annotations

import ast
import re
from types import FrameType

from orchestra.graph.source.decorated import Decorated
from orchestra.graph.source.frames import is_users, place
from orchestra.graph.source.site import Site

_UNBOUND = re.compile(r"cannot access local variable '(\w+)'")


def shadowed_by_wire(site: Site, frame: FrameType) -> str | None:
    """The message where a called wire hides a step of the same name; None in every other case."""
    match site.path[-1:]:
        case [ast.Call(func=ast.Name(id=name))] if name in frame.f_locals:
            return _shadowing_text(frame, name, frame.f_lineno, "a wire")
    return None


def shadowed_by_own_result(error: NameError) -> str | None:
    """The message where a step's result is assigned to the step's own name; None otherwise."""
    unbound, trace = _UNBOUND.match(str(error)), error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if unbound is None or trace is None or not is_users(trace.tb_frame.f_code.co_filename):
        return None
    return _shadowing_text(trace.tb_frame, unbound[1], trace.tb_lineno, "assigned")


def _shadowing_text(frame: FrameType, name: str, line: int, what: str) -> str | None:
    meant = frame.f_globals.get(name)
    if not isinstance(meant, Decorated):
        return None
    kind = type(meant).__name__.lower()
    return (
        f"{place(frame.f_code.co_filename, line)}: `{name}` is {what} in this function, which "
        f"hides the {kind} {name!r} of the module throughout; give the variable or the input "
        f"another name, such as `{name}_`, and call {name}(...)"
    )
