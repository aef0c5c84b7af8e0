"""Outlet: the lane from the step whose chunks are the run's output to the journal.

It holds nothing: a chunk that is put is an event of the journal at once, so that a token passes
without waking a task only to be carried on. What holds the step back is the journal's window.
Rules of the file: an output that cannot be kept is an error of the run and not of the step, so
the reader raises it; and who puts chunks without ever waiting lets the others run once in every
`bound` of them, as in any lane.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from orchestra.engine.journal import Journal
from orchestra.engine.lanes.lane import Lane
from orchestra.engine.lanes.outflow import Restart


class Outlet(Lane[object]):
    """A lane whose reader has nothing to do but to wait for its end."""

    __slots__ = ("_error", "_journal", "_raised", "_unbroken")

    full = False  # it holds nothing
    is_outlet = True

    def __init__(self, journal: Journal, bound: int, on_leave: Callable[[], None]) -> None:
        super().__init__(bound, on_leave)
        self._journal = journal
        self._unbroken = 0
        self._error: Exception | None = None
        self._raised = False

    async def put(self, chunk: object) -> None:
        """Write a chunk into the journal, once its readers have room; nothing for nobody.

        Cancelled while it waits, the chunk is not in the journal.
        """
        await self.put_soon(chunk)
        self.push()

    async def put_soon(self, chunk: object) -> None:
        """As `put`; those who read the journal hear of it with the next `push`, or event.

        Who waits here has told them of what it put before: by `put`, or by `before_wait`.
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
        """Wait until the reader has stopped the step; one that shields itself writes for nobody."""
        while not self._raised:  # noqa: ASYNC110 - a turn or two, of a step that has gone wrong
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    def push(self) -> None:
        """Tell those who read the journal of what is in it."""
        self._journal.push()

    def before_wait(self) -> None:
        """As `push`, by a writer that is about to wait."""
        self._unbroken = 0
        self._journal.push()

    async def receive(self) -> tuple[object, ...]:
        """Wait for the last chunk, and give none.

        Raises:
            LimitExceededError: the output is over `output_chunks` or `output_bytes`.
            EdgeTypeError: a chunk cannot be joined with others of its stream.
        """
        while not self._closed and self._error is None:
            await self._wait_chunk()
        if self._error is not None:
            self._raised = True
            raise self._error
        return ()
