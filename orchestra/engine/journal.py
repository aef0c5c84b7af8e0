"""The journal of a run: its events in order, the last of them kept, and who reads them.

Rules of the file: appending never waits. Only the output waits, in `room`, and only for
readers that are attached and more than the window behind; so a slow client slows the
provider, and nobody else. A reader takes batches: what is ready together is taken together.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import trio

from orchestra.engine.output import Output
from orchestra.events import TERMINAL, Delta, Event, Snapshot
from orchestra.graph.policy import Limits

E = TypeVar("E", bound=Event)


class Journal:
    """The events of one run. Made, and written to, by the engine alone."""

    def __init__(self, limits: Limits, output: Output, now_s: Callable[[], float]) -> None:
        self.output = output
        self.ended = False
        self._limits = limits
        self._now_s = now_s
        self._events: list[Event] = []
        self._dropped = 0
        self._dropped_chunks = 0
        self._readers: list[Reader] = []
        self._writer: trio.Event | None = None

    @property
    def seq(self) -> int:
        """The number of the newest event, 0 before the first."""
        return self._dropped + len(self._events)

    @property
    def kept(self) -> tuple[Event, ...]:
        """The events that are still kept, oldest first."""
        return tuple(self._events)

    def append(self, event_type: Callable[..., E], *fields: object) -> E:
        """Add an event, giving it its number and time, and wake the readers."""
        events = self._events
        event = event_type(self._dropped + len(events) + 1, self._now_s(), *fields)
        events.append(event)
        if len(events) >= 2 * self._limits.journal_events:
            self._drop()
        if isinstance(event, TERMINAL):
            self.ended = True
        for reader in self._readers:
            reader.wake()
        return event

    async def room(self) -> None:
        """Wait until no attached reader is more than the window behind."""
        while any(self._lags(reader) for reader in self._readers):
            self._writer = self._writer or trio.Event()
            await self._writer.wait()

    def delta(self, chunk: object) -> None:
        """Add a chunk of the output.

        Raises:
            LimitExceededError: the output is over `output_chunks` or `output_bytes`.
        """
        size = self.output.add(chunk)
        for reader in self._readers:
            reader.behind_chunks += 1
            reader.behind_bytes += size
        self.append(Delta, chunk)

    def attach(self) -> Reader:
        """A reader that holds the run back while it lags; detach it by leaving its context."""
        reader = Reader(self)
        self._readers.append(reader)
        return reader

    def detach(self, reader: Reader) -> None:
        """Forget a reader: it holds nothing back any more."""
        if reader in self._readers:
            self._readers.remove(reader)
            self.read()

    def read(self) -> None:
        """A reader has caught up or gone: let the output go on if it may."""
        if self._writer is not None:
            self._writer.set()
            self._writer = None

    def newer(self, seq: int) -> tuple[Event, ...]:
        """The events after `seq`, behind a snapshot if some of them are no longer kept."""
        if seq >= self._dropped:
            return tuple(self._events[seq - self._dropped :])
        snapshot = Snapshot(
            self._dropped, self._now_s(), self.output.joined(upto=self._dropped_chunks)
        )
        return (snapshot, *self._events)

    def _lags(self, reader: Reader) -> bool:
        return (
            reader.behind_chunks >= self._limits.window_chunks
            or reader.behind_bytes >= self._limits.window_bytes
        )

    def _drop(self) -> None:
        """Forget the older half: rarely, so that it costs nothing per event."""
        keep = self._limits.journal_events
        gone = self._events[:-keep]
        del self._events[:-keep]
        self._dropped += len(gone)
        self._dropped_chunks += sum(isinstance(event, Delta) for event in gone)


class Reader:
    """One who follows a journal. A context manager: leaving it detaches."""

    __slots__ = ("_given", "_in_hand", "_journal", "_task", "behind_bytes", "behind_chunks")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._given = 0
        self._in_hand = (0, 0)
        self._task: trio.lowlevel.Task | None = None
        self.behind_chunks = 0
        self.behind_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._journal.detach(self)

    async def after(self, seq: int) -> tuple[Event, ...]:
        """The events newer than `seq`, waiting for one; empty once the run has ended.

        Asking acknowledges everything up to `seq`, which is what lets a held-back run go
        on. The first event is a `Snapshot` where some that were asked for are not kept. A
        batch rather than an iterator: nothing stays suspended when the reader goes away.
        """
        self._acknowledge(seq)
        journal = self._journal
        if journal.seq > seq or journal.ended:
            await trio.lowlevel.checkpoint()
        while journal.seq <= seq and not journal.ended:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        batch = journal.newer(seq)
        if batch:
            self._given = batch[-1].seq
            self._in_hand = (self.behind_chunks, self.behind_bytes)
        return batch

    def wake(self) -> None:
        """Something has been appended."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _acknowledge(self, seq: int) -> None:
        chunks, size = self._in_hand
        if seq >= self._given and chunks:
            self.behind_chunks -= chunks
            self.behind_bytes -= size
            self._in_hand = (0, 0)
            self._journal.read()

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

