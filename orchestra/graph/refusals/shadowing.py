"""Shadowing: a variable of the function that has the name of a step, where the step was meant.

Python looks no further than the function: `summary = summary(text)` reads a variable that has no
value yet, and in `def p(summary)` the input would be called.
"""

from __future__ import annotations

import ast
import re
from types import FrameType

from orchestra.graph.source.frames import is_users, place
from orchestra.graph.source.site import Site

_UNBOUND = re.compile(r"cannot access local variable '(\w+)'")


def shadowed_by_wire(site: Site, frame: FrameType) -> str | None:
    """What to say where a wire is called, and a step of its name was meant; None for the rest."""
    match site.path[-1:]:
        case [ast.Call(func=ast.Name(id=name))] if name in frame.f_locals:
            return _shadowing_text(frame, name, frame.f_lineno, "a wire")
    return None


def shadowed_by_own_result(error: NameError) -> str | None:
    """What to say where a step's result has the step's own name; None for all other errors."""
    unbound, trace = _UNBOUND.match(str(error)), error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if unbound is None or trace is None or not is_users(trace.tb_frame.f_code.co_filename):
        return None
    return _shadowing_text(trace.tb_frame, unbound[1], trace.tb_lineno, "assigned")


def _shadowing_text(frame: FrameType, name: str, line: int, what: str) -> str | None:
    from orchestra.graph.pipelines import Pipeline  # which tell what is said here
    from orchestra.graph.steps import Step

    meant = frame.f_globals.get(name)
    if not isinstance(meant, Step | Pipeline):
        return None
    kind = type(meant).__name__.lower()
    return (
        f"{place(frame.f_code.co_filename, line)}: `{name}` is {what} in this function, which "
        f"hides the {kind} {name!r} of the module in all of it; give the variable or the input "
        f"another name, such as `{name}_`, and call {name}(...)"
    )
