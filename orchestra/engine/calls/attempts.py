"""Attempts: failed calls of steps are retried as their policy says.

Attempts are inside the step's `timeout_s`, which bounds all of them and the waits between them,
and outside its `first_chunk_s`, which bounds each of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import trio

from orchestra.compiler.blocks.slots import Operation
from orchestra.events import StepRetried
from orchestra.graph.calls.raised import name_and_message
from orchestra.graph.nodes import Call
from orchestra.groups import single
from orchestra.policies.account import Attempt

if TYPE_CHECKING:
    from orchestra.engine.frames.frame import Frame
    from orchestra.graph.rules.policy import Retry

T = TypeVar("T")


async def retried(
    frame: Frame,
    operation: Operation[Call],
    rule: Retry,
    call: Callable[[Attempt], Awaitable[T]],
    passed_on: Callable[[], bool],
) -> T:
    """The value of the first attempt that does not fail.

    There is no further attempt after one that has `passed_on` output, or after a cancellation.
    Output counts as passed on when it has left the step, even into the arm of a race that has
    not committed yet, since its reader has seen it.

    Raises:
        Exception: whatever the last attempt has raised.
    """
    frame.run.shared.retries.called()
    number, attempt = 1, Attempt()
    while True:  # at most `attempts_max` times: after the last, `delay_s` is None
        try:
            return await call(attempt)
        except Exception as error:
            delay_s = None if passed_on() else _delay_s(frame, operation, rule, number, error)
            if delay_s is None:
                raise
        await trio.sleep(delay_s)
        number, attempt = number + 1, attempt.next()


def _delay_s(
    frame: Frame, operation: Operation[Call], rule: Retry, number: int, error: Exception
) -> float | None:
    """Seconds to wait before the next attempt, recorded in the journal; None for no attempt."""
    run, path = frame.run, frame.path + operation.name
    own = single(error) if isinstance(error, BaseExceptionGroup) else error
    delay_s = run.shared.retries.delay_s(rule, number, own)
    if delay_s is not None:
        run.journal.append(StepRetried, path, number, delay_s, *name_and_message(own))
    return delay_s
