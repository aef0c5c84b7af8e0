"""Calls of steps: the function, its arguments, the attempts and their deadlines.

Each deadline is a cancel scope around exactly what it limits. `first_chunk_s` and `idle_s` cover
the wait for the producer's next chunk, not the wait for a reader to take it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import ref

import trio

from orchestra.compiler.blocks.slots import Operation
from orchestra.engine.calls.attempts import retried
from orchestra.engine.calls.children import Parent
from orchestra.engine.calls.context import StepContext
from orchestra.engine.calls.return_check import checked_return, misfit_chunk
from orchestra.engine.frames.reading import arguments, collected
from orchestra.engine.lanes.outflow import Outflow
from orchestra.engine.lanes.parking import parking
from orchestra.errors import DeadlineError
from orchestra.graph.nodes import Call, Collect
from orchestra.graph.rules.policy import Policy
from orchestra.graph.steps import Kind, Step
from orchestra.policies.account import PRESENT, Attempt
from orchestra.policies.limits.shares import LENT, in_thread

if TYPE_CHECKING:
    from orchestra.engine.frames.frame import Frame

_THROWN_MAX = 8  # errors that a generator may catch at one `yield`; bounds a loop


def call(frame: Frame, operation: Operation[Call]) -> Awaitable[object]:
    """Call an async function, or a plain one in a worker thread, and return its value.

    Raises:
        DeadlineError: `timeout_s` has passed.
        EdgeTypeError: the value is not of the annotated class.
        Exception: whatever the function raises.
    """
    return _within_policy(frame, operation, partial(_call, frame, operation))


async def _call(frame: Frame, operation: Operation[Call], attempt: Attempt | None = None) -> object:
    function, step = _bound(frame, operation, attempt), operation.node.step
    if step.kind is Kind.THREAD:
        value = await _in_thread(frame, function)
    else:
        value = await function()
    return value if type(value) is step.exact_class else checked_return(frame, operation, value)


async def _in_thread(frame: Frame, function: Callable[[], object]) -> object:
    """Call a function in a thread, within the caller's share of them."""
    LENT.set(frame.nesting.lent)
    return await in_thread(frame.run.shared.threads, frame.run.caller.fairness_key, function)


def plain(frame: Frame, operation: Operation[Call]) -> object:
    """Call a plain function and return its value.

    Raises:
        EdgeTypeError: the value is not of the annotated class.
        Exception: whatever the function raises.
    """
    value, step = _bound(frame, operation)(), operation.node.step
    return value if type(value) is step.exact_class else checked_return(frame, operation, value)


async def collect(frame: Frame, operation: Operation[Collect]) -> object:
    """All chunks of a stream as one value.

    Raises:
        LimitExceededError: the chunks exceed `output_chunks` or `output_bytes`.
    """
    ((_, source),) = operation.sources
    return await collected(frame, source)


def stream(frame: Frame, operation: Operation[Call], outflow: Outflow) -> Awaitable[object]:
    """Call an async generator and put every chunk into the outflow.

    However this ends, the generator has ended too: its `finally` blocks have run. On a
    cancellation, they wait only for what they have shielded.

    Raises:
        DeadlineError: `timeout_s`, `first_chunk_s` or `idle_s` has passed.
        Exception: whatever the generator raises.
    """
    return _within_policy(
        frame, operation, partial(_flow, frame, operation, outflow), outflow.begun
    )


def _within_policy(
    frame: Frame,
    operation: Operation[Call],
    attempt: Callable[..., Awaitable[object]],
    passed_on: Callable[[], bool] = lambda: False,
) -> Awaitable[object]:
    """All attempts that the step's policy allows, within its `timeout_s`.

    Without retry and timeout, this is the attempt itself: a wrapping coroutine would hold 300
    bytes for as long as the stream lasts.
    """
    policy = operation.node.policy
    if policy.retry is not None:
        attempt = partial(retried, frame, operation, policy.retry, attempt, passed_on)
    if policy.timeout_s is None:
        return attempt()
    return _in_time(frame, operation, attempt, policy.timeout_s)


async def _in_time(
    frame: Frame,
    operation: Operation[Call],
    attempts: Callable[[], Awaitable[object]],
    timeout_s: float,
) -> object:
    with trio.move_on_after(timeout_s):
        return await attempts()
    raise _too_late(frame, operation, "timeout_s", timeout_s)


def _flow(
    frame: Frame, operation: Operation[Call], outflow: Outflow, attempt: Attempt | None = None
) -> Awaitable[object]:
    policy = operation.node.policy
    flow = _Flow(operation.node.step, _bound(frame, operation, attempt)(), outflow)
    if policy.first_chunk_s is policy.idle_s is None:
        return parking(_pump(flow), outflow.before_wait)
    return _hurried(frame, operation, flow, policy)


