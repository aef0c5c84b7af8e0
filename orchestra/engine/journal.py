"""The journal of a run: its events in order, the last of which are kept, and its readers.

Rules of the file: appending never waits. Only the output waits, in `room`, and only for
attached readers that are more than the window behind. So a slow client slows its provider
and nothing else. A reader takes batches: events that are ready together are taken together.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable
from operator import itemgetter
from typing import Self, TypeAlias, TypeVar

import trio

from orchestra.engine.lanes.output import Output
from orchestra.events import TERMINAL, ArmRestarted, Delta, Event, Snapshot
from orchestra.graph.rules.policy import Limits
from orchestra.groups import stopping

log = logging.getLogger("orchestra.engine")

E = TypeVar("E", bound=Event)
Observer: TypeAlias = Callable[[Event], None]
"""Called at once with each event of a run, except the chunks of its output; must not block."""


class Journal:
    """The events of one run. Only the engine makes it and writes to it."""

    __slots__ = (
        "_began_s",
        "_clock",
        "_dropped",
        "_dropped_chunks",
        "_dropped_restarts",
        "_dropped_s",
        "_events",
        "_first_chunk_s",
        "_full",
        "_limits",
        "_observer",
        "_posted",
        "_readers",
        "_restarted",
        "_untold",
        "_writer",
        "ended",
        "output",
    )

    def __init__(
        self, limits: Limits, output: Output, began_s: float, observer: Observer | None = None
    ) -> None:
        self.output = output
        self.ended = False
        self._observer = observer
        self._limits = limits
        self._full = 2 * limits.journal_events
        self._began_s = began_s
        self._clock = trio.lowlevel.current_clock()  # kept, since it is read for each token
        self._events: list[Event] = []
        self._dropped = 0
        self._dropped_chunks = 0
        self._dropped_restarts = 0
        self._restarted = 0
        self._dropped_s = 0.0
        self._first_chunk_s: float | None = None  # set when that chunk's event is dropped
        self._posted: list[tuple[Callable[..., Event], tuple[object, ...]]] = []
        self._readers: list[Reader] = []
        self._untold = False  # whether readers have not been woken for the last chunk
        self._writer: trio.Event | None = None

    @property
    def seq(self) -> int:
        """The number of the newest event, 0 before the first."""
        return self._dropped + len(self._events)

    def now_s(self) -> float:
        """Seconds since the run began."""
        return self._clock.current_time() - self._began_s

    @property
    def first_chunk_s(self) -> float | None:
        """The time of the output's first chunk, in seconds since the start of the run, or None."""
        if self._first_chunk_s is not None:
            return self._first_chunk_s
        return next((event.at_s for event in self._events if isinstance(event, Delta)), None)

    @property
    def kept(self) -> tuple[Event, ...]:
        """The events still kept, oldest first."""
        return tuple(self._events)

    @property
    def last(self) -> Event:
        """The newest event; there is always one, once the run has begun."""
        return self._events[-1]

    def append(self, event_type: Callable[..., E], *fields: object) -> E:
        """Add an event with its number and time, and wake the readers."""
        if self._posted:  # earlier, by threads
            self.take_posted()
        return self._append(event_type, fields)

    def post(self, event_type: Callable[..., Event], *fields: object) -> None:
        """Queue an event, to be added before the next one or by `take_posted`; from any thread."""
        self._posted.append((event_type, fields))

    def take_posted(self) -> None:
        """Add the posted events; after the end of the run they are dropped."""
        while self._posted and not self.ended:
            self._append(*self._posted.pop(0))

    def _append(self, event_type: Callable[..., E], fields: tuple[object, ...]) -> E:
        events = self._events
        event = event_type(len(events) + self._dropped + 1, self.now_s(), *fields)
        events.append(event)
        if len(events) >= self._full:
            self._drop()
        if isinstance(event, TERMINAL):
            self.ended = True
        untold, self._untold = self._untold, False
        for reader in self._readers:
            if untold or self.ended or not reader.awaits_content:
                reader.wake()
        if self._observer is not None:
            self._tell(self._observer, event)
        return event

    def _tell(self, observer: Observer, event: Event) -> None:
        try:
            observer(event)
        except BaseException as error:  # noqa: ASYNC103 - nothing is awaited here
            self._observer = None
            if stopping(error) is not None:
                raise
            log.exception("an observer failed, and gets no more events of this run")

    def push(self) -> None:
        """Wake the readers for added chunks. Never raises, and never waits.

        A reader with a hand takes the chunks now, in this task.
        """
        if self._untold:
            self._untold = False
            for reader in self._readers:
                reader.push()

    async def room(self) -> None:
        """Wait until no attached reader is more than the window behind."""
        self.push()  # first: a hand may make room, and must not wake a task that does not wait yet
        while self.held:
            self._writer = trio.Event()
            await self._writer.wait()

    def delta_soon(self, chunk: object) -> None:
        """Add a chunk of the output; readers are woken by the next `push`, or event.

        Raises:
            LimitExceededError: the output exceeds `output_chunks` or `output_bytes`.
        """
        size = self.output.add(chunk)
        events = self._events
        seq = self._dropped + len(events) + 1
        for reader in self._readers:
            reader.given(seq, size)
        events.append(Delta(seq, self.now_s(), chunk))
        if len(events) >= self._full:
            self._drop()
        self._untold = True

    def restart(self, step: str, arm: str) -> None:
        """Drop the output so far: the following chunks replace it. Adds an event for readers."""
        self.take_posted()
        self.output.clear()
        self._restarted = self.seq + 1
        self._dropped_chunks = 0
        self.append(ArmRestarted, step, arm)

    def attach(self) -> Reader:
        """A new reader, which holds the output back while it lags; its context detaches it."""
        reader = Reader(self)
        self._readers.append(reader)
        return reader

    def detach(self, reader: Reader) -> None:
        """Remove a reader: it no longer holds the run back."""
        if reader.attached:
            reader.attached = False
            self._readers.remove(reader)
            reader.wake()
            self.resume()

    def resume(self) -> None:
        """Let the output continue if it may; called when a reader has caught up or left."""
        if self._writer is not None:
            self._writer.set()
            self._writer = None

    def newer(self, seq: int) -> tuple[Event, ...]:
        """The events after `seq`; a snapshot comes first if some of them are no longer kept."""
        seq = max(seq, 0)
        if seq >= self._dropped:
            return tuple(self._events[seq - self._dropped :])
        output = self.output.joined(upto=self._dropped_chunks)
        restarts = self._dropped_restarts
        return (Snapshot(self._dropped, self._dropped_s, output, restarts), *self._events)

    def whole(self) -> Snapshot:
        """A snapshot that replaces all events but the newest, which is the last of the run."""
        at_s = self._events[-1].at_s
        restarts = sum(isinstance(event, ArmRestarted) for event in self._events)
        output = self.output.joined()
        return Snapshot(self.seq - 1, at_s, output, self._dropped_restarts + restarts)

    @property
    def held(self) -> bool:
        """Whether the output has to wait for a reader."""
        for reader in self._readers:  # noqa: SIM110 - a generator would double the cost of a token
            if reader.lags(self._limits):
                return True
        return False

    def _drop(self) -> None:
        """Drop the older half of the events; rare, so its cost per event is negligible."""
        keep = self._limits.journal_events
        self._first_chunk_s = self.first_chunk_s
        gone = self._events[:-keep]
        del self._events[:-keep]
        self._dropped += len(gone)
        self._dropped_s = gone[-1].at_s
        self._dropped_chunks += sum(
            isinstance(event, Delta) and event.seq > self._restarted for event in gone
        )
        self._dropped_restarts += sum(isinstance(event, ArmRestarted) for event in gone)


