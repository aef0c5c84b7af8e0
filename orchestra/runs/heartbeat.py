"""Whether a process may say of another that it has died.

The theory of it: without a heartbeat for `dead_after_s`, a process counts as dead, and its runs
have failed for good. But where the state was away, its clock was set, or the machine stood still,
the heartbeats of all have lapsed, and those of the living come back one by one. Then that of who
looks has lapsed as well; and as long as the others may need, it says of nobody that they have died.

Rules of the file: all times are those of the state, and none is compared with a clock of ours.
"""

from __future__ import annotations

import math


class OwnHeartbeat:
    """The heartbeat of this process, as the state knows it. One that has none judges at once."""

    def __init__(self, dead_after_s: float) -> None:
        self._dead_after_s = dead_after_s
        self._beat_s: float | None = None
        self._from_s = -math.inf

    def beat(self, now_s: float) -> None:
        """Its heartbeat was written at this time."""
        if self._lapsed(now_s):
            self._from_s = now_s + self._dead_after_s
        self._beat_s = now_s

    def may_judge(self, now_s: float) -> bool:
        """Whether another that has no heartbeat at this time has died."""
        return now_s >= self._from_s and not self._lapsed(now_s)

    def _lapsed(self, now_s: float) -> bool:
        """Whether its own has ended by this time; or the clock was set as far back."""
        return self._beat_s is not None and abs(now_s - self._beat_s) >= self._dead_after_s
