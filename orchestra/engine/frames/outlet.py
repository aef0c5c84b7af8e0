"""Outlet: the lane from the step whose chunks are the run's output to the journal.

It holds no chunks: a chunk that is put is at once an event of the journal, so a token passes
without waking another task. The journal's window holds the step back. Rules of the file: an
output that cannot be kept is an error of the run, not of the step, so the reader raises it. A
writer that never waits lets other tasks run once every `bound` chunks, as in any lane.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from orchestra.engine.journal import Journal
from orchestra.engine.lanes.lane import Lane
from orchestra.engine.lanes.outflow import Restart


class Outlet(Lane[object]):
    """A lane whose reader only waits for its end."""

    __slots__ = ("_error", "_journal", "_stopped", "_unbroken")

    full = False  # it holds no chunks
    is_outlet = True

    def __init__(self, journal: Journal, bound: int, on_leave: Callable[[], None]) -> None:
        super().__init__(bound, on_leave)
        self._journal = journal
        self._unbroken = 0
        self._error: Exception | None = None
        self._stopped = False

    async def put(self, chunk: object) -> None:
        """Write a chunk into the journal when there is room; dropped if the reader has left.

        If it is cancelled while it waits, the chunk is not in the journal.
        """
        await self.put_soon(chunk)
        self.push()

    async def put_soon(self, chunk: object) -> None:
        """As `put`, but readers of the journal are woken only by the next `push`, or event.

        Before this waits, the earlier chunks are pushed: by `put`, or by `before_wait`.
        """
        journal = self._journal
        self._unbroken += 1
        if journal.held:
            await journal.room()
            self._unbroken = 1
        elif self._unbroken > self._bound:
            await trio.lowlevel.checkpoint()
            self._unbroken = 1
        if self._left:
            return
        if self._error is not None:
            await self._refused()
            return
        try:
            if type(chunk) is Restart:
                journal.restart(chunk.step, chunk.arm)
            else:
                journal.delta_soon(chunk)
        except Exception as error:  # noqa: BLE001 - its reader raises it
            self._error = error
            self._wake_reader()
            await self._refused()

    async def _refused(self) -> None:
        """Wait until the reader has stopped; what a shielded step still writes is dropped."""
        while not self._stopped:  # noqa: ASYNC110 - one or two turns, and only after an error
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    def push(self) -> None:
        """Wake the readers of the journal for new chunks."""
        self._journal.push()

    def before_wait(self) -> None:
        """As `push`; called by a writer that is about to wait."""
        self._unbroken = 0
        self._journal.push()

    async def receive(self) -> tuple[object, ...]:
        """Wait until the last chunk has been put; returns no chunks.

        Raises:
            LimitExceededError: the output exceeds `output_chunks` or `output_bytes`.
            EdgeTypeError: a chunk cannot be joined with others of its stream.
        """
        try:
            while not self._closed and self._error is None:
                await self._wait_chunk()
        finally:
            self._stopped = True
        if self._error is not None:
            raise self._error
        return ()
