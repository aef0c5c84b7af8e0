"""Outlet: the lane from the step whose chunks are the run's output to the journal.

It holds no chunks: a chunk that is put is at once an event of the journal, so a token passes
without waking another task. The journal's window holds the step back. Rules of the file: an
output that cannot be kept is an error of the run, not of the step, so it stops the run. A
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

    __slots__ = ("_fail", "_failed", "_journal", "_unbroken")

    full = False  # it holds no chunks
    is_outlet = True

    def __init__(
        self,
        journal: Journal,
        bound: int,
        on_leave: Callable[[], None] | None,
        fail: Callable[[Exception], None],
    ) -> None:
        super().__init__(bound, on_leave)
        self._journal = journal
        self._fail = fail
        self._failed = False
        self._unbroken = 0

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
        if self._failed:  # a shielded step's chunk is dropped
            await trio.lowlevel.checkpoint()
            return
        try:
            if type(chunk) is Restart:
                journal.restart(chunk.step, chunk.arm)
            else:
                journal.delta_soon(chunk)
        except Exception as error:  # noqa: BLE001 - the run raises it
            self._failed = True
            self._fail(error)
            await trio.lowlevel.checkpoint()

    def push(self) -> None:
        """Wake the readers of the journal for new chunks."""
        self._journal.push()

    def before_wait(self) -> None:
        """As `push`; called by a writer that is about to wait."""
        self._unbroken = 0
        self._journal.push()

    async def receive(self) -> tuple[object, ...]:
        """Wait until the last chunk has been put; returns no chunks."""
        while not self._closed:
            await self._wait_chunk()
        return ()
