"""Tasks: one for every operation that starts, and what the journal hears of it.

Each operation's life is told once: it started, and then finished, failed or was
cancelled. An error goes to the operation's scope, which stops what is beside it; a
`Cancelled` goes on to whoever cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import trio

from orchestra.engine import calls, choose, each
from orchestra.engine.groups import split
from orchestra.engine.outflow import Outflow
from orchestra.errors import describe
from orchestra.events import StepCancelled, StepFailed, StepFinished, StepStarted
from orchestra.compiler.blocks import Operation
from orchestra.graph.nodes import Call, Collect, Each, Fallback, Node, Race, Route
from orchestra.values import Usage

if TYPE_CHECKING:
    from orchestra.engine.frame import Frame

_VALUES: Mapping[type[Node], Callable[[Frame, Operation], Awaitable[object]]] = {
    Call: calls.call,
    Collect: calls.collect,
    Race: choose.race_values,
    Fallback: choose.race_values,
    Route: choose.route_value,
    Each: each.each_of_list,
}
_STREAMS: Mapping[type[Node], Callable[[Frame, Operation, Outflow], Awaitable[None]]] = {
    Call: calls.stream,
    Race: choose.race_streams,
    Fallback: choose.race_streams,
    Route: choose.route_stream,
    Each: each.each_of_stream,
}


async def give_value(frame: Frame, operation: Operation) -> None:
    """The task of an operation that gives one value."""
    began_s = await _started(frame, operation)
    try:
        value = await _VALUES[type(operation.node)](frame, operation)
    except BaseException as error:
        onward = _unfinished(frame, operation, error, "")
        if onward is not None:
            raise onward from onward.__cause__
    else:
        _finished(frame, operation, began_s)
        frame.deliver(operation, value)
    finally:
        frame.leave(operation)


async def give_stream(frame: Frame, operation: Operation) -> None:
    """The task of an operation that gives chunks; it is stopped when nobody reads them."""
    began_s = await _started(frame, operation)
    outflow = Outflow(frame.run.now_s)
    with trio.CancelScope() as unread:
        try:
            outflow.open(frame.open_lanes(operation, unread.cancel))
            await _STREAMS[type(operation.node)](frame, operation, outflow)
        except BaseException as error:
            reason = "nobody reads its stream any more" if outflow.unread else ""
            onward = _unfinished(frame, operation, error, reason)
            if onward is not None:
                raise onward from onward.__cause__
        else:
            outflow.close()
            _finished(frame, operation, began_s, outflow)
        finally:
            frame.leave(operation)
            frame.run.lane_peak = max(frame.run.lane_peak, outflow.peak)


def run_plain(frame: Frame, operation: Operation) -> None:
    """A plain step, run on the spot."""
    began_s = frame.run.journal.append(StepStarted, frame.path + operation.name).at_s
    try:
        value = calls.plain(frame, operation)
    except Exception as error:  # noqa: BLE001 - it goes to the scope
        _unfinished(frame, operation, error, "")
    else:
        _finished(frame, operation, began_s)
        frame.deliver(operation, value)


def task_of(operation: Operation) -> Callable[[Frame, Operation], Awaitable[None]]:
    """The task that runs an operation."""
    return give_value if operation.chunk is None else give_stream


async def _started(frame: Frame, operation: Operation) -> float:
    """Tell that an operation starts, and when; or that it was cancelled before it could."""
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
    except trio.Cancelled:
        reason = frame.scope_of(operation).stopped or frame.run.stopped
        frame.skip(operation, reason)
        raise
    return frame.run.journal.append(StepStarted, frame.path + operation.name).at_s


def _finished(
    frame: Frame, operation: Operation, began_s: float, outflow: Outflow | None = None
) -> None:
    run = frame.run
    path = frame.path + operation.name
    duration_s = run.now_s() - began_s
    usage = run.usages.pop(path, None)
    if outflow is None:
        run.journal.append(StepFinished, path, duration_s, None, None, usage)
    else:
        first_s = None if outflow.first_s is None else outflow.first_s - began_s
        run.journal.append(StepFinished, path, duration_s, outflow.chunks, first_s, usage)
    run.account(path, duration_s, usage)


def _unfinished(
    frame: Frame, operation: Operation, error: BaseException, reason: str
) -> BaseException | None:
    """Tell of an operation that did not finish; gives what has to be raised on."""
    run, scope = frame.run, frame.scope_of(operation)
    path = frame.path + operation.name
    own, onward = split(error)
    if own is None:
        run.journal.append(StepCancelled, path, reason or scope.stopped or run.stopped)
    else:
        run.blame(own, path, operation.where)
        run.journal.append(StepFailed, path, type(own).__name__, str(own), operation.where)
        scope.fail(own)
    return onward
