"""Time for objects that outlive a `trio.run`.

Each run starts its clock anywhere: Trio's own at a random number, a virtual one at 0. An object
that lasts from one run to the next would see years pass, or time go back.
"""

from __future__ import annotations

import trio


class Clock:
    """Seconds that never go back, from one `trio.run` to the next.

    Within a run they pass as in the run; between two runs, no time passes for this clock. So
    a limit is kept rather too long than not at all.
    """

    def __init__(self) -> None:
        self._of: trio.abc.Clock | None = None
        self._offset_s = 0.0
        self._last_s = 0.0

    def now_s(self) -> float:
        """The time now. Raises RuntimeError outside of `trio.run`."""
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
        """The time now, or that of the last look outside of `trio.run`."""
        return self.now_s() if trio.lowlevel.in_trio_run() else self._last_s
