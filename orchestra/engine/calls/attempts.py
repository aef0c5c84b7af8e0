"""Attempts: a call made again where its policy says so.

Inside the step's `timeout_s` and outside its `first_chunk_s`: the one bounds all attempts and
the waits between them, the other each of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import trio

from orchestra.compiler.blocks.slots import Operation
from orchestra.events import StepRetried
from orchestra.graph.calls.raised import message_of
from orchestra.graph.nodes import Call
from orchestra.groups import single

if TYPE_CHECKING:
    from orchestra.engine.frames.frame import Frame
    from orchestra.graph.rules.policy import Retry

T = TypeVar("T")


async def retried(
    frame: Frame,
    operation: Operation[Call],
    rule: Retry,
    attempt: Callable[[], Awaitable[T]],
    passed_on: Callable[[], bool],
) -> T:
    """What the first attempt gives that does not fail.

    No attempt follows one that has `passed_on` output, nor one that was cancelled. What is
    passed on is what has left the step, wherever it went: also into the arm of a race that has
    not committed yet, since its reader has seen it.

    Raises:
        Exception: what the last attempt raised.
    """
    frame.run.retries.called()
    number = 1
    while True:  # to `attempts_max`: then there is no delay
        try:
            return await attempt()
        except Exception as error:
            delay_s = None if passed_on() else _delay_s(frame, operation, rule, number, error)
            if delay_s is None:
                raise
        await trio.sleep(delay_s)
        number += 1


def _delay_s(
    frame: Frame, operation: Operation[Call], rule: Retry, number: int, error: Exception
) -> float | None:
    """Seconds to wait before the next attempt, told in the journal; None if there is none."""
    run, path = frame.run, frame.path + operation.name
    own = single(error) if isinstance(error, BaseExceptionGroup) else error
    delay_s = run.retries.delay_s(rule, number, own)
    if delay_s is not None:
        name, message = type(own).__name__, message_of(own)
        run.journal.append(StepRetried, path, number, delay_s, name, message)
    return delay_s