Hand: TypeAlias = Callable[[tuple[Event, ...]], bool]
"""Takes a batch without waiting, and returns whether there is room for another."""


class Reader:
    """A reader of a journal. A context manager: leaving it detaches the reader."""

    __slots__ = (
        *("_error", "_full", "_hand", "_journal", "_seq", "_task", "_unread", "_unread_bytes"),
        *("attached", "awaits_content"),
    )

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._task: trio.lowlevel.Task | None = None
        self._unread: list[tuple[int, int]] = []
        """Number and size of each unacknowledged delta since it was attached."""
        self._unread_bytes = 0
        self._hand: Hand | None = None  # that of a waiting `feed`
        self._seq = 0
        self._full = False
        self._error: BaseException | None = None
        self.attached = True
        """Whether the run waits for this reader."""
        self.awaits_content = False
        """Set it to be woken by chunks and the end of the run only, and not by other events."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.detach(self)

    async def after(self, seq: int) -> tuple[Event, ...]:
        """Wait for events newer than `seq` and return them; empty once the run has ended.

        Asking acknowledges everything up to `seq`, which lets a held-back run continue. The first
        event is a `Snapshot` if some of those asked for are no longer kept. A `seq` above that
        of the newest event counts as the newest. A batch instead of an iterator: nothing stays
        suspended when the reader leaves.

        Raises:
            trio.ClosedResourceError: it is detached.
            trio.BusyResourceError: another task waits here already.
        """
        journal = self._journal
        seq = min(max(seq, 0), journal.seq)
        self._acknowledge(seq)
        if journal.seq > seq or journal.ended:
            await trio.lowlevel.checkpoint()
        while journal.seq <= seq and not journal.ended and self.attached:
            await self._wait()
        if not self.attached:
            raise _detached()
        return journal.newer(seq)

    async def feed(self, seq: int, hand: Hand) -> bool:
        """Hand over the events newer than `seq`, batch by batch, as they come.

        It ends when `hand` is full or the run has ended; returns whether the run continues. While
        this waits, the task that adds events calls `hand`. So `hand` must neither wait nor block
        other tasks; its exceptions are raised here. A batch is acknowledged when `hand` has
        room after it, otherwise by the next call. `seq` and snapshots are as in `after`.

        Raises:
            trio.ClosedResourceError: it is detached.
            trio.BusyResourceError: another task waits here already.
        """
        journal = self._journal
        self._seq = min(max(seq, 0), journal.seq)
        self._acknowledge(self._seq)
        self._full = waited = False
        while True:
            while journal.seq > self._seq and self.attached:
                if not self._handed(hand):
                    return True
            if journal.ended or not self.attached:
                break
            self._hand, waited = hand, True
            try:
                await self._wait()
            finally:
                self._hand = None
            error, self._error = self._error, None
            if error is not None:
                raise error
            if self._full:
                return True
        if not self.attached:
            raise _detached()
        if not waited:
            await trio.lowlevel.checkpoint()
        return False

    def push(self) -> None:
        """Hand over added chunks, or wake the task that waits for them."""
        if self._hand is not None and self._task is not None:
            try:
                if self._handed(self._hand):
                    return
                self._full = True
            except BaseException as error:  # noqa: ASYNC103, BLE001 - it is raised in `feed`
                self._error = error
        self.wake()

    def _handed(self, hand: Hand) -> bool:
        """Hand over all new events; returns whether there is room for more."""
        batch = self._journal.newer(self._seq)
        self._seq = batch[-1].seq
        if not hand(batch):
            return False
        self._acknowledge(self._seq)
        return True

    def wake(self) -> None:
        """Wake the waiting task: an event has been appended."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def given(self, seq: int, size: int) -> None:
        """Count an appended delta of this number and size."""
        self._unread.append((seq, size))
        self._unread_bytes += size

    def lags(self, limits: Limits) -> bool:
        """Whether the reader is a whole window behind."""
        return (
            len(self._unread) >= limits.window_chunks or self._unread_bytes >= limits.window_bytes
        )

    def _acknowledge(self, seq: int) -> None:
        unread = self._unread
        if unread and unread[-1][0] <= seq:  # true of nearly all calls
            unread.clear()
            self._unread_bytes = 0
        else:
            read = bisect_right(unread, seq, key=itemgetter(0))
            self._unread_bytes -= sum(size for _, size in unread[:read])
            del unread[:read]
        self._journal.resume()

    async def _wait(self) -> None:
        if self._task is not None:
            raise trio.BusyResourceError("two tasks wait on one reader; attach another")
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


def _detached() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("this reader of a journal is detached; attach another")