class _Flow:
    """The chunks of one call of a generator: `pull` waits for the next.

    Between two pulls, the generator is suspended at its `yield`. So a cancellation of what is
    waited for in between, with `at_yield`, is raised there, by the next `pull`: as `Cancelled`,
    which nurseries and cancel scopes around the `yield` expect. The same holds for the error about
    a chunk that is not of the annotated class: it is raised at the `yield`.
    """

    __slots__ = ("_argument", "_resume", "_step", "_thrown", "exact_class", "generator", "outflow")

    def __init__(
        self, step: Step[..., Any], generator: AsyncGenerator[object, None], outflow: Outflow
    ) -> None:
        self._step = step
        self.exact_class = step.exact_class
        self.generator = generator
        self.outflow = outflow
        self._resume: Callable[[Any], Awaitable[object]] = generator.asend
        self._argument: BaseException | None = None
        self._thrown = 0

    def pull(self) -> Awaitable[object]:
        """Wait for the next chunk. Raises StopAsyncIteration after the last."""
        return self._resume(self._argument)

    async def at_yield(self, waits: Awaitable[object]) -> None:
        """Wait between two pulls. If cancelled, this returns, for `pull` to raise it."""
        try:
            await waits
        except trio.Cancelled as cancelled:  # noqa: ASYNC103 - `pull` throws it into the generator
            self._throw(cancelled)
        else:
            if self._thrown:
                self._resume, self._argument, self._thrown = self.generator.asend, None, 0

    def accepts(self, chunk: object) -> bool:
        """Whether a chunk is of the annotated class; if it is not, `pull` raises that."""
        error = misfit_chunk(self._step, chunk)
        if error is not None:
            self._throw(error)
        return error is None

    def _throw(self, error: BaseException) -> None:
        if self._thrown == _THROWN_MAX:
            raise error
        self._resume, self._argument = self.generator.athrow, error
        self._thrown += 1


async def _pump(flow: _Flow) -> None:
    """Pass on all chunks."""
    put_soon, exact = flow.outflow.put_soon, flow.exact_class
    async with aclosing(flow.generator):
        with suppress(StopAsyncIteration):
            while True:
                chunk = await flow.pull()
                if type(chunk) is exact or flow.accepts(chunk):
                    await flow.at_yield(put_soon(chunk))


async def _hurried(frame: Frame, operation: Operation[Call], flow: _Flow, policy: Policy) -> None:
    """As `_pump`, with a time limit for each chunk.

    A cancel scope costs more than a chunk, so one scope serves all chunks until it expires.
    """
    outflow = flow.outflow
    async with aclosing(flow.generator):
        with suppress(StopAsyncIteration):
            while True:  # at most once for each chunk
                with trio.CancelScope() as pulling:
                    chunk = await parking(_pump_within(pulling, flow, policy), outflow.before_wait)
                if pulling.cancelled_caught:
                    idle = outflow.begun() and policy.idle_s is not None
                    limit = "idle_s" if idle else "first_chunk_s"
                    raise _too_late(frame, operation, limit, getattr(policy, limit))
                await parking(flow.at_yield(outflow.put_soon(chunk)), outflow.before_wait)


async def _pump_within(pulling: trio.CancelScope, flow: _Flow, policy: Policy) -> object:
    """Pass on chunks; the deadline of `pulling` is set only while a chunk is waited for.

    Returns the chunk that arrived at the moment when `pulling` expired. The caller has to put
    it, since nothing can wait in an expired scope. A generator with a scope of its own open at
    its `yield` is cancelled instead: `pulling` cannot be left before that scope. If that scope is
    shielded, it goes on until it leaves it. Raises StopAsyncIteration.
    """
    wait_s = policy.idle_s if flow.outflow.begun() else policy.first_chunk_s
    while True:  # noqa: ASYNC913 - a lane is one, at least once in every bound
        pulling.deadline = inf if wait_s is None else trio.current_time() + wait_s
        chunk = await flow.pull()
        pulling.deadline = inf  # before the next lines, which cancel a scope that is past it
        if not (type(chunk) is flow.exact_class or flow.accepts(chunk)):
            continue
        if not pulling.cancel_called:
            await flow.at_yield(flow.outflow.put_soon(chunk))
        elif _is_innermost(pulling):
            return chunk
        else:
            await flow.at_yield(_put_unless_cancelled(flow.outflow, chunk))
        wait_s = policy.idle_s


async def _put_unless_cancelled(outflow: Outflow, chunk: object) -> None:
    await trio.lowlevel.checkpoint()
    await outflow.put_soon(chunk)


def _is_innermost(scope: trio.CancelScope) -> bool:
    """Whether the current task has entered no other scope within this one that is still open."""
    status = "_cancel_status"  # private: if a later Trio has no such attribute, this is always true
    return getattr(trio.lowlevel.current_task(), status, None) is getattr(scope, status, None)


def _bound(frame: Frame, operation: Operation[Call], attempt: Attempt | None = None) -> Any:
    """The step's function with its arguments bound, and its context if it takes one."""
    step = operation.node.step
    named = arguments(frame, operation)
    if step.injected is not None:
        parent = Parent(frame, operation, ref(trio.lowlevel.current_task()))
        context = StepContext(parent, attempt=attempt)
        LENT.set(frame.nesting.lent)
        PRESENT.set(context)  # in this task, or in a plain step's copy of the context variables
        named[step.injected] = context
    positional = step.positional(named)
    return partial(step.call, *positional, **named)


def _too_late(
    frame: Frame, operation: Operation[Call], limit: str, value_s: float
) -> DeadlineError:
    path = frame.path + operation.name
    what = {
        "timeout_s": "was not done",
        "first_chunk_s": "gave no chunk",
        "idle_s": "gave no further chunk",
    }[limit]
    return DeadlineError(f"step {path!r} {what} within {limit}={value_s:g} s", limit=limit)
