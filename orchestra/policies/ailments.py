"""What the log says of a model that ails: once when it is noticed, and once when it is over.

A run that fails is told by whoever has started it. But where a route, another arm or another
attempt goes on without a model, no run fails, and nobody would hear that it is left alone, or that
its key is of no use any more.

Rules of the file: however many calls fail, there is a line for each change of the breaker, and one
a minute, `AGAIN_S`, for what no breaker counts.
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
"""How long after a refusal was told the next is, at the soonest."""
IN_A_ROW = 2
"""One call that is refused is told by who made it, as by `orchestra run`: it is no ailment yet."""
REFUSALS = (AuthenticationError, PermissionDeniedError, ModelNotFoundError, QuotaError)
"""What no breaker counts, and only the deployment can mend."""

log = logging.getLogger("orchestra.policies")


class Ailments:
    """Those of the model `name` in this process, as its calls show them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._refused = 0
        self._told = False
        self._next_s = -math.inf

    def refused(self, error: BaseException, now_s: float) -> None:
        """A call has failed with one of `REFUSALS`."""
        self._refused += 1
        if self._refused >= IN_A_ROW and now_s >= self._next_s:
            self._told, self._next_s = True, now_s + AGAIN_S
            told = "model %r was refused by its provider, %d times in a row: %s"
            log.warning(told, self._name, self._refused, describe(error))

    def answered(self) -> None:
        """A call has come to its end."""
        self._refused = 0
        if self._told:
            self.left_alone_no_more()

    def left_alone(self, pause_s: float, error: BaseException | None) -> None:
        """Its breaker has opened, behind a call that failed with this."""
        why = describe(error) if isinstance(error, ModelError) else "it was slow to answer"
        told = "model %r has failed too often, and is left alone, for %.3g s at first: %s"
        log.warning(told, self._name, pause_s, why)

    def left_alone_no_more(self) -> None:
        """It answers again."""
        self._told = False
        log.warning("model %r answers again", self._name)
