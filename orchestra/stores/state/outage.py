"""Logs that a state cannot be asked, and that it can again; not the failure of each call.

Callers that can do without a state go on silently, as `when_state_fails` says. The operator learns
of it from these lines only.
"""

from __future__ import annotations

import logging
import math

log = logging.getLogger("orchestra.stores")

LASTS_S = 1.0
"""A shorter failure is not an outage: a slow answer, or the only call of a command."""
QUIET_S = 60.0
"""A state that comes and goes is logged once in this time."""


class Outage:
    """Whether a state can be asked, as its calls have found. Pure but for the log.

    `begins` is the line for its beginning, with `%s` for the error, at this `level`; `ends` is that
    for its end. An outage is logged once it has lasted `lasts_s`, if the last one that was logged
    has been over for `quiet_s`.
    """

    def __init__(
        self, begins: str, ends: str, *, lasts_s: float, quiet_s: float, level: int
    ) -> None:
        self._begins = begins
        self._ends = ends
        self._lasts_s = lasts_s
        self._quiet_s = quiet_s
        self._level = level
        self._since_s: float | None = None
        self._is_told = False
        self._told_s = -math.inf

    def failed(self, error: Exception, now_s: float) -> None:
        """A call has failed, for a reason of the state's."""
        if self._since_s is None:
            self._since_s = now_s
        lasts = now_s - self._since_s >= self._lasts_s and now_s - self._told_s >= self._quiet_s
        if lasts and not self._is_told:
            self._is_told = True
            log.log(self._level, self._begins, error)

    def answered(self, now_s: float) -> None:
        """A call has its answer."""
        if self._since_s is not None:
            if self._is_told:
                log.warning("%s, after %.3g s", self._ends, now_s - self._since_s)
                self._told_s = now_s
            self._since_s, self._is_told = None, False


def outage_of_state(place: str) -> Outage:
    """The outage of a state without which callers can continue for a while."""
    begins = (
        "%s; until it answers, limits let calls pass and budgets refuse them, unless "
        "`when_state_fails` says otherwise"
    )
    ends = f"{place} answers again"
    return Outage(begins, ends, lasts_s=LASTS_S, quiet_s=QUIET_S, level=logging.WARNING)


def outage_of_keys() -> Outage:
    """The outage of the keys' state, without which requests are refused: it is logged at once."""
    begins = "keys cannot be looked up, and nobody is let in: %s"
    return Outage(begins, "keys can be looked up again", lasts_s=0, quiet_s=0, level=logging.ERROR)
