"""What a step has returned, held against its annotation: its own mistake, and not its reader's."""

from __future__ import annotations

from inspect import isasyncgen, iscoroutine
from typing import Any

from orchestra.annotations.acceptance import is_of
from orchestra.annotations.facts import spell
from orchestra.errors import EdgeTypeError
from orchestra.graph.steps import Step


def returned(step: Step[..., Any], value: object) -> object:
    """The value, where it is of the class that the step is annotated to return.

    What it holds is looked at by who reads it. A coroutine is never a value: nobody would await it.

    Raises:
        EdgeTypeError: it is of another class.
    """
    if iscoroutine(value):
        value.close()  # or Python warns of it, without saying where
        raise EdgeTypeError(
            f"it returned {value!r:.200}, which nobody awaits; write `return await "
            f"{value.__qualname__}(...)`"
        )
    if isinstance(value, step.plain_returns) or is_of(step.returns, value):
        return value
    raise EdgeTypeError(
        f"it is annotated `-> {spell(step.returns)}` and returned {value!r:.200}, "
        f"an instance of {type(value).__name__}; {_fix(value)}"
    )


def _fix(value: object) -> str:
    if value is None:
        return "return a value on every path, or annotate that it may be None"
    if isasyncgen(value):
        return "yield in the step itself, or collect it there"
    return "return what it says, or annotate it as what it is"
