"""A clock for objects that outlive a `trio.run`.

Each `trio.run` starts its own clock: Trio's at a random number, a virtual one at 0. An object
that is used in several of them would see years pass, or time go back.
"""

from __future__ import annotations

import trio


class Clock:
    """A clock that never goes back, from one `trio.run` to the next.

    Within a `trio.run`, it follows Trio's clock; between two of them, no time passes. So a limit
    may last too long, but never ends too early.
    """

    def __init__(self) -> None:
        self._of: trio.abc.Clock | None = None
        self._offset_s = 0.0
        self._last_s = 0.0

    def now_s(self) -> float:
        """The current time. Raises RuntimeError outside `trio.run`."""
        of = trio.lowlevel.current_clock()
        at_s = of.current_time()
        if of is not self._of:
            self._offset_s = 0.0 if self._of is None else self._last_s - at_s
            self._of = of
        at_s += self._offset_s
        if at_s <= self._last_s:
            return self._last_s
        self._last_s = at_s
        return at_s

    def seen_s(self) -> float:
        """The current time; outside `trio.run`, the last time that was read."""
        return self.now_s() if trio.lowlevel.in_trio_run() else self._last_s
