"""An outage of models: their breakers are open, so that rows are not sent. Pure.

The theory: a row that a breaker refused was not sent, so this is no attempt at it. The failures of
the breaker's probes say nothing about their rows either, until a model answers again. While it
does not, rows wait for the next probes; after `lasts_max_s`, waiting is no use any more.
"""

from __future__ import annotations

import attrs

from orchestra.errors import (
    ArmsFailedError,
    BreakerOpenError,
    BudgetExceededError,
    LimitReachedError,
    ModelsFailedError,
    StepFailedError,
)
from orchestra.policies.retry import retry_after_s


@attrs.define
class Outage:
    """Since when breakers have refused rows without any answer between."""

    lasts_max_s: float
    since_s: float | None = None
    """None while there is no outage."""
    error: Exception | None = None
    """The last error of a model that was called."""

    def continues(self, error: Exception | None, *, retryable: bool, now_s: float) -> bool:
        """Whether there is an outage after an attempt that ended like this.

        It begins when a breaker refuses a row. It ends when a row finishes or fails for good, or a
        provider says how long to wait: it has answered. Our own limits and budgets say nothing.
        """
        if isinstance(error, LimitReachedError | BudgetExceededError):
            return False
        if is_refusal(error):
            self.since_s = now_s if self.since_s is None else self.since_s
        elif error is None or not retryable or retry_after_s(error) > 0:
            self.since_s = None
        else:
            self.error = error
        return self.since_s is not None

    def too_long(self, error: Exception, now_s: float) -> bool:
        """Whether the outage has lasted for too long, as far as this attempt shows.

        A refusal shows little: probes may be under way, perhaps those of others than the batch.
        """
        most_s = self.lasts_max_s * (2 if is_refusal(error) else 1)
        return self.since_s is not None and now_s - self.since_s >= most_s


def is_refusal(error: BaseException | None) -> bool:
    """Whether breakers refused all that was called."""
    if isinstance(error, ArmsFailedError | ModelsFailedError):
        return bool(error.errors) and all(map(is_refusal, error.errors.values()))
    if isinstance(error, StepFailedError):
        return bool(error.errors) and all(map(is_refusal, error.errors))
    return isinstance(error, BreakerOpenError)
