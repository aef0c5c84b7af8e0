"""Enforces a time limit on many reads that all have the same limit.

A cancel scope around each read would cost more than the read. Instead, the start of each read is
noted, and the readers are kept in a queue, ordered by these times. One task checks the front of the
queue, once in each time limit or sooner if a read is due.

Rules of the file: the task is a system task of Trio, since a transport has no nursery. It ends at a
check that finds the queue empty, or when a transport closes meanwhile; if it ended with the last
reader, requests that come one at a time would each start a task. The functions that it calls
neither wait nor raise. A reader may leave at any moment, even during a check, since the garbage
collector may run at any moment.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import suppress

import attrs
import trio

from orchestra.providers.connections.line import Line

LIMITS_MAX = 16
"""The most different limits that are watched at once in a `trio.run`, each of them by a task."""


@attrs.define(eq=False)
class Wait:
    """A watched reader of a connection; call `begin` before each read, and `leave` at the end.

    `since_s` is when the pending read began. The reader has to set it to inf after each read.
    """

    line: Line
    _watch: Watch
    since_s: float = math.inf
    late: bool = False
    """Whether the time limit of the last read passed: if its bytes had not just come, that read
    raised trio.ClosedResourceError."""

    def begin(self, last_s: float) -> bool:
        """Watch the read that begins now; returns whether it is watched.

        A read is not watched if the time `last_s` comes before its time limit would pass.
        """
        watch, self.late = self._watch, False
        now_s = watch.clock.current_time()
        if now_s + watch.limit_s > last_s:
            return False
        self.since_s = now_s
        watch.waits.move_to_end(self)
        return True

    def leave(self) -> None:
        """Stop watching. May be called outside of Trio, as by `__del__`; again, it does nothing."""
        self._watch.waits.pop(self, None)


class Watch:
    """Ends reads that have waited for `limit_s`. There is one for each limit in a `trio.run`."""

    def __init__(self, limit_s: float, all_of_run: dict[float, Watch]) -> None:
        self.limit_s = limit_s
        self._all_of_run = all_of_run
        self.waits: OrderedDict[Wait, None] = OrderedDict()
        """The readers; among those with a pending read, the one that waits longest comes first."""
        self.clock = trio.lowlevel.current_clock()
        self.resting = trio.CancelScope(deadline=self.clock.current_time() + limit_s)
        """The task's wait for its next check."""
        trio.lowlevel.spawn_system_task(self._watch, name="orchestra.watch")

    @classmethod
    def over(cls, line: Line, limit_s: float) -> Wait | None:
        """Watch the reads of a connection; None if `LIMITS_MAX` other limits are being watched.

        A `trio.run` has one `Watch` for each limit.
        """
        watches = _WATCHES.get()
        if watches is None:
            _WATCHES.set(watches := {})
        if (watch := watches.get(limit_s)) is None:
            if len(watches) >= LIMITS_MAX:  # as where each request has a limit of its own
                cls.end_unused()
                return None
            watch = watches[limit_s] = cls(limit_s, watches)
        wait = Wait(line, watch)
        watch.waits[wait] = None
        return wait

    @staticmethod
    def end_unused() -> None:
        """End the tasks that watch no reader. Does nothing outside of Trio."""
        watches = _WATCHES.get() if trio.lowlevel.in_trio_run() else None
        for watch in (watches or {}).values():
            if not watch.waits:
                watch.resting.cancel()

    def look(self, now_s: float) -> float:
        """End the reads whose time limit has passed, and return the time of the next check."""
        for _ in range(len(self.waits)):
            first = next(iter(self.waits))
            reads = first.since_s != math.inf
            if reads and first.since_s + self.limit_s > now_s:
                return first.since_s + self.limit_s
            self.waits.move_to_end(first)
            if reads:
                first.since_s, first.late = math.inf, True
                first.line.wake()
        return now_s + self.limit_s

    async def _watch(self) -> None:
        while True:
            with self.resting:
                await trio.sleep_forever()
            if not self.waits:
                break
            now_s = next_s = self.clock.current_time()
            # The garbage collector may remove a reader during the check.
            with suppress(KeyError, StopIteration, RuntimeError):
                next_s = self.look(now_s)
            self.resting = trio.CancelScope(deadline=next_s)
        del self._all_of_run[self.limit_s]


_WATCHES: trio.lowlevel.RunVar[dict[float, Watch] | None] = trio.lowlevel.RunVar(
    "orchestra.watches", None
)
