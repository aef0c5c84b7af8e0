"""A timeout for stores that does not count time in which the event loop was blocked.

The theory: Trio cancels a wait at its deadline before any task sees what has arrived. If the event
loop was blocked, by an import, a step that does not yield or a suspended process, every store would
seem late, even one that had responded at once. So time is counted in beats. A beat that took more
than twice as long as it should is not counted, unless the previous beat was not counted either, so
that every wait ends. And before a beat is counted, all tasks get a turn, in which they see what has
arrived.

Rules of the file: all waits have the same timeout, so they end in the order in which they began. If
a wait began while the loop was blocked, its end may be up to a beat after the ends of the waits
behind it: these then end with it. When a beat begins, the first wait has time left. A wait costs
one entry in a dictionary; one task counts, as long as there are waits.
"""

from __future__ import annotations

from types import TracebackType

import trio

BEATS = 5
"""The number of beats in a timeout."""
PASSES = 3
"""The turns that all tasks get before a beat is counted: a result from a thread needs three."""
_EXACT_S = 1e-9
"""The tolerance in comparisons, since sums of floats are not exact."""


class FairTime:
    """Ends waits after `timeout_s`, not counting time in which the event loop was blocked.

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
        """A context manager that cancels its body when the time is over, as `move_on_after`."""
        return Limited(self, trio.CancelScope(shield=shield))

    def begin(self, scope: trio.CancelScope) -> None:
        """Start a wait: cancel the scope when the time is over, unless `end` is called before."""
        now_s = trio.current_time()
        if not self._beats:
            self._beats, self._passed_s, self._began_s, self._beat_s = True, 0.0, now_s, 0.0
            trio.lowlevel.spawn_system_task(self._count, name="a store's time")
        gone_s = min(now_s - self._began_s, self._beat_s)
        self._ends_s[scope] = self._passed_s + gone_s + self._timeout_s

    def end(self, scope: trio.CancelScope) -> None:
        """End a wait: the scope is not cancelled any more."""
        self._ends_s.pop(scope, None)

    async def _count(self) -> None:
        was_blocked = False
        try:
            while self._ends_s:
                left_s = next(iter(self._ends_s.values())) - self._passed_s
                self._beat_s = min(self._timeout_s / BEATS, left_s)
                self._began_s = trio.current_time()
                await trio.sleep(self._beat_s)
                lasted_s = trio.current_time() - self._began_s
                was_blocked = lasted_s > 2 * self._beat_s + _EXACT_S and not was_blocked
                for _ in range(PASSES):
                    await trio.lowlevel.checkpoint()
                if not was_blocked:
                    self._passed_s += self._beat_s
                self._end_all()
        finally:
            self._beats = False

    def _end_all(self) -> None:
        """Cancel the waits whose time is over, up to the first that has time left."""
        while self._ends_s:
            scope, end_s = next(iter(self._ends_s.items()))
            if end_s > self._passed_s + _EXACT_S:
                return
            del self._ends_s[scope]
            scope.cancel()


class Limited:
    """The context manager of one wait; it can be entered once."""

    __slots__ = ("_scope", "_time")

    def __init__(self, time: FairTime, scope: trio.CancelScope) -> None:
        self._time = time
        self._scope = scope

    def __enter__(self) -> None:
        """Start the wait."""
        self._scope.__enter__()
        self._time.begin(self._scope)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """End the wait; if the time was over, the cancellation is not raised further."""
        self._time.end(self._scope)
        return bool(self._scope.__exit__(kind, error, traceback))
