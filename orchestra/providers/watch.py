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

from orchestra.providers.line import Line


@attrs.define(eq=False)
class Wait:
    """One who reads from a line. `since_s` is when the read began that is waiting now, else inf."""

    line: Line
    since_s: float = math.inf
    late: bool = False
    """Whether the last read was ended, because it took too long."""


class Watch:
    """Ends the reads that have waited for `limit_s`: each raises trio.ClosedResourceError then."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._waits: OrderedDict[Wait, None] = OrderedDict()
        self._looking: trio.CancelScope | None = None

    @classmethod
    def of(cls, limit_s: float) -> Watch:
        """The one watch of this limit, in this run of Trio."""
        watches = _WATCHES.get()
        if watches is None:
            _WATCHES.set(watches := {})
        return watches.get(limit_s) or watches.setdefault(limit_s, cls(limit_s))

    def enter(self, wait: Wait) -> None:
        """Watch this one, until it leaves."""
        self._waits[wait] = None
        if self._looking is None:
            self._looking = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self._watch, self._looking, name="orchestra.watch")

    def leave(self, wait: Wait) -> None:
        """Watch it no more; the last one ends the task. Does nothing where it has left."""
        if self._waits.pop(wait, self) is None and not self._waits and self._looking is not None:
            self._looking.cancel()
            self._looking = None
            watches = _WATCHES.get()
            if watches is not None and watches.get(self._limit_s) is self:
                del watches[self._limit_s]

    def begin(self, wait: Wait, last_s: float) -> bool:
        """Whether a read that begins now is watched, until its `since_s` is set to inf again.

        Not where it has to end by `last_s`, which comes first.
        """
        now_s = trio.current_time()
        if now_s + self._limit_s > last_s:
            return False
        wait.since_s = now_s
        self._waits.move_to_end(wait)
        return True

    def look(self, now_s: float) -> float:
        """End the reads that are late, and tell when to look again."""
        for _ in range(len(self._waits)):
            first = next(iter(self._waits))
            reads = first.since_s != math.inf
            if reads and first.since_s + self._limit_s > now_s:
                return first.since_s + self._limit_s
            self._waits.move_to_end(first)
            if reads:
                first.since_s, first.late = math.inf, True
                first.line.wake()
        return now_s + self._limit_s

    async def _watch(self, looking: trio.CancelScope) -> None:
        with looking:
            while True:  # noqa: ASYNC110 - it is time that it waits for
                await trio.sleep_until(self.look(trio.current_time()))


_WATCHES: trio.lowlevel.RunVar[dict[float, Watch] | None] = trio.lowlevel.RunVar(
    "orchestra.watches", None
)
