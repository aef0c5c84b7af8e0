"""Calls of steps: their function, their arguments, their deadlines.

Deadlines are scopes around exactly what they limit. `first_chunk_s` and `idle_s` cover
the wait for the producer's next chunk, not the wait for a reader to take it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio

from orchestra.engine.context import StepContext
from orchestra.engine.lane import Lane
from orchestra.engine.outflow import Outflow
from orchestra.engine.output import Output
from orchestra.engine.reading import arguments, read
from orchestra.errors import DeadlineError
from orchestra.compiler.blocks import Operation
from orchestra.graph.nodes import Call
from orchestra.graph.policy import Policy
from orchestra.graph.steps import Kind

if TYPE_CHECKING:
    from orchestra.engine.frame import Frame

_CLEANUP_S = 5.0  # for the `finally` blocks of a generator whose reader has left


async def call(frame: Frame, operation: Operation) -> object:
    """The value of a call of an async function, or of a plain one in a worker thread.

    Raises:
        DeadlineError: `timeout_s` has passed.
        Exception: whatever the function raises.
    """
    node = cast("Call", operation.node)
    function = _bound(frame, operation)
    if node.step.kind is Kind.THREAD:
        return await trio.to_thread.run_sync(function, limiter=frame.run.threads)
    timeout_s = node.policy.timeout_s
    if timeout_s is None:
        return await function()
    with trio.move_on_after(timeout_s) as scope:
        return await function()
    assert scope.cancelled_caught, "it returned otherwise"
    raise _too_late(frame, operation, "timeout_s", timeout_s)


def plain(frame: Frame, operation: Operation) -> object:
    """The value of a call of a plain function."""
    return _bound(frame, operation)()


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


async def stream(frame: Frame, operation: Operation, outflow: Outflow) -> None:
    """Put every chunk of a call of an async generator into the outflow.

    Cancelled, or left by every reader, the generator is closed where it stands.

    Raises:
        DeadlineError: `timeout_s`, `first_chunk_s` or `idle_s` has passed.
        Exception: whatever the generator raises.
    """
    node = cast("Call", operation.node)
    generator = _bound(frame, operation)()
    policy = node.policy
    if policy.timeout_s is policy.first_chunk_s is policy.idle_s is None:
        await _pump(generator, outflow)
    else:
        await _pump_timed(frame, operation, generator, outflow)


async def _pump(generator: AsyncGenerator[object, None], outflow: Outflow) -> None:
    try:
        async for chunk in generator:
            await outflow.put(chunk)
    except BaseException:
        await _close(generator)
        raise


async def _pump_timed(
    frame: Frame, operation: Operation, generator: AsyncGenerator[object, None], outflow: Outflow
) -> None:
    policy = cast("Call", operation.node).policy
    with trio.move_on_after(policy.timeout_s or float("inf")) as total:
        pull = trio.CancelScope()
        try:
            with pull:
                await _pull(generator, outflow, policy, pull)
                return
        except BaseException:
            await _close(generator)
            raise
        limit = "first_chunk_s" if outflow.first_s is None else "idle_s"
        raise _too_late(frame, operation, limit, getattr(policy, limit))
    assert total.cancelled_caught, "it returned or raised otherwise"
    raise _too_late(frame, operation, "timeout_s", cast("float", policy.timeout_s))


async def _pull(
    generator: AsyncGenerator[object, None],
    outflow: Outflow,
    policy: Policy,
    pull: trio.CancelScope,
) -> None:
    """Chunk after chunk, with `pull` due only while the producer is waited for."""
    never = float("inf")
    wait_s = policy.first_chunk_s
    while True:
        pull.deadline = never if wait_s is None else trio.current_time() + wait_s
        try:
            chunk = await anext(generator)
        except StopAsyncIteration:
            return
        pull.deadline = never
        await outflow.put(chunk)
        wait_s = policy.idle_s


async def _close(generator: AsyncGenerator[object, None]) -> None:
    """Run the `finally` blocks of a generator that was stopped between two chunks.

    No shield: a cancelled step may clean up, but waits for nothing it has not shielded.
    """
    with trio.move_on_after(_CLEANUP_S):
        await generator.aclose()


def _bound(frame: Frame, operation: Operation) -> Any:
    """The step's function with its arguments, and its context if it asks for one."""
    step = cast("Call", operation.node).step
    named = arguments(frame, operation)
    if step.injected is not None:
        named[step.injected] = frame.run.context(frame.path + operation.name)
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
