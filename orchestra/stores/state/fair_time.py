"""A timeout for stores that does not count time in which this process stood still.

The theory of it: Trio ends a wait at its deadline before anybody sees what has arrived. If the
process stood still, importing modules or in a step that blocks, every store would seem late, also
one that had answered at once. So time is counted in beats. A beat that took more than twice as long
as it should is not counted, unless the beat before was not counted either, so that every wait ends.
And before a beat is counted, all tasks have a turn, in which they see what has arrived.

Rules of the file: all waits have the same timeout, so that they end in the order in which they
began; but one that began while the process stood still may end up to a beat after those behind it,
which wait for it. When a beat begins, the first has time left. A wait costs an entry in a
dictionary; one task counts, as long as there are waits.
"""

from __future__ import annotations

from types import TracebackType

import trio

BEATS = 5
"""The beats in a timeout."""
PASSES = 3
"""The turns that all tasks have before a beat is counted: a result from a thread takes three."""
_EXACT_S = 1e-9
"""Sums of fractions are not exact."""


class FairTime:
    """Ends waits after `timeout_s`, not counting time in which this process stood still.

    Belongs to one `trio.run` at a time.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._ends_s: dict[trio.CancelScope, float] = {}
        self._passed_s = 0.0
        self._began_s = 0.0
        self._beat_s = 0.0
        self._beats = False

    def limited(self, *, shield: bool = False) -> Limited:
        """A context that ends when the time is over, as that of `trio.move_on_after`."""
        return Limited(self, trio.CancelScope(shield=shield))

    def begin(self, scope: trio.CancelScope) -> None:
        """Cancel the scope when the time is over, unless `end` is called before."""
        now_s = trio.current_time()
        if not self._beats:
            self._beats, self._passed_s, self._began_s, self._beat_s = True, 0.0, now_s, 0.0
            trio.lowlevel.spawn_system_task(self._count, name="a store's time")
        gone_s = min(now_s - self._began_s, self._beat_s)
        self._ends_s[scope] = self._passed_s + gone_s + self._timeout_s

    def end(self, scope: trio.CancelScope) -> None:
        """Its wait is over."""
        self._ends_s.pop(scope, None)

    async def _count(self) -> None:
        stood_still = False
        try:
            while self._ends_s:
                left_s = next(iter(self._ends_s.values())) - self._passed_s
                self._beat_s = min(self._timeout_s / BEATS, left_s)
                self._began_s = trio.current_time()
                await trio.sleep(self._beat_s)
                lasted_s = trio.current_time() - self._began_s
                stood_still = lasted_s > 2 * self._beat_s + _EXACT_S and not stood_still
                for _ in range(PASSES):
                    await trio.lowlevel.checkpoint()
                if not stood_still:
                    self._passed_s += self._beat_s
                self._end_all()
        finally:
            self._beats = False

    def _end_all(self) -> None:
        """End the waits whose time is over, up to the first that has time left."""
        while self._ends_s:
            scope, end_s = next(iter(self._ends_s.items()))
            if end_s > self._passed_s + _EXACT_S:
                return
            del self._ends_s[scope]
            scope.cancel()


class Limited:
    """A wait of `FairTime`, entered once."""

    __slots__ = ("_scope", "_time")

    def __init__(self, time: FairTime, scope: trio.CancelScope) -> None:
        self._time = time
        self._scope = scope

    def __enter__(self) -> None:
        """Begin to wait."""
        self._scope.__enter__()
        self._time.begin(self._scope)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """The wait is over; where it is by its time, nothing is raised."""
        self._time.end(self._scope)
        return bool(self._scope.__exit__(kind, error, traceback))
