"""Checks a step's value against its annotation: a mismatch is an error of the step itself."""

from __future__ import annotations

from inspect import isasyncgen, iscoroutine
from typing import TYPE_CHECKING

from orchestra.annotations.acceptance import is_of
from orchestra.annotations.facts import spell
from orchestra.compiler.blocks.rereading import reread
from orchestra.compiler.blocks.slots import Operation
from orchestra.engine.calls.iterators import is_iterator
from orchestra.engine.lanes.lane import Lane
from orchestra.errors import EdgeTypeError
from orchestra.graph.nodes import Call

if TYPE_CHECKING:
    from orchestra.engine.frames.frame import Frame


def checked_return(frame: Frame, operation: Operation[Call], value: object) -> object:
    """The value, checked to be of the class that the step is annotated to return.

    The reader checks the contents. A coroutine is never a value: it would never be awaited.

    Raises:
        EdgeTypeError: it is of another class; or it is an iterator that is read more than once.
    """
    step = operation.node.step
    if iscoroutine(value):
        value.close()  # otherwise Python warns of it, without a place
        raise EdgeTypeError(
            f"it returned {value!r:.200}, which nobody awaits; write `return await "
            f"{value.__name__}(...)`"
        )
    if isinstance(value, Lane):
        raise EdgeTypeError(
            "it returned a stream that it was given, which ends with it; yield its chunks (`async "
            "for chunk in stream: yield chunk`), or return what they make"
        )
    if isinstance(value, step.plain_returns) or is_of(step.returns, value):
        if is_iterator(value) and (readers := reread(frame.block, operation.slot)):
            raise EdgeTypeError(
                f"it returned {value!r:.200}, which can be iterated only once, and has several "
                f"readers: {', '.join(readers)}; return a list, such as `list(...)` of it"
            )
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
