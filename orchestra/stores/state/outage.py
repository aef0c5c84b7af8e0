"""Tells in the log that a state cannot be asked, and that it can again; not each call's failure.

Whoever can do without a state goes on without a word, as `when_state_fails` says: only here it is
told to whoever runs the server.
"""

from __future__ import annotations

import logging
import math

log = logging.getLogger("orchestra.stores")

LASTS_S = 1.0
"""What is over sooner is no outage: one slow answer, or the one call of a command that says it."""
QUIET_S = 60.0
"""A state that comes and goes is told of once in so long."""


class Outage:
    """Whether one state can be asked, as its calls have found. Pure but for the log."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._since_s: float | None = None
        self._is_told = False
        self._told_s = -math.inf

    def failed(self, error: Exception, now_s: float) -> None:
        """A call has failed, for a reason of the state's."""
        if self._since_s is None:
            self._since_s = now_s
        lasts = now_s - self._since_s >= LASTS_S and now_s - self._told_s >= QUIET_S
        if lasts and not self._is_told:
            self._is_told = True
            log.warning(
                "%s; until it answers, limits let calls pass and budgets refuse them, unless "
                "`when_state_fails` says otherwise",
                error,
            )

    def answered(self, now_s: float) -> None:
        """A call has its answer."""
        if self._since_s is not None:
            if self._is_told:
                lasted_s = now_s - self._since_s
                log.warning("%s answers again, after %.3g s", self._place, lasted_s)
                self._told_s = now_s
            self._since_s, self._is_told = None, False
