"""Log messages about failing models: one when a failure is noticed, one when it is over.

The caller of a failed run knows of it. But if a route, another arm or another attempt
continues without a model, no run fails, and nothing else would say that the model is not
used, or that its key is invalid.

Rules of the file: however many calls fail, there is one line for each change of the breaker,
and one a minute (`AGAIN_S`) for errors that no breaker counts.
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
"""A single refused call is reported by its caller, such as `orchestra run`."""
REFUSALS = (AuthenticationError, PermissionDeniedError, ModelNotFoundError, QuotaError)
"""Errors that no breaker counts, and that only the operator can fix."""

log = logging.getLogger("orchestra.policies")


class FailureLog:
    """The failures of the model `name` in this process, as its calls show them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._refused = 0
        self._told = False
        self._next_s = -math.inf

    def refused(self, error: BaseException, now_s: float) -> None:
        """Note a call that failed with one of `REFUSALS`."""
        self._refused += 1
        if self._refused >= IN_A_ROW and now_s >= self._next_s:
            self._told, self._next_s = True, now_s + AGAIN_S
            told = "model %r was refused by its provider, %d times in a row: %s"
            log.warning(told, self._name, self._refused, describe(error))

    def answered(self) -> None:
        """Note a call that succeeded."""
        self._refused = 0
        if self._told:
            self.recovered()

    def breaker_opened(self, pause_s: float, error: BaseException | None) -> None:
        """Note that its breaker has opened, after a call that failed with this error."""
        why = describe(error) if isinstance(error, ModelError) else "it was slow to answer"
        told = "model %r has failed too often, and its breaker is open, for %.3g s at first: %s"
        log.warning(told, self._name, pause_s, why)

    def recovered(self) -> None:
        """Note that the model answers again."""
        self._told = False
        log.warning("model %r answers again", self._name)
