"""What a process does for the others while the state is shared.

It says that it is alive, reads its letters, and publishes the events of those of its runs that
somebody follows from elsewhere.

Rules of the file: a follower elsewhere holds nothing back, and counts as one who follows the run
until it has not been heard of for `FORGOTTEN_S`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from orchestra.protocols import Change, Entry
from orchestra.runs import mail
from orchestra.runs.archive import Archive
from orchestra.runs.following import RENEW_S
from orchestra.runs.keeping import EVENT_BYTES, Fit
from orchestra.runs.local import LocalRuns
from orchestra.runs.record import EventLine, event_lines_of
from orchestra.runs.recorder import unforeseen

if TYPE_CHECKING:
    from orchestra.engine.run import Run

log = logging.getLogger("orchestra.runs")

FORGOTTEN_S = 3 * RENEW_S
BATCH_BYTES = 256 * 1024
"""What is published under one key, but for a single event that is larger."""
EVENT_MAX_BYTES = 4 * 1024 * 1024
"""The largest event that is published; who needs a larger one has it when the run has ended."""


class Followed:
    """A run of this process that is followed from elsewhere."""

    __slots__ = ("run", "seq", "until_s")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.until_s = 0.0
        """When it is forgotten, if nobody asks for it again."""
        self.seq = run.journal.seq
        """The newest event that is published."""


class PostOffice:
    """The letters, the heartbeat and the publications of one process."""

    def __init__(self, archive: Archive, process: str, local: LocalRuns, fit: Fit) -> None:
        self._archive = archive
        self._process = process
        self._local = local
        self._fit = fit
        self._followed: dict[str, Followed] = {}
        self._beats_at_s = trio.current_time()
        self._away = False

    async def serve(self) -> None:
        """Do it all, until cancelled."""
        settings = self._archive.settings
        while True:
            try:
                await self.round()
            except Exception as error:
                if not self._away:
                    self._away = True
                    log.warning(
                        "runs of this process cannot be followed elsewhere: %s",
                        error,
                        exc_info=unforeseen(error),
                    )
            else:
                if self._away:
                    log.warning("runs of this process can be followed elsewhere again")
                self._away = False
            await trio.sleep(settings.publish_s if self._followed else settings.mail_s)

    async def round(self) -> None:
        """One look into the box, with what is new of the runs that are followed.

        Raises:
            StateError: the state is away; what was published is asked for again.
        """
        self._forget()
        entries = self._news()
        now_s, settings = trio.current_time(), self._archive.settings
        beats = now_s >= self._beats_at_s
        if beats:
            entries.update(mail.heartbeat(self._process, settings.dead_after_s))
        box = mail.box_key(self._process)
        emptied = partial(_emptied, box, entries)
        letters, written_s = await self._archive.state.change([box], emptied)
        if beats:
            self._archive.pulse.beat(written_s)
            self._beats_at_s = now_s + settings.heartbeat_s
        answers: dict[str, Entry] = {}
        for letter in letters:
            answers.update(self._answer(letter))
        if answers:
            await self._archive.state.change([], lambda *_: Change(None, answers))

    async def leave(self) -> None:
        """Say that this process is no more.

        Raises:
            StateError: the state is away; it is known a little later.
        """
        gone = {mail.process_key(self._process): None, mail.box_key(self._process): None}
        await self._archive.state.change([], lambda *_: Change(None, gone))

    def _answer(self, letter: mail.Letter) -> dict[str, Entry]:
        """What is published at once for this letter, beside what is new for all."""
        local = self._local.get(letter.run_id)
        if local is None:
            return {}
        if isinstance(letter, mail.CancelLetter):
            local.run.cancel(letter.reason)
            return {}
        followed = self._followed.get(letter.run_id)
        if followed is None:
            followed = Followed(local.run)
            self._followed[letter.run_id] = followed
            self._local.attach(letter.run_id)
        followed.until_s = trio.current_time() + FORGOTTEN_S
        return self._next(followed, letter)

    def _next(self, followed: Followed, letter: mail.FollowLetter) -> dict[str, Entry]:
        """What brings one who asks onto the chain: its end is where the next events come.

        Nothing for one who knows what is not published yet: when it is, they ask again.
        """
        run, end = followed.run, followed.seq
        if letter.seq <= run.journal.seq:
            return self._published(run, letter.seq, end)
        key = mail.published_key(run.id, letter.asker)
        return {key: mail.entry(mail.Published((), end))}

    def _news(self) -> dict[str, Entry | None]:
        entries: dict[str, Entry | None] = {}
        for followed in self._followed.values():
            newest = followed.run.journal.seq
            entries.update(self._published(followed.run, followed.seq, newest))
            followed.seq = newest
        return entries

    def _forget(self) -> None:
        """Let go of runs that nobody follows any more, and of those that are told to the end."""
        now_s = trio.current_time()
        for run_id, followed in tuple(self._followed.items()):
            journal = followed.run.journal
            over = journal.ended and followed.seq == journal.seq
            if over or followed.until_s < now_s:
                del self._followed[run_id]
                self._local.leave(run_id)

    def _published(self, run: Run, after: int, upto: int) -> dict[str, Entry]:
        """The events of a run behind one number up to another, as links of the chain.

        It breaks off before an event that is too large.
        """
        entries: dict[str, Entry] = {}
        batch: list[EventLine] = []
        size_bytes = 0
        events = map(self._fit, run.journal.newer(after) if after < upto else ())
        for event in event_lines_of(events, run.request_id):
            if event.seq > upto or len(event.data) > EVENT_MAX_BYTES:
                break
            if batch and size_bytes + len(event.data) > BATCH_BYTES:
                entries.update(_link(run.id, after, batch))
                after, batch, size_bytes = batch[-1].seq, [], 0
            batch.append(event)
            size_bytes += len(event.data) + EVENT_BYTES
        return {**entries, **_link(run.id, after, batch)}


def _link(run_id: str, after: int, batch: Sequence[EventLine]) -> dict[str, Entry]:
    if not batch:
        return {}
    made = mail.Published(tuple(batch), batch[-1].seq)
    return {mail.published_key(run_id, after): mail.entry(made)}


def _emptied(
    box: str, entries: dict[str, Entry | None], there: Sequence[bytes | None], now_s: float
) -> Change[tuple[tuple[mail.Letter, ...], float]]:
    """The letters, and when it was: the box is empty then, and the entries are written."""
    letters = mail.opened(there[0])
    return Change((letters, now_s), {**entries, **({box: None} if letters else {})})
