"""The recorder: one background task of the process that writes the records of its runs in batches.

A run does not wait for its record, and does not fail if the record cannot be written. While the
state is unreachable, records wait; if too many wait, the oldest are lost, which is logged once per
outage.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from math import inf

import trio

from orchestra.groups import stopping
from orchestra.runs.archive import Archive
from orchestra.runs.keeping import Final, final, unwritable
from orchestra.runs.local import LocalRun
from orchestra.runs.record import Fit, Record, unchanged
from orchestra.runs.retrying import OutageLog

log = logging.getLogger("orchestra.runs")

STARTS_AT_ONCE = 256
ENDS_AT_ONCE = 64
ENDS_AT_ONCE_BYTES = 1024 * 1024
"""Bounds of one batch, which must be written within the state's own timeout."""
EVENTS_A_TURN, EVENT_BYTES = 256, 256
"""How many events are encoded before other tasks may run; and how many bytes count as one event."""
LATE_MAX = 5_000
LATE_BYTES = 64 * 1024 * 1024
"""Bounds of the records that wait for an unreachable state; beyond them, the oldest are lost."""
REST_S = 0.5
"""The delay before a failed batch is retried."""


class Recorder:
    """Records the starts and ends of the runs of this process."""

    def __init__(
        self, archive: Archive, fit: Fit = unchanged, now_s: Callable[[], float] = time.time
    ) -> None:
        self._archive = archive
        self._fit = fit
        self._now_s = now_s
        self._started: dict[str, Record] = {}
        self._unpublished: dict[str, Record] = {}
        self._ended: dict[str, tuple[LocalRun, float]] = {}
        self._finals: dict[str, Final] = {}
        self._final_bytes = 0
        self._resting = trio.CancelScope()
        self._writing = trio.Lock()
        self._undos: deque[Callable[[], Awaitable[object]]] = deque(maxlen=LATE_MAX)
        self._outage = OutageLog(
            "runs cannot be recorded now; they go on, and are recorded when possible",
            "records of runs are written again",
        )
        self._losing = False

    def started(self, record: Record) -> None:
        """Record the start of a run with the next batch."""
        self._started[record.id] = record
        while len(self._started) > LATE_MAX:
            del self._started[next(iter(self._started))]
            self._lost()
        self._soon()

    def publish(self, going_on: Iterable[Record]) -> None:
        """Publish these runs in progress with the next batch: the state has become shared."""
        self._unpublished = {record.id: record for record in going_on}
        self._soon()

    def ended(self, local: LocalRun) -> None:
        """Record the end of a run with the next batch."""
        self._ended[local.run.id] = (local, self._now_s())
        self._soon()

    def undo(self, undo: Callable[[], Awaitable[object]]) -> None:
        """Call `undo` with the next batch, and retry it until it succeeds."""
        if len(self._undos) == self._undos.maxlen:
            self._lost()
        self._undos.append(undo)
        self._soon()

    def final(self, run_id: str) -> Final | None:
        """What is to be stored of an ended run that is not written yet; None for other runs."""
        if run_id in self._ended:
            return self._final(*self._ended[run_id])
        return self._finals.get(run_id)

    async def write_now(self, record: Record) -> None:
        """Write the start of a run now, before all records that wait.

        Raises:
            StateError: the state is unreachable; the record waits with the others.
        """
        self.started(record)
        await self._archive.note([record], [record], [])
        self._started.pop(record.id, None)

    async def serve(self) -> None:
        """Write batches until cancelled."""
        while True:
            try:
                with self._resting:
                    await trio.sleep_forever()
                written = await self.write()
            finally:
                self._resting = trio.CancelScope()
                if self._waits:
                    self._soon()  # even if this failed: `serve` is then called again
            if not written:
                await trio.sleep(REST_S)

    def _soon(self) -> None:
        """Let `serve` write a batch `batch_s` after the first call; meanwhile, nothing wakes it."""
        if self._resting.deadline == inf:
            self._resting.deadline = trio.current_time() + self._archive.settings.batch_s

    async def flush(self) -> bool:
        """Write everything that waits; stops at the first batch that fails, and returns False."""
        while self._waits:  # noqa: ASYNC913 - `write` takes a lock
            if not await self.write():
                return False
        return True

    def report_left(self) -> None:
        """Log what still waits, and is lost: nothing is written any more."""
        if left := self._started.keys() | self._ended.keys() | self._finals.keys():
            log.warning(
                "runs that were not recorded: %d; clients find them lost, or not at all",
                len(left),
            )

    async def write(self) -> bool:
        """Write one batch; whether that succeeded."""
        async with self._writing:
            await self._encode()
            try:
                await self._write(self._batch())
            except Exception as error:  # noqa: BLE001 - it is retried, and runs go on
                self._outage.failed(error)
                return False
        self._outage.succeeded()
        self._losing = False
        return True

    @property
    def _waits(self) -> bool:
        return bool(
            self._started or self._unpublished or self._ended or self._finals or self._undos
        )

    async def _encode(self) -> None:
        """Encode what is stored of ended runs, so that the runs themselves can be freed."""
        encoded = 0
        for run_id, (local, ended_s) in tuple(self._ended.items()):
            made = self._final(local, ended_s)
            self._drop(run_id)  # an earlier run with the same id
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
        except BaseException as error:  # noqa: ASYNC103 - nothing is awaited in the try block
            if stopping(error) is not None:
                raise
            log.exception("the end of run %s cannot be recorded", local.run.id)
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
        await archive.together(archive.keep, finals)
        ends = [made.record.id for made in finals]
        of_ends = {each: self._started[each] for each in ends if each in self._started}
        starts = {**dict(islice(self._started.items(), STARTS_AT_ONCE)), **of_ends}
        unpublished = self._unpublished  # `publish` may replace it during this write
        over = set(ends)
        going_on = [each for each in {**unpublished, **starts}.values() if each.id not in over]
        await archive.note([*starts.values()], going_on, ends)
        for run_id in starts:
            self._started.pop(run_id, None)  # it may have been dropped in the meantime
        for run_id in ends:
            self._drop(run_id)
        if self._unpublished is unpublished:
            self._unpublished = {}

    async def _undo(self) -> None:
        for undo in tuple(self._undos):
            await undo()
            if self._undos[0] is undo:  # else the full queue has dropped it in the meantime
                self._undos.popleft()

    def _drop(self, run_id: str) -> None:
        made = self._finals.pop(run_id, None)
        if made is not None:
            self._final_bytes -= made.size_bytes

    def _lost(self) -> None:
        if not self._losing:
            self._losing = True
            log.warning(
                "records of runs are lost from now on, the oldest first, until the state accepts "
                "some again: at most %d records, or %d bytes, may wait for it",
                LATE_MAX,
                LATE_BYTES,
            )
