"""The watch: who has waited for too long, among many that wait for the same time.

A cancel scope around each read costs more than the read. Here whoever begins to wait goes to the
end of a queue, and one task looks at the first of it, once in the time that may be waited: nothing
is done for a read but to note when it began.

Rules of the file: the task is Trio's own kind, since a transport has no nursery; it ends with the
last of those it watches, and what it calls neither waits nor raises.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import attrs
import trio

from orchestra.providers.connections.line import Line


@attrs.define(eq=False)
class Wait:
    """One who reads from a line; `begin` each read, and at the end `leave`.

    `since_s` is when the read began that waits now: set it to inf when that is over.
    """

    line: Line
    _watch: Watch
    since_s: float = math.inf
    late: bool = False
    """Whether a read was ended because it took too long: by trio.ClosedResourceError."""

    def begin(self, last_s: float) -> bool:
        """Whether the read that begins now is watched; not where `last_s` comes first."""
        watch = self._watch
        now_s = watch.clock.current_time()
        if now_s + watch.limit_s > last_s:
            return False
        self.since_s = now_s
        watch.waits.move_to_end(self)
        return True

    def leave(self) -> None:
        """Be watched no more; the last one ends the task. A second time does nothing."""
        self._watch.forget(self)


class Watch:
    """Ends the reads that have waited for `limit_s`."""

    def __init__(self, limit_s: float, all_of_run: dict[float, Watch]) -> None:
        self.limit_s = limit_s
        self._all_of_run = all_of_run
        self.waits: OrderedDict[Wait, None] = OrderedDict()
        """Of those that wait, the first has done so for longest."""
        self.clock = trio.lowlevel.current_clock()
        self._looking = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._watch, name="orchestra.watch")

    @classmethod
    def over(cls, line: Line, limit_s: float) -> Wait:
        """Have the reads from a line watched, by the one watch of this limit in a run of Trio."""
        watches = _WATCHES.get()
        if watches is None:
            _WATCHES.set(watches := {})
        if (watch := watches.get(limit_s)) is None:
            watch = watches[limit_s] = cls(limit_s, watches)
        wait = Wait(line, watch)
        watch.waits[wait] = None
        return wait

    def forget(self, wait: Wait) -> None:
        """Do not look at this one any more; also where there is no Trio, as in `__del__`."""
        if self.waits.pop(wait, self) is None and not self.waits:
            self._looking.cancel()
            del self._all_of_run[self.limit_s]

    def look(self, now_s: float) -> float:
        """End the reads that are late, and tell when to look again."""
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
        with self._looking:
            while True:  # noqa: ASYNC110 - it is time that it waits for
                await trio.sleep_until(self.look(trio.current_time()))


_WATCHES: trio.lowlevel.RunVar[dict[float, Watch] | None] = trio.lowlevel.RunVar(
    "orchestra.watches", None
)
