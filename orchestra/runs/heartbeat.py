"""Whether a process may decide that another one has died.

The theory of it: without a heartbeat for `dead_after_s`, a process counts as dead, and its runs
have failed for good. But if the state was away, its clock was set, or the machine stood still, all
heartbeats have expired, and those of the living return one by one. Then the heartbeat of the
process that looks has expired as well. So for `dead_after_s` after its own has returned, a process
declares no other one dead.

Rules of the file: all times are those of the state, and none is compared with a clock of ours.
"""

from __future__ import annotations

import math


class OwnHeartbeat:
    """The heartbeat of this process in the state. Without one, others may be judged at once."""

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
        """Whether a process without a heartbeat at this time may be declared dead."""
        return now_s >= self._from_s and not self._lapsed(now_s)

    def _lapsed(self, now_s: float) -> bool:
        """Whether our own has expired by this time, or the clock was set back as far."""
        return self._beat_s is not None and abs(now_s - self._beat_s) >= self._dead_after_s
