"""Log messages about failing models: one when a failure is noticed, one when it is over.

The caller of a failed run learns of the failure. But if a route, another arm or another attempt
goes on without a model, no run fails, and nothing else would tell the operator that the model is
not in use, or that its key is invalid.

Rules of the file: however many calls fail, there is one line for each change of the breaker,
and at most one a minute (`AGAIN_S`) for errors that no breaker counts.
"""

from __future__ import annotations

import logging
import math

from orchestra.errors import (
    AuthenticationError,
    ModelError,
    ModelNotFoundError,
    PermissionDeniedError,
    QuotaError,
)
from orchestra.messages import describe

AGAIN_S = 60.0
"""The shortest time between two log lines about refusals."""
IN_A_ROW = 2
"""The number of refused calls in a row from which on they are logged: a single one is reported by
its caller, for instance by `orchestra run`."""
REFUSALS = (AuthenticationError, PermissionDeniedError, ModelNotFoundError, QuotaError)
"""Errors that no breaker counts, and that only the operator can fix."""

log = logging.getLogger("orchestra.policies")


class FailureLog:
    """Logs the failures of the model `name` in this process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._refused = 0
        self._logged = False
        self._next_s = -math.inf

    def refused(self, error: BaseException, now_s: float) -> None:
        """Note a call that failed with one of `REFUSALS`."""
        self._refused += 1
        if self._refused >= IN_A_ROW and now_s >= self._next_s:
            self._logged, self._next_s = True, now_s + AGAIN_S
            line = "model %r was refused by its provider, %d times in a row: %s"
            log.warning(line, self._name, self._refused, describe(error))

    def answered(self) -> None:
        """Note a call that succeeded."""
        self._refused = 0
        if self._logged:
            self.recovered()

    def breaker_opened(self, pause_s: float, error: BaseException | None) -> None:
        """Note that the model's breaker has opened, after a call that ended with this error."""
        why = describe(error) if isinstance(error, ModelError) else "it was slow to answer"
        line = "model %r has failed too often, and its breaker is open, for %.3g s at first: %s"
        log.warning(line, self._name, pause_s, why)

    def recovered(self) -> None:
        """Note that the model answers again."""
        self._logged = False
        log.warning("model %r answers again", self._name)
