"""Whether this process may decide that another process has died.

The theory: without a heartbeat for `dead_after_s`, a process counts as dead, and its runs have
failed for good. But after the state was unreachable, its clock was set, or the machine was
suspended, the heartbeats of all processes have expired, and those of live processes come back one
by one. In that case the heartbeat of this process has expired as well. So for `dead_after_s` after
its own heartbeat has come back, a process does not declare any other dead.

Rules of the file: all times are by the clock of the state, never by a clock of this process.
"""

from __future__ import annotations

import math


class OwnHeartbeat:
    """The heartbeat of this process. Before the first one, `may_judge` is always true."""

    def __init__(self, dead_after_s: float) -> None:
        self._dead_after_s = dead_after_s
        self._beat_s: float | None = None
        self._from_s = -math.inf

    def beat(self, now_s: float) -> bool:
        """Note that the heartbeat was written at this time; whether it had expired before."""
        lapsed = self._lapsed(now_s)
        if lapsed:
            self._from_s = now_s + self._dead_after_s
        self._beat_s = now_s
        return lapsed

    def may_judge(self, now_s: float) -> bool:
        """Whether another process that has no heartbeat at this time may be declared dead."""
        return now_s >= self._from_s and not self._lapsed(now_s)

    def _lapsed(self, now_s: float) -> bool:
        """Whether our own heartbeat has expired by now, or the clock was set back as much."""
        return self._beat_s is not None and abs(now_s - self._beat_s) >= self._dead_after_s
