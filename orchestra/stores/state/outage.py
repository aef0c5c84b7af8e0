"""Logs when a state becomes unreachable and when it is reachable again, but not each failed call.

Callers that can do without a state go on silently, as `when_state_fails` says. Operators learn of
an outage only from these log lines.
"""

from __future__ import annotations

import logging
import math

log = logging.getLogger("orchestra.stores")

LASTS_S = 1.0
"""A shorter failure is not logged: it may be one slow answer, or the only call of a command."""
QUIET_S = 60.0
"""After the end of a logged outage, no other outage is logged for this time."""


class Outage:
    """Follows whether the calls of a state fail, and logs its outages. Pure, but for the log.

    `begins` is the log line for the beginning of an outage, with `%s` for the error, and `level` is
    its log level. `ends` is the line for its end, a warning. An outage is logged once it has lasted
    `lasts_s`, unless the last logged one ended less than `quiet_s` ago.
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
        self._is_logged = False
        self._logged_s = -math.inf

    def failed(self, error: Exception, now_s: float) -> None:
        """Note that a call has failed because of the state."""
        if self._since_s is None:
            self._since_s = now_s
        lasts = now_s - self._since_s >= self._lasts_s and now_s - self._logged_s >= self._quiet_s
        if lasts and not self._is_logged:
            self._is_logged = True
            log.log(self._level, self._begins, error)

    def answered(self, now_s: float) -> None:
        """Note that a call has succeeded."""
        if self._since_s is not None:
            if self._is_logged:
                since_s = now_s - self._since_s  # longer than the outage, if nothing was asked
                log.warning("%s, %.3g s after the first failure", self._ends, since_s)
                self._logged_s = now_s
            self._since_s, self._is_logged = None, False


def outage_of_state(place: str) -> Outage:
    """The outages of a state that callers can do without for a while."""
    begins = (
        "%s; until it answers, limits let calls pass and budgets refuse them, unless "
        "`when_state_fails` says otherwise"
    )
    ends = f"{place} answers again"
    return Outage(begins, ends, lasts_s=LASTS_S, quiet_s=QUIET_S, level=logging.WARNING)


def outage_of_keys() -> Outage:
    """The outages of the state with the keys: logged at once, since all requests are refused."""
    begins = "keys cannot be looked up, and nobody is let in: %s"
    return Outage(begins, "keys can be looked up again", lasts_s=0, quiet_s=0, level=logging.ERROR)
