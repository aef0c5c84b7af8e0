"""Calls of steps: their function, their arguments, their attempts, their deadlines.

Deadlines are scopes around exactly what they limit. `first_chunk_s` and `idle_s` cover
the wait for the producer's next chunk, not the wait for a reader to take it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, cast

import trio

from orchestra.compiler.blocks import Operation
from orchestra.engine.attempts import attempted
from orchestra.engine.context import StepContext
from orchestra.engine.lane import Lane
from orchestra.engine.outflow import Outflow
from orchestra.engine.output import Output
from orchestra.engine.parking import parking
from orchestra.engine.reading import arguments, read
from orchestra.engine.returned import returned
from orchestra.errors import DeadlineError
from orchestra.graph.nodes import Call
from orchestra.graph.policy import Policy
from orchestra.graph.steps import Kind
from orchestra.policies.account import PRESENT

if TYPE_CHECKING:
    from orchestra.engine.frame import Frame

_NO_CHUNK = object()
_THROWN_MAX = 8  # scopes around one `yield` that may each end there; more, and it never ends


def call(frame: Frame, operation: Operation) -> Awaitable[object]:
    """The value of a call of an async function, or of a plain one in a worker thread.

    Raises:
        DeadlineError: `timeout_s` has passed.
        EdgeTypeError: the value is not of the class that the function is annotated to return.
        Exception: whatever the function raises.
    """
    attempt = partial(_call, frame, operation)
    return _timed(frame, operation, partial(attempted, frame, operation, attempt))


async def _call(frame: Frame, operation: Operation) -> object:
    function, step = _bound(frame, operation), cast("Call", operation.node).step
    if step.kind is Kind.THREAD:
        async with frame.run.threads.share(frame.run.caller.tenant) as threads:
            value = await trio.to_thread.run_sync(function, limiter=threads)
    else:
        value = await function()
    return value if type(value) is step.exact_return else returned(frame, operation, value)


def plain(frame: Frame, operation: Operation) -> object:
    """The value of a call of a plain function.

    Raises:
        EdgeTypeError: it is not of the class that the function is annotated to return.
        Exception: whatever the function raises.
    """
    value, step = _bound(frame, operation)(), cast("Call", operation.node).step
    return value if type(value) is step.exact_return else returned(frame, operation, value)


async def collect(frame: Frame, operation: Operation) -> object:
    """All chunks of a stream as one value.

    Raises:
        LimitExceededError: they are over `output_chunks` or `output_bytes`.
    """
    ((_, source),) = operation.sources
    lane = cast("Lane[object]", read(frame, source))
    output = Output(source.chunk, frame.run.limits)
    while batch := await lane.receive():
        for chunk in batch:
            output.add(chunk)
    return output.joined()


def stream(frame: Frame, operation: Operation, outflow: Outflow) -> Awaitable[object]:
    """Put every chunk of a call of an async generator into the outflow.

    However it ends, the generator has ended too: its `finally` blocks have run. Cancelled,
    they wait for nothing that they have not shielded.

    Raises:
        DeadlineError: `timeout_s`, `first_chunk_s` or `idle_s` has passed.
        Exception: whatever the generator raises.
    """
    flow = partial(_flow, frame, operation, outflow)
    return _timed(frame, operation, partial(attempted, frame, operation, flow, outflow.begun))


def _timed(
    frame: Frame, operation: Operation, work: Callable[[], Awaitable[object]]
) -> Awaitable[object]:
    """Within the step's `timeout_s`; what has none is given as it is.

    A coroutine around it takes 300 bytes, and would be there for as long as a stream.
    """
    timeout_s = cast("Call", operation.node).policy.timeout_s
    return work() if timeout_s is None else _in_time(frame, operation, work, timeout_s)


async def _in_time(
    frame: Frame, operation: Operation, work: Callable[[], Awaitable[object]], timeout_s: float
) -> object:
    with trio.move_on_after(timeout_s):
        return await work()
    raise _too_late(frame, operation, "timeout_s", timeout_s)


def _flow(frame: Frame, operation: Operation, outflow: Outflow) -> Awaitable[object]:
    policy = cast("Call", operation.node).policy
    generator = _bound(frame, operation)()
    if policy.first_chunk_s is policy.idle_s is None:
        return parking(_pump(generator, outflow, policy, None), outflow.parking)
    return _hurried(frame, operation, outflow, generator)


async def _hurried(
    frame: Frame,
    operation: Operation,
    outflow: Outflow,
    generator: AsyncGenerator[object, None],
) -> None:
    policy = cast("Call", operation.node).policy
    chunk: object = _NO_CHUNK
    async with aclosing(generator):
        while True:  # at most once for each chunk
            with trio.CancelScope() as pull:
                pumping = _pump(generator, outflow, policy, pull, chunk)
                chunk = await parking(pumping, outflow.parking)
                if chunk is _NO_CHUNK:
                    return
            if pull.cancelled_caught:
                break
    limit = "idle_s" if outflow.begun() else "first_chunk_s"
    raise _too_late(frame, operation, limit, getattr(policy, limit))


async def _pump(
    generator: AsyncGenerator[object, None],
    outflow: Outflow,
    policy: Policy,
    pull: trio.CancelScope | None,
    chunk: object = _NO_CHUNK,
) -> object:
    """Chunk after chunk, with `pull` due only while the producer is waited for.

    It gives back the chunk that the producer had when `pull` was over already, since nothing can
    wait in that any more; `_NO_CHUNK` at the end. One is put first, where it is given one.

    A `yield` is where the generator waits for its readers, so it is there that it sees a
    cancellation: as `Cancelled`, which nurseries and scopes around the `yield` understand.
    """
    resume: Callable[[Any], Awaitable[object]] = generator.asend
    argument, thrown = None, 0
    wait_s = policy.first_chunk_s if chunk is _NO_CHUNK else policy.idle_s
    async with aclosing(generator) if pull is None else nullcontext():  # else it goes on behind it
        while True:  # noqa: ASYNC913 - a lane is one, at least once in every bound
            if chunk is _NO_CHUNK:
                if pull is not None:
                    pull.deadline = inf if wait_s is None else trio.current_time() + wait_s
                try:
                    chunk = await resume(argument)
                except StopAsyncIteration:
                    return _NO_CHUNK
                if pull is not None:
                    if pull.cancel_called:
                        return chunk
                    pull.deadline, wait_s = inf, policy.idle_s
            try:
                await outflow.put_soon(chunk)
                resume, argument, thrown = generator.asend, None, 0
            except trio.Cancelled as cancelled:  # noqa: ASYNC103 - the generator raises it on
                if thrown == _THROWN_MAX:
                    raise
                resume, argument, thrown = generator.athrow, cancelled, thrown + 1
            chunk = _NO_CHUNK


def _bound(frame: Frame, operation: Operation) -> Any:
    """The step's function with its arguments, and its context if it asks for one."""
    step = cast("Call", operation.node).step
    named = arguments(frame, operation)
    if step.injected is not None:
        context = StepContext(frame.run, frame.path + operation.name)
        PRESENT.set(context)  # in this task, or in this plain step's copy of the variables
        named[step.injected] = context
    positional = step.positional(named)
    return partial(step.call, *positional, **named)


def _too_late(frame: Frame, operation: Operation, limit: str, value_s: float) -> DeadlineError:
    path = frame.path + operation.name
    what = {
        "timeout_s": "was not done",
        "first_chunk_s": "gave no chunk",
        "idle_s": "gave no further chunk",
    }[limit]
    return DeadlineError(f"step {path!r} {what} within {limit}={value_s:g} s", limit=limit)
