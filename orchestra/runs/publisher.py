"""Publishes the runs of this process for other processes, in the state that they share.

The publisher writes the heartbeat of this process, answers the requests in its inbox, and publishes
the events of the runs that other processes follow.

If this process was suspended, or could not reach the state, others may have taken its runs for
lost. Those that nobody follows here are then cancelled: their ends would be paid for, and unknown.

Rules of the file: a remote follower does not slow down the run. It counts as a follower until it
has not renewed its request for `FORGOTTEN_S`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from orchestra.groups import stopping
from orchestra.protocols import Change, Entry
from orchestra.runs import inbox
from orchestra.runs.archive import Archive, live_key, record_of
from orchestra.runs.following import RENEW_S
from orchestra.runs.keeping import EVENT_BYTES
from orchestra.runs.local import LocalRuns
from orchestra.runs.record import EventLine, Fit, event_lines_of
from orchestra.runs.retrying import OutageLog

if TYPE_CHECKING:
    from orchestra.engine.run import Run

log = logging.getLogger("orchestra.runs")

TAKEN_FOR_LOST = "this process stood still or could not reach the state, and the run counts as lost"
FORGOTTEN_S = 3 * RENEW_S
BATCH_BYTES = 256 * 1024
"""The most bytes published under one key, unless a single event is larger."""
EVENT_MAX_BYTES = 4 * 1024 * 1024
"""The largest event that is published; followers get larger ones when the run has ended."""


class Followed:
    """A run of this process that another process follows."""

    __slots__ = ("run", "seq", "until_s")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.until_s = 0.0
        """When to stop publishing the run, unless a follower renews its request."""
        self.seq = run.journal.seq
        """The number of the newest event that is published."""


class Publisher:
    """Writes the heartbeat of this process, answers requests to it, and publishes its events."""

    def __init__(self, archive: Archive, process: str, local: LocalRuns, fit: Fit) -> None:
        self._archive = archive
        self._process = process
        self._local = local
        self._fit = fit
        self._followed: dict[str, Followed] = {}
        self._handled: frozenset[inbox.PeerRequest] = frozenset()
        """Handled requests that may still be in the inbox, and must not be handled again."""
        self._beats_at_s = trio.current_time()
        self._lapsed = False
        """Whether the heartbeat had expired, and runs that were lost then are not cancelled yet."""
        self._outage = OutageLog(
            "runs of this process cannot be followed elsewhere",
            "runs of this process can be followed elsewhere again",
        )

    async def serve(self) -> None:
        """Run rounds until cancelled; errors are logged, once per outage."""
        settings = self._archive.settings
        while True:
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001 - it is logged, and the next round tries again
                self._outage.failed(error)
            else:
                self._outage.succeeded()
            await trio.sleep(settings.publish_s if self._followed else settings.inbox_s)

    async def round(self) -> None:
        """Read the inbox, publish new events, and answer the requests.

        Raises:
            StateError: the state is unreachable; followers ask again for what was not published.
        """
        self._forget()
        entries = self._news()
        now_s, settings = trio.current_time(), self._archive.settings
        beats = now_s >= self._beats_at_s
        if beats:
            entries.update(inbox.heartbeat(self._process, settings.dead_after_s))
        at = inbox.inbox_key(self._process)
        take = partial(_take, at, self._handled, entries)
        requests, written_s = await self._archive.state.change([at], take)
        if beats:
            self._lapsed |= self._archive.own_heartbeat.beat(written_s)
            self._beats_at_s = now_s + settings.heartbeat_s
        answers: dict[str, Entry] = {}
        for request in requests:
            answers.update(self._answer(request))
        if answers:
            await self._archive.state.change([], lambda *_: Change(None, answers))
        self._handled = frozenset(requests)
        if self._lapsed:
            await self._cancel_lost()
            self._lapsed = False

    async def leave(self) -> None:
        """Remove the heartbeat and the inbox of this process.

        Raises:
            StateError: the state is unreachable; the heartbeat then expires by itself.
        """
        gone = {inbox.process_key(self._process): None, inbox.inbox_key(self._process): None}
        await self._archive.state.change([], lambda *_: Change(None, gone))

    async def _cancel_lost(self) -> None:
        """Cancel the runs that others have taken for lost, unless somebody follows them here."""
        alone = map(live_key, filter(self._alone, self._local.runs))
        records = map(record_of, await self._archive.read([*alone]))
        lost = [each.id for each in records if each is not None and each.lost]
        lost = [*filter(self._alone, lost)]  # somebody may have come back meanwhile
        for run_id in lost:
            self._local.runs[run_id].run.cancel(TAKEN_FOR_LOST)
        if lost:
            log.warning("runs cancelled, as others took them for lost meanwhile: %d", len(lost))

    def _alone(self, run_id: str) -> bool:
        """Whether it is a run of this process that nobody follows here, only elsewhere, if at all.

        The publisher of a run that is followed elsewhere counts as one reader.
        """
        local = self._local.runs.get(run_id)
        return local is not None and local.readers <= (run_id in self._followed)

    def _answer(self, request: inbox.PeerRequest) -> dict[str, Entry]:
        """Handle one request; the entries that answer it."""
        local = self._local.runs.get(request.run_id)
        if local is None:
            return {}
        if isinstance(request, inbox.CancelRequest):
            local.run.cancel(request.reason)
            return {}
        followed = self._followed.get(request.run_id)
        if followed is None:
            followed = Followed(local.run)
            self._followed[request.run_id] = followed
            self._local.attach(request.run_id)
        followed.until_s = trio.current_time() + FORGOTTEN_S
        return self._next(followed, request)

    def _next(self, followed: Followed, request: inbox.FollowRequest) -> dict[str, Entry]:
        """The batches from the follower's position to the end of what is published.

        A follower that is ahead of the journal is told the number to continue from.
        """
        run, end = followed.run, followed.seq
        if request.seq <= run.journal.seq:
            return self._published(run, request.seq, end)
        key = inbox.published_key(run.id, request.asker)
        return {key: inbox.entry(inbox.Published((), end))}

    def _news(self) -> dict[str, Entry | None]:
        """The events of followed runs that are not published yet."""
        entries: dict[str, Entry | None] = {}
        for followed in self._followed.values():
            newest = followed.run.journal.seq
            entries.update(self._published(followed.run, followed.seq, newest))
            followed.seq = newest
        return entries

    def _forget(self) -> None:
        """Stop publishing runs without followers, and runs whose last event is published."""
        now_s = trio.current_time()
        for run_id, followed in tuple(self._followed.items()):
            journal = followed.run.journal
            over = journal.ended and followed.seq == journal.seq
            if over or followed.until_s < now_s:
                del self._followed[run_id]
                self._local.leave(run_id)

    def _published(self, run: Run, after: int, upto: int) -> dict[str, Entry]:
        """The events of a run with numbers from `after + 1` to `upto`, in batches that are linked.

        Stops before an event larger than `EVENT_MAX_BYTES`.
        """
        entries: dict[str, Entry] = {}
        batch: list[EventLine] = []
        size_bytes = 0
        for event in self._lines(run, after) if after < upto else ():
            if event.seq > upto or len(event.data) > EVENT_MAX_BYTES:
                break
            if batch and size_bytes + len(event.data) > BATCH_BYTES:
                entries.update(_link(run.id, after, batch))
                after, batch, size_bytes = batch[-1].seq, [], 0
            batch.append(event)
            size_bytes += len(event.data) + EVENT_BYTES
        return {**entries, **_link(run.id, after, batch)}

    def _lines(self, run: Run, after: int) -> tuple[EventLine, ...]:
        """The lines of a run's events after number `after`; none if they cannot be encoded.

        The recorder logs that when the run ends; here it must not stop the events of other runs.
        """
        try:
            return event_lines_of(map(self._fit, run.journal.newer(after)), run.request_id)
        except BaseException as error:  # noqa: ASYNC103 - encoding a step's value may raise anything
            if stopping(error) is not None:
                raise
            return ()  # noqa: ASYNC104 - nothing is awaited in the try block


def _link(run_id: str, after: int, batch: Sequence[EventLine]) -> dict[str, Entry]:
    if not batch:
        return {}
    made = inbox.Published(tuple(batch), batch[-1].seq)
    return {inbox.published_key(run_id, after): inbox.entry(made)}


def _take(
    at: str,
    handled: frozenset[inbox.PeerRequest],
    entries: dict[str, Entry | None],
    stored: Sequence[bytes | None],
    now_s: float,
) -> Change[tuple[tuple[inbox.PeerRequest, ...], float]]:
    """Remove handled requests and write `entries`; returns the other requests, and `now_s`."""
    requests, taken = inbox.take(at, handled, stored[0])
    return Change((requests, now_s), {**entries, **taken})
