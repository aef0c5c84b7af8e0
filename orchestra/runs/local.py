"""The runs in progress in this process: their followers, and when they are cancelled without any.

Rules of the file: nothing here waits or fails, except the one task that a lingering run may have.
Little is stored for each run, since ten thousand may be in progress.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import msgspec
import trio

from orchestra.runs.record import Record

if TYPE_CHECKING:
    from orchestra.engine.run import Run

LEFT = "the client left"
CANCEL, CONTINUE = 0.0, inf
"""As `linger_s`: cancel the run at once, so that nothing more is billed, or let it go on to its
end, which its deadline bounds."""


class LocalRun(msgspec.Struct, eq=False):
    """A run in progress in this process, with its record.

    After its last follower has left, it goes on for `linger_s`: a follower that comes back before
    then keeps it alive.
    """

    run: Run
    record: Record
    linger_s: float
    readers: int
    """How many followers it has now."""
    due_s: float | None = None
    """When to cancel it unless a follower comes back; None while no task waits for that."""


class LocalRuns:
    """All runs in progress in this process; `runs` has them by id."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.runs: dict[str, LocalRun] = {}
        self._nursery = nursery

    def attach(self, run_id: str) -> None:
        """Count a new follower of a run."""
        local = self.runs.get(run_id)
        if local is not None:
            local.readers += 1

    def leave(self, run_id: str) -> None:
        """Count a follower that left; after the last one, the run goes on for its `linger_s`."""
        local = self.runs.get(run_id)
        if local is None:
            return
        local.readers -= 1
        if local.readers > 0:
            return
        if not local.linger_s:
            local.run.cancel(LEFT)
        elif local.linger_s < inf:
            waits, local.due_s = local.due_s is not None, trio.current_time() + local.linger_s
            if not waits:
                self._nursery.start_soon(self._linger, local, name=local.run.pipeline)

    async def _linger(self, local: LocalRun) -> None:
        """Cancel the run at `due_s`, unless it ends or has a follower by then."""
        while local.readers <= 0 and local.due_s is not None and not local.run.ended:
            if trio.current_time() >= local.due_s:
                local.run.cancel(LEFT)
                break
            with trio.move_on_at(local.due_s):  # not a sleep, which would keep an ended run alive
                await local.run.wait_ended()
        local.due_s = None
