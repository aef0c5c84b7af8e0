"""Writes the records of runs: one task of the process, for many runs at once.

A run neither waits for its record nor fails with it. While the state is away, records are late; if
that lasts too long they are lost, which is logged once an outage.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import islice

import trio

from orchestra.errors import StateError
from orchestra.events import Event
from orchestra.groups import stopping
from orchestra.runs.archive import Archive
from orchestra.runs.keeping import Final, Fit, final, unwritable
from orchestra.runs.local import LocalRun
from orchestra.runs.record import Record

log = logging.getLogger("orchestra.runs")

STARTS_AT_ONCE = 256
ENDS_AT_ONCE = 64
ENDS_AT_ONCE_BYTES = 1024 * 1024
"""Bounds of one batch, which has to be written within the state's own timeout."""
EVENTS_A_TURN, EVENT_BYTES = 256, 256
"""Events that are encoded before others run, at most; and the bytes that count as one."""
LATE_MAX = 5_000
LATE_BYTES = 64 * 1024 * 1024
"""Bounds of what waits for an unreachable state; beyond them, the oldest is lost."""
REST_S = 0.5
"""The pause before an unreachable state is tried again."""


def unchanged(event: Event) -> Event:
    """The event as it is."""
    return event


class Recorder:
    """Records the starts and ends of the runs of this process."""

    def __init__(
        self, archive: Archive, fit: Fit = unchanged, now_s: Callable[[], float] = time.time
    ) -> None:
        self._archive = archive
        self._fit = fit
        self._now_s = now_s
        self._started: dict[str, Record] = {}
        self._untold: dict[str, Record] = {}
        self._ended: dict[str, tuple[LocalRun, float]] = {}
        self._finals: dict[str, Final] = {}
        self._final_bytes = 0
        self._work = trio.Event()
        self._writing = trio.Lock()
        self._undone: deque[Callable[[], Awaitable[object]]] = deque(maxlen=LATE_MAX)
        self._away = False
        self._loses = False

    def started(self, record: Record) -> None:
        """Record a start soon."""
        self._started[record.id] = record
        while len(self._started) > LATE_MAX:
            del self._started[next(iter(self._started))]
            self._lost()
        self._work.set()

    def publish(self, going_on: Iterable[Record]) -> None:
        """Publish these running runs soon: the state has become shared."""
        self._untold = {record.id: record for record in going_on}
        self._work.set()

    def ended(self, local: LocalRun) -> None:
        """Record an end soon."""
        self._ended[local.run.id] = (local, self._now_s())
        self._work.set()

    def undo(self, undo: Callable[[], Awaitable[object]]) -> None:
        """Call `undo` soon, and again until it succeeds."""
        if len(self._undone) == self._undone.maxlen:
            self._lost()
        self._undone.append(undo)
        self._work.set()

    def final(self, run_id: str) -> Final | None:
        """The stored part of an ended run that is not written yet; None for all others."""
        if run_id in self._ended:
            return self._final(*self._ended[run_id])
        return self._finals.get(run_id)

    async def write_now(self, record: Record) -> None:
        """Write a start now, before all that waits.

        Raises:
            StateError: the state is away; it is written later, if it can be.
        """
        self.started(record)
        await self._archive.note([record], [record], [])
        self._started.pop(record.id, None)

    async def serve(self) -> None:
        """Write in batches, until cancelled."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            await trio.sleep(self._archive.settings.batch_s)
            try:
                written = await self.write()
            finally:
                if self._waits:
                    self._work.set()  # also for who serves again, after this has failed
            if not written:
                await trio.sleep(REST_S)

    async def flush(self) -> None:
        """Write everything that waits, unless the state fails."""
        while self._waits and await self.write():  # noqa: ASYNC913 - a lock is one
            pass

    async def write(self) -> bool:
        """Write one batch; whether it was written."""
        async with self._writing:
            await self._encode()
            try:
                await self._write(self._batch())
            except Exception as error:  # noqa: BLE001 - it is tried again, and runs go on
                self._failed(error)
                return False
        if self._away:
            log.warning("waiting records of runs are written again")
        self._away = self._loses = False
        return True

    @property
    def _waits(self) -> bool:
        return bool(self._started or self._untold or self._ended or self._finals or self._undone)

    async def _encode(self) -> None:
        """Turn ended runs into what is kept of them, so that the runs themselves can be freed."""
        encoded = 0
        for run_id, (local, ended_s) in tuple(self._ended.items()):
            made = self._final(local, ended_s)
            self._drop(run_id)  # of a run before it that had this id
            self._finals[run_id] = made
            del self._ended[run_id]
            self._final_bytes += made.size_bytes
            while len(self._finals) > LATE_MAX or self._final_bytes > LATE_BYTES:
                self._drop(next(iter(self._finals)))
                self._lost()
            encoded += made.record.last_seq + made.size_bytes // EVENT_BYTES
            if encoded >= EVENTS_A_TURN:
                encoded = 0
                await trio.lowlevel.checkpoint()

    def _final(self, local: LocalRun, ended_s: float) -> Final:
        limit_bytes = self._archive.settings.kept_bytes
        try:
            return final(local.record, local.run.journal, self._fit, limit_bytes, ended_s)
        except BaseException as error:  # noqa: ASYNC103 - nothing is awaited in it
            if stopping(error) is not None:
                raise
            log.exception("run %s cannot be recorded", local.run.id)
            return unwritable(local.record, ended_s)  # noqa: ASYNC104 - as above

    def _batch(self) -> Sequence[Final]:
        batch: list[Final] = []
        size_bytes = 0
        for made in self._finals.values():
            size_bytes += made.size_bytes
            if batch and (len(batch) >= ENDS_AT_ONCE or size_bytes > ENDS_AT_ONCE_BYTES):
                break
            batch.append(made)
        return batch

    async def _write(self, finals: Sequence[Final]) -> None:
        await self._undo()
        archive = self._archive
        await archive.together([partial(archive.keep, made) for made in finals])
        ends = [made.record.id for made in finals]
        of_ends = {each: self._started[each] for each in ends if each in self._started}
        starts = {**dict(islice(self._started.items(), STARTS_AT_ONCE)), **of_ends}
        untold = self._untold  # those of `publish`, which may come while this is written
        over = set(ends)
        going_on = [each for each in {**untold, **starts}.values() if each.id not in over]
        await archive.note([*starts.values()], going_on, ends)
        for run_id in starts:
            self._started.pop(run_id, None)  # it may have been lost meanwhile
        for run_id in ends:
            self._drop(run_id)
        if self._untold is untold:
            self._untold = {}

    async def _undo(self) -> None:
        for undo in tuple(self._undone):
            await undo()
            if self._undone[0] is undo:  # or it was dropped meanwhile, for one that came last
                self._undone.popleft()

    def _drop(self, run_id: str) -> None:
        made = self._finals.pop(run_id, None)
        if made is not None:
            self._final_bytes -= made.size_bytes

    def _lost(self) -> None:
        if not self._loses:
            self._loses = True
            log.warning(
                "records of runs are lost from now on, the oldest first, until the state takes "
                "some again: %d of them, or %d bytes, wait for it, and no more are kept",
                LATE_MAX,
                LATE_BYTES,
            )

    def _failed(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            log.warning("runs go on, and are recorded later: %s", error, exc_info=unforeseen(error))


def unforeseen(error: Exception) -> Exception | None:
    """The error if its traceback is worth logging: None for a StateError."""
    return None if isinstance(error, StateError) else error
