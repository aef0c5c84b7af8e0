"""Checks what a step gives against its annotation: a mismatch is an error of the step itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from orchestra.annotations.acceptance import is_of
from orchestra.annotations.facts import spell
from orchestra.compiler.blocks.rereading import reread
from orchestra.compiler.blocks.slots import Operation
from orchestra.engine.calls.iterators import is_iterator
from orchestra.engine.lanes.lane import Lane
from orchestra.errors import EdgeTypeError
from orchestra.graph.nodes import Call
from orchestra.graph.steps import Step

if TYPE_CHECKING:
    from orchestra.engine.frames.frame import Frame


def checked_return(frame: Frame, operation: Operation[Call], value: object) -> object:
    """The value, checked to be of the class that the step is annotated to return.

    Its contents are checked by each reader. A coroutine is refused: nothing would await it.

    Raises:
        EdgeTypeError: it is of another class, a coroutine, or a stream that the step was given; or
            it is an iterator that is read more than once.
    """
    step = operation.node.step
    if iscoroutine(value):
        value.close()  # otherwise Python warns about it, without its line
        raise EdgeTypeError(
            f"the step returned {value!r:.200}, which nobody awaits; write `return await "
            f"{value.__name__}(...)`"
        )
    if isinstance(value, Lane):
        raise EdgeTypeError(
            "the step returned a stream that it was given, which ends with the step; yield its "
            "chunks (`async for chunk in stream: yield chunk`), or return a value made from them"
        )
    if isinstance(value, step.plain_classes) or is_of(step.returns, value):
        if is_iterator(value) and (readers := reread(frame.block, operation.slot)):
            raise EdgeTypeError(
                f"the step returned {value!r:.200}, which can be iterated only once, and has "
                f"several readers: {', '.join(readers)}; return a list, such as `list(...)` of it"
            )
        return value
    raise EdgeTypeError(
        f"the step is annotated `-> {spell(step.returns)}` and returned {value!r:.200}, "
        f"an instance of {type(value).__name__}; {_fix(value)}"
    )


def misfit_chunk(step: Step[..., Any], chunk: object) -> EdgeTypeError | None:
    """The error about a chunk that is not of the class that the step is annotated to yield."""
    if isinstance(chunk, step.plain_classes) or is_of(step.gives, chunk):
        return None
    return EdgeTypeError(
        f"the step is annotated to yield {spell(step.gives)} and yielded {chunk!r:.200}, an "
        f"instance of {type(chunk).__name__}; yield chunks of the annotated type, or correct the "
        "annotation"
    )


def _fix(value: object) -> str:
    if value is None:
        return "return a value on every path, or annotate that the result may be None"
    if isinstance(value, AsyncIterator):
        return "yield the chunks in the step itself, or collect them there"
    return "return a value of the annotated type, or correct the annotation"
