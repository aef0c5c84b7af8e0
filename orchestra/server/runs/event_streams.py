"""A run's events as a response: written to one client batch by batch, with heartbeats."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from quart import request
from quart.wrappers.response import DataBody
from quart_trio.wrappers import TrioResponse as Response

from orchestra.graph.nodes import is_stream
from orchestra.server import sse
from orchestra.server.front.departure import when_over
from orchestra.server.responses.whole_answers import Pairs
from orchestra.server.runs.fit_events import fit_for_clients, without_result

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.graph.pipelines import Pipeline
    from orchestra.server.connections.bodies import Body
    from orchestra.server.settings import Settings


class EventStream(Response):
    """A response whose body is a stream of events."""

    def __init__(self, events: Events, headers: Mapping[str, str] | None = None) -> None:
        pairs = [*sse.HEADERS.items(), *(headers or {}).items()]
        if events.minimal:
            from orchestra.server.runs.preferences import APPLIED, MINIMAL

            pairs.append((APPLIED, MINIMAL))
        super().__init__(DataBody(b""), headers=Pairs(pairs))
        self.events = events
        when_over(events.leave)


class Events:
    """A run's events, written to one client batch by batch.

    If `minimal`, the result in the last event is null: the client has had all of its chunks.
    """

    __slots__ = (
        "_debug",
        "_heartbeat_s",
        "_prefix",
        "_reader",
        "_run",
        "_seq",
        "_wrote_s",
        "minimal",
    )
    heartbeat = sse.HEARTBEAT

    def __init__(self, run: Run, settings: Settings, *, minimal: bool = False) -> None:
        self.minimal = minimal
        self._run = run
        self._prefix = sse.resuming_at(run.id)
        """What precedes an event's number in its frame's id."""
        self._reader = run.journal.attach()
        self._heartbeat_s = settings.heartbeat_s
        self._debug = settings.debug
        self._seq = 0
        self._wrote_s = 0.0

    async def write(self, body: Body) -> None:
        """Send the events as they arrive, and a heartbeat after `heartbeat_s` without one.

        Cancellation detaches the reader and leaves nothing suspended.
        """
        hand = partial(self._hand, body, trio.lowlevel.current_clock())
        self._wrote_s = trio.current_time()
        with self._reader as reader:
            goes_on = True
            while goes_on:
                with trio.CancelScope(deadline=self._wrote_s + self._heartbeat_s):
                    goes_on = await reader.feed(self._seq, hand)
                # Flush outside the cancel scope: a due heartbeat must not cut off a send.
                if body.waits:
                    await body.flush()
                elif goes_on and trio.current_time() >= self._wrote_s + self._heartbeat_s:
                    await body(self.heartbeat)
                else:
                    continue
                self._wrote_s = trio.current_time()

    def leave(self) -> None:
        """Detach the reader, so that it no longer slows down the run. May be called again."""
        self._reader.__exit__(None, None, None)

    def _hand(self, body: Body, clock: trio.abc.Clock, batch: tuple[Any, ...]) -> bool:
        """Write a batch, in the task that made it ready; whether all of it was sent."""
        frames = self._frames(batch)
        self._wrote_s = clock.current_time()
        return body.write_nowait(frames)

    def _frames(self, batch: tuple[Any, ...]) -> bytes:
        self._seq = batch[-1].seq
        if self.minimal:
            batch = (*batch[:-1], without_result(batch[-1]))
        fit = [fit_for_clients(event, debug=self._debug) for event in batch]
        return sse.frames(fit, self._run.request_id, self._prefix)


def minimal(pipeline: Pipeline[..., Any] | None) -> bool:
    """Whether the current request declines the result after a stream, which repeats its chunks.

    A result that is a value is never left out, nor that of a run of a model (None).
    """
    prefer = request.headers.getlist("Prefer")
    if not prefer or pipeline is None or not is_stream(pipeline.output):
        return False
    from orchestra.server.runs.preferences import prefers_minimal

    return prefers_minimal(",".join(prefer))
