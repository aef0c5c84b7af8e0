"""Followers of a run, whether it runs in this process, in another one, or has ended.

A follower has the contract of a journal's reader: `after(seq)` waits for newer events and returns
them in batches. A batch is empty once the run has ended, and starts with a snapshot in place of
events that are no longer kept. Leaving the context closes the follower.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import trio

from orchestra.closing import Closing
from orchestra.protocols import Change
from orchestra.runs import inbox
from orchestra.runs.archive import Archive, live_key, record_of
from orchestra.runs.record import EventLine, Fit, Record, event_lines_of, last_of_lost, newer

if TYPE_CHECKING:
    from orchestra.engine.run import Run

RENEW_S = 1.0
"""How often a remote follower repeats its request, which also shows that it is still there."""


class Follower(Closing):
    """Follows a run until its context is left."""

    @abstractmethod
    def close(self) -> None:
        """Stop following; a second call changes nothing."""

    @abstractmethod
    async def after(self, seq: int) -> tuple[EventLine, ...]:
        """The events newer than `seq`, waiting for one; empty once the run has ended.

        The first event is a `snapshot` if some of them are no longer kept. A `seq` greater than the
        number of the newest event counts as that number.

        Raises:
            RunLostError: some of the events are no longer kept, and there is no snapshot.
            StateError: the run is in another process, and the state is unreachable.
        """

    async def feed(self, seq: int, hand: Callable[[tuple[EventLine, ...]], bool]) -> bool:
        """Call `hand` with each batch of events newer than `seq`, as they arrive.

        Returns True as soon as `hand` returns False, which means that its reader is full; returns
        False when the run has ended.

        Raises:
            RunLostError: as for `after`.
            StateError: as for `after`.
        """
        while batch := await self.after(seq):
            seq = batch[-1].seq
            if not hand(batch):
                return True
        return False

    async def last(self, seq: int = 0) -> EventLine | None:
        """Wait for the end of the run and return its last event; None if it is not after `seq`.

        Raises:
            RunLostError: as for `after`.
            StateError: as for `after`.
        """
        last: EventLine | None = None
        while batch := await self.after(seq):
            last = batch[-1]
            seq = last.seq
        return last


class LocalFollower(Follower):
    """Follows a run of this process; a slow follower slows down the run (backpressure)."""

    def __init__(self, run: Run, fit: Fit, left: Callable[[], None]) -> None:
        self._reader = run.journal.attach()
        self._request_id = run.request_id
        self._fit = fit
        self._left = left

    def close(self) -> None:
        if self._reader.attached:
            self._reader.__exit__(None, None, None)
            self._left()

    async def after(self, seq: int) -> tuple[EventLine, ...]:
        return event_lines_of(map(self._fit, await self._reader.after(seq)), self._request_id)


class ArchiveFollower(Follower):
    """Reads the kept events of an ended run."""

    def __init__(self, record: Record, kept: Sequence[EventLine]) -> None:
        self._record = record
        self._kept = kept

    def close(self) -> None:
        """Do nothing: an ended run has nothing to release."""

    async def after(self, seq: int) -> tuple[EventLine, ...]:
        await trio.lowlevel.checkpoint()
        return newer(self._kept, max(seq, 0), self._record)


class RemoteFollower(Follower):
    """Follows a run of another process, which publishes its events in the state."""

    def __init__(self, archive: Archive, record: Record, fit: Fit) -> None:
        self._archive = archive
        self._fit = fit
        self._record = record
        self._kept: Follower | None = None
        self._asker = secrets.token_hex(8)
        self._asks_at_s = trio.current_time()

    def close(self) -> None:
        """Do nothing: the run's process forgets a follower that does not repeat its request."""

    async def after(self, seq: int) -> tuple[EventLine, ...]:
        seq = max(seq, 0)
        while self._kept is None:
            look = await self._look(seq)
            if look.events:
                return look.events
            if look.end is not None:
                seq, self._asker = look.end, secrets.token_hex(8)
            elif look.goes_on:
                await self._ask(seq)
                await trio.sleep(self._archive.settings.publish_s)
            elif (kept := await self._find_kept()) is not None:
                self._kept = kept
            else:  # the run goes on: the heartbeat of its process is only late
                await trio.sleep(self._archive.settings.publish_s)
        return await self._kept.after(seq)

    async def _look(self, seq: int) -> Look:
        """What the state has for this follower, which has the events up to `seq`."""
        run_id, process = self._record.id, self._record.process
        published = (inbox.published_key(run_id, each) for each in (seq, self._asker))
        keys = [*published, live_key(run_id), inbox.process_key(process)]
        return await self._archive.ask(keys, _seen)

    async def _ask(self, seq: int) -> None:
        """Ask the run's process for events, at most every `RENEW_S`: a request may be lost."""
        if trio.current_time() < self._asks_at_s:
            return
        self._asks_at_s = trio.current_time() + RENEW_S
        request = inbox.FollowRequest(self._record.id, seq, self._asker)
        await self._archive.send(self._record.process, request)

    async def _find_kept(self) -> Follower | None:
        """A follower of the kept events; None if the run is still in progress."""
        found = await self._archive.record(self._record.id)
        if found is None:
            return ArchiveFollower(self._record, ())
        return await follow_kept(self._archive, found, self._fit) if found.ended else None


async def follow_kept(archive: Archive, record: Record, fit: Fit) -> Follower:
    """A follower of the kept events of an ended run; `fit` is for the end of a lost one.

    Raises:
        StateError: the state is unreachable.
    """
    kept = last_of_lost(record, fit) if record.lost else await archive.events(record.id)
    return ArchiveFollower(record, kept)


class Look(msgspec.Struct, frozen=True):
    """What the state has for a remote follower."""

    events: tuple[EventLine, ...]
    end: int | None
    """The number to continue from, if the follower was ahead of the journal."""
    goes_on: bool
    """Whether the run is in progress, in a process with a heartbeat."""


def _seen(stored: Sequence[bytes | None], _: float) -> Change[Look]:
    events, answer, live, heartbeat = stored
    batch, reply, record = inbox.published(events), inbox.published(answer), record_of(live)
    goes_on = record is not None and not record.ended and heartbeat is not None
    return Change(Look(batch.events if batch else (), reply.upto if reply else None, goes_on))
