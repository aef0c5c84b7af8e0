"""Retries: whether and when a failed call is made again, and the budget for retries.

Rules of the file: decisions are functions of their arguments, which include time and randomness;
`Retries` passes Trio's time and the engine's randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import attrs
import trio

from orchestra.errors import ArmsFailedError, StepFailedError
from orchestra.graph.rules.policy import Limits, Retry
from orchestra.groups import taken_by

_DEFAULT = Retry(attempts_max=2)


def next_delay_s(
    rule: Retry, attempt: int, error: Exception, jitter: float, remaining_s: float
) -> float | None:
    """Seconds to wait before attempt `attempt + 1`, or None to give up.

    `attempt` is the number of the failed attempt, from 1. `jitter` is random, from 0 to 1.
    `remaining_s` is the time to the deadline: infinite without one, minus infinity for a
    cancelled call. The wait always ends before the deadline. It is at least the wait that the
    error asks for, and at most `rule.delay_max_s` longer.
    """
    if attempt >= rule.attempts_max or not is_retryable(rule, error):
        return None
    least_s = retry_after_s(error)
    delay_s = least_s + jitter * _backoff_s(rule, attempt)
    if least_s > rule.retry_after_max_s or delay_s >= remaining_s:
        return None
    return delay_s


def is_retryable(rule: Retry, error: Exception) -> bool:
    """Whether the same call may succeed later.

    In a group, every error has to be retryable; of several arms, the error of one.
    """
    if isinstance(error, taken_by(rule.on)):
        return True
    if isinstance(error, StepFailedError):
        return all(isinstance(e, Exception) and is_retryable(rule, e) for e in error.errors)
    if isinstance(error, ArmsFailedError):
        errors = error.errors.values()
        return any(isinstance(e, Exception) and is_retryable(rule, e) for e in errors)
    return getattr(error, "retryable", False) is True


def retry_after_s(error: Exception) -> float:
    """Seconds that the error asks to wait; 0 if it asks for none.

    In a group, the longest; of several arms, the shortest of those that may succeed later.
    """
    if isinstance(error, StepFailedError):
        waits = (retry_after_s(each) for each in error.errors if isinstance(each, Exception))
        return max(waits, default=0.0)
    if isinstance(error, ArmsFailedError):
        arms = (each for each in error.errors.values() if isinstance(each, Exception))
        return min(
            (retry_after_s(each) for each in arms if is_retryable(_DEFAULT, each)), default=0.0
        )
    wait_s = getattr(error, "retry_after_s", None)
    return max(0.0, wait_s) if isinstance(wait_s, int | float) else 0.0


def _backoff_s(rule: Retry, attempt: int) -> float:
    """The longest backoff after this attempt, in seconds."""
    try:
        return min(rule.delay_max_s, rule.delay_s * rule.multiplier ** (attempt - 1))
    except OverflowError:
        return rule.delay_max_s


class RetryBudget:
    """A token bucket that bounds the retries of an engine.

    It is full at the start. Calls and time add tokens, up to `Limits.retries_saved`, and each
    retry takes one.
    """

    __slots__ = ("_limits", "_since_s", "left")

    def __init__(self, limits: Limits, now_s: float) -> None:
        self._limits = limits
        self._since_s = now_s
        self.left = float(limits.retries_saved)
        """The number of tokens, as of the last call or retry."""

    def called(self, now_s: float) -> None:
        """Add the tokens for the first attempt of a call."""
        self._fill(now_s, self._limits.retries_per_call)

    def take(self, now_s: float) -> bool:
        """Take a token; return False if there is none."""
        self._fill(now_s, 0.0)
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def _fill(self, now_s: float, more: float) -> None:
        more += (now_s - self._since_s) * self._limits.retries_per_s
        self._since_s = now_s
        self.left = min(self._limits.retries_saved, self.left + more)


@attrs.define(eq=False)
class Retries:
    """The retries of an engine: their budget, and the source of jitter."""

    limits: Limits
    draw: Callable[[], float]
    """Returns random numbers from 0 to 1."""
    budget: RetryBudget = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.budget = RetryBudget(self.limits, trio.current_time())

    def called(self) -> None:
        """Count the first attempt of a call that has a retry rule."""
        self.budget.called(trio.current_time())

    def delay_s(self, rule: Retry, attempt: int, error: Exception) -> float | None:
        """Seconds to wait before the next attempt, for which a token is taken; None to give up.

        The deadline is the earliest of all cancel scopes around the call; for a cancelled call it
        has passed. If only the lack of a token prevents a retry, the error gets a note that says
        so.
        """
        now_s = trio.current_time()
        remaining_s = trio.current_effective_deadline() - now_s
        delay_s = next_delay_s(rule, attempt, error, self.draw(), remaining_s)
        if delay_s is None or self.budget.take(now_s):
            return delay_s
        with suppress(AttributeError, TypeError):  # some errors take no notes
            if _SPENT not in getattr(error, "__notes__", ()):  # and some are raised many times
                error.add_note(_SPENT)
        return None


_SPENT = (
    "not retried: the retry budget of this engine is used up for now; see `retries_per_call`, "
    "`retries_per_s` and `retries_saved` in Limits"
)
