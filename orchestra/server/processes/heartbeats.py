"""Judges by its heartbeats whether a worker is stuck. Pure.

The theory: a process that lives may still be stuck for good, in a deadlock or in code in C, and its
clients would wait for ever. So the event loop of each worker sends its supervisor a byte every
`BEAT_S`. The supervisor looks at least every `LOOK_S`, and adds up the time between its looks for
as long as none has come. A longer time between two looks counts as `LOOK_S` only: the supervisor
did not run then, so the worker may not have run either (a suspended machine, a frozen container).
"""

from __future__ import annotations

import attrs

BEAT_S = 0.5
"""Seconds between two heartbeats of a worker."""
LOOK_S = 1.0
"""The most seconds between two looks that count as silence."""
TIMEOUT_MIN_S = 3.0
"""A shorter timeout counts as this one: a busy machine delays some heartbeats."""
START_S = 120.0
"""How long a worker may take to be ready, or be silent while it reloads: it imports modules."""

BEAT = b"."
LOADING = b"~"
"""A heartbeat of a worker that reloads."""


@attrs.frozen
class Pulse:
    """For how long a worker had been silent when the supervisor last looked, at `looked_s`."""

    looked_s: float
    silent_s: float = 0.0
    loading: bool = False
    """Whether it said last that it reloads."""

    def looked(self, now_s: float, heartbeats: bytes) -> Pulse:
        """The pulse after a look at `now_s`, which found these heartbeats since the last one."""
        if heartbeats:
            return Pulse(now_s, loading=heartbeats.endswith(LOADING))
        more_s = min(now_s - self.looked_s, LOOK_S)
        return attrs.evolve(self, looked_s=now_s, silent_s=self.silent_s + more_s)

    def stuck(self, timeout_s: float) -> bool:
        """Whether the worker was silent for `timeout_s`, or while it reloads for `START_S`."""
        least_s = START_S if self.loading else TIMEOUT_MIN_S
        return self.silent_s >= max(timeout_s, least_s)
