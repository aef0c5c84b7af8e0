"""Tasks: one for every started operation, and the events about it in the journal.

Each operation has one start event, and then one end: finished, failed or cancelled. An error
goes to the operation's scope, which stops the other operations in it. `Cancelled` is always
re-raised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import trio

from orchestra.compiler.blocks.slots import Operation
from orchestra.engine.calls import calls
from orchestra.engine.lanes.outflow import Outflow
from orchestra.engine.regions import agree, choose, each
from orchestra.events import StepCancelled, StepFailed, StepFinished, StepStarted
from orchestra.graph.calls.raised import name_and_message
from orchestra.graph.control.agreeing import Quorum, Survivors
from orchestra.graph.nodes import Call, Collect, Each, Fallback, Node, Race, Route
from orchestra.groups import split_in_task, stopping

if TYPE_CHECKING:
    from orchestra.engine.frames.frame import Frame

_NO_SCOPE = nullcontext()

_VALUES: Mapping[type[Node], Callable[[Frame, Operation[Any]], Awaitable[object]]] = {
    Call: calls.call,
    Collect: calls.collect,
    Race: choose.race,
    Fallback: choose.race,
    Route: choose.route,
    Quorum: agree.quorum_value,
    Survivors: agree.surviving_values,
    Each: each.each_of_list,
}
_STREAMS: Mapping[type[Node], Callable[[Frame, Operation[Any], Outflow], Awaitable[object]]] = {
    Call: calls.stream,
    Race: choose.race,
    Fallback: choose.race,
    Route: choose.route,
    Each: each.each_of_stream,
}


async def give_value(frame: Frame, operation: Operation[Node]) -> None:
    """The task of an operation that gives one value."""
    began_s = await _started(frame, operation)
    try:
        value = await _VALUES[type(operation.node)](frame, operation)
    except BaseException as error:  # noqa: ASYNC103, BLE001 - `_unfinished` re-raises it
        _unfinished(frame, operation, error)
    else:
        _finished(frame, operation, began_s)
        frame.deliver(operation, value)
    finally:
        frame.leave(operation)


async def give_stream(frame: Frame, operation: Operation[Node]) -> None:
    """The task of an operation that gives chunks; cancelled when the last reader has left."""
    began_s = await _started(frame, operation)
    outflow = Outflow(frame.run.journal.now_s)
    # A scope takes 700 bytes, and the run's output is open as long as its client listens.
    unread = None if frame.feeds_output(operation) else trio.CancelScope()
    try:
        with unread or _NO_SCOPE:
            outflow.open(frame.open_lanes(operation, unread and unread.cancel))
            await _STREAMS[type(operation.node)](frame, operation, outflow)
    except BaseException as error:  # noqa: ASYNC103, BLE001 - `_unfinished` re-raises it
        _unfinished(frame, operation, error)
    else:
        if unread is not None and unread.cancelled_caught:
            _cancelled(frame, operation, "nobody reads its stream any more")
        else:
            outflow.close()
            _finished(frame, operation, began_s, outflow)
    finally:
        frame.leave(operation)
        frame.run.lane_peak = max(frame.run.lane_peak, outflow.peak)


def run_plain(frame: Frame, operation: Operation[Any]) -> None:
    """Run a plain step directly, with the run's context variables."""
    began_s = frame.run.journal.append(StepStarted, frame.path + operation.name).at_s
    try:
        value = frame.run.variables.copy().run(calls.plain, frame, operation)
    except BaseException as error:  # noqa: ASYNC103, BLE001 - `_unfinished` re-raises it
        _unfinished(frame, operation, error)
    else:
        _finished(frame, operation, began_s)
        frame.deliver(operation, value)
    finally:
        frame.leave(operation)


async def _started(frame: Frame, operation: Operation[Node]) -> float:
    """Record that an operation starts, and return the time; or that it was cancelled before."""
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
    except trio.Cancelled:
        frame.skip(operation, frame.stopped(operation))
        raise
    return frame.run.journal.append(StepStarted, frame.path + operation.name).at_s


def _finished(
    frame: Frame, operation: Operation[Node], began_s: float, outflow: Outflow | None = None
) -> None:
    run = frame.run
    path = frame.path + operation.name
    duration_s = run.journal.now_s() - began_s
    usage = run.settle_usage(path)
    if outflow is None:
        run.journal.append(StepFinished, path, duration_s, None, None, usage)
    else:
        first_s = None if outflow.first_s is None else outflow.first_s - began_s
        run.journal.append(StepFinished, path, duration_s, outflow.chunks, first_s, usage)
    run.keep_time(path, duration_s)


def _unfinished(frame: Frame, operation: Operation[Node], error: BaseException) -> None:
    """Record that an operation did not finish, and re-raise everything but its own error."""
    own, onward = split_in_task(error)
    culprit = stopping(onward)
    if culprit is not None:
        frame.run.interrupted(culprit)
    if own is None:
        _cancelled(frame, operation, frame.stopped(operation))
    else:
        _failed(frame, operation, own)
    try:
        if onward is not None:
            raise onward from onward.__cause__
    finally:
        del error, own, onward  # their tracebacks hold this frame, and so keep the run alive


def _cancelled(frame: Frame, operation: Operation[Node], reason: str) -> None:
    path = frame.path + operation.name
    usage = frame.run.settle_usage(path)
    frame.run.journal.append(StepCancelled, path, reason, usage)


def _failed(frame: Frame, operation: Operation[Node], error: Exception) -> None:
    run, path = frame.run, frame.path + operation.name
    children = frame.children.get(operation.slot)
    passed = [] if children is None else [each for each in children.failures if each.error is error]
    if passed:
        error = passed[-1]  # the step let it through; the innermost step is blamed
    failure = run.blame(error, path, operation.where)
    name, message = name_and_message(failure.error)
    usage = run.settle_usage(path)
    run.journal.append(StepFailed, path, name, message, operation.where, usage)
    frame.scope_of(operation).fail(failure)
