"""Time limits for many reads with the same limit.

A cancel scope around each read costs more than the read. Instead, each read's start is noted, and
the reads are in a queue; one task checks its first entries once per time limit.

Rules of the file: the task is a system task of Trio, since a transport has no nursery. It ends when
the queue is empty, and the functions that it calls neither wait nor raise. A reader may leave at
any moment, also in the middle of a check: the garbage collector runs whenever it wants to.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import suppress

import attrs
import trio

from orchestra.providers.connections.line import Line


@attrs.define(eq=False)
class Wait:
    """A reader of a connection; call `begin` before each read, and `leave` at the end.

    `since_s` is the start of the pending read: set it to inf after the read.
    """

    line: Line
    _watch: Watch
    since_s: float = math.inf
    late: bool = False
    """Whether a read was ended by the time limit: it raised trio.ClosedResourceError."""

    def begin(self, last_s: float) -> bool:
        """Whether the read that begins now is watched; False if `last_s` comes before its limit."""
        watch = self._watch
        now_s = watch.clock.current_time()
        if now_s + watch.limit_s > last_s:
            return False
        self.since_s = now_s
        watch.waits.move_to_end(self)
        return True

    def leave(self) -> None:
        """Stop watching; the last reader ends the task. A second call does nothing."""
        self._watch.forget(self)


class Watch:
    """Ends reads that have waited for `limit_s`."""

    def __init__(self, limit_s: float, all_of_run: dict[float, Watch]) -> None:
        self.limit_s = limit_s
        self._all_of_run = all_of_run
        self.waits: OrderedDict[Wait, None] = OrderedDict()
        """Of those that wait, the first has done so for longest."""
        self.clock = trio.lowlevel.current_clock()
        self._resting = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._watch, name="orchestra.watch")

    @classmethod
    def over(cls, line: Line, limit_s: float) -> Wait:
        """Watch the reads of a connection, by the one watch for this limit in a run of Trio."""
        watches = _WATCHES.get()
        if watches is None:
            _WATCHES.set(watches := {})
        if (watch := watches.get(limit_s)) is None:
            watch = watches[limit_s] = cls(limit_s, watches)
        wait = Wait(line, watch)
        watch.waits[wait] = None
        return wait

    def forget(self, wait: Wait) -> None:
        """Stop watching this reader; also works outside of Trio, as in `__del__`."""
        if self.waits.pop(wait, self) is None and not self.waits:
            self._resting.cancel()
            del self._all_of_run[self.limit_s]

    def look(self, now_s: float) -> float:
        """End late reads, and return the time of the next check."""
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
        next_s = self.clock.current_time() + self.limit_s
        while self.waits:
            with trio.CancelScope(deadline=next_s) as self._resting:
                await trio.sleep_forever()
            now_s = next_s = self.clock.current_time()
            with suppress(KeyError, StopIteration, RuntimeError):  # one was collected meanwhile
                next_s = self.look(now_s)


_WATCHES: trio.lowlevel.RunVar[dict[float, Watch] | None] = trio.lowlevel.RunVar(
    "orchestra.watches", None
)
