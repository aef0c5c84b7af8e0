"""Circuit breakers: a failing model gets no calls for a while, and then a few probes. Pure.

The theory. While the breaker is *closed*, every call is admitted, and its outcome is counted in a
window of the last `window_s` seconds. When enough calls have ended in the window, and too many of
them failed, the breaker *opens*: no call is admitted for `open_s`. Then it is *half-open*: it
admits a round of `probes` calls. If all of them succeed, it closes; one failure opens it again,
for twice as long. If a round brings no result in its time (its probes hang, or were cancelled),
another round follows, also after twice as long. So a hanging probe never keeps the breaker open,
and an outage costs only a few calls. If the breaker opens again within a window after it closed,
the pauses continue from where they were: a flapping model does not start over each time.

Each pause is extended at random by up to a fifth, but never beyond `open_max_s`: all processes of
a deployment saw the outage begin at the same time, and should not all probe at the same time.

Rules of the file: time is an argument and never goes back; randomness is a function. A call
admitted before the last change of state is not counted when it ends, since it says nothing about
the new state.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import attrs

from orchestra.errors import (
    AuthenticationError,
    BreakerOpenError,
    BudgetExceededError,
    ContentFilterError,
    InvalidRequestError,
    LimitReachedError,
    ModelError,
    ModelNotFoundError,
    ModelsFailedError,
    OutputError,
    PermissionDeniedError,
    QuotaError,
    UnknownPriceError,
)

JITTER = 0.2
"""The largest random extension of a pause, as a share of the pause."""
SLICES = 10
"""The window slides by a tenth of its length, so that memory does not grow with the calls."""


@attrs.frozen(kw_only=True)
class BreakerRule:
    """When a breaker opens, and for how long. Defaults are from well-known libraries."""

    failure_rate: float = 0.5
    """The share of failed calls that opens the breaker, above 0 and up to 1.
    Half, as in resilience4j and Hystrix.
    """
    slow_rate: float = 1.0
    """The share of failed and slow calls that opens the breaker.
    All, as in resilience4j: a slow answer is better than none.
    """
    slow_s: float | None = 60.0
    """A call without any output by this time is slow; with None, no call is. As in resilience4j."""
    calls_min: int = 10
    """Fewer calls in the window prove nothing. Half of Hystrix' 20, as models get fewer calls."""
    window_s: float = 30.0
    """The length of the window. As in Polly."""
    open_s: float = 5.0
    """The pause before the first probes; it doubles for each further round.
    As in Polly and Hystrix.
    """
    open_max_s: float = 60.0
    """The longest pause, even if a provider asks for a longer one."""
    probes: int = 2
    """The calls in a round of probes, and the successes that close the breaker."""


class Outcome(Enum):
    """What the end of a call says about the health of its model."""

    SUCCESS = "success"
    SLOW = "slow"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    """Nothing: the call was cancelled or left early, or the request itself was wrong."""


NEUTRAL_ERRORS: tuple[type[ModelError], ...] = (
    AuthenticationError,  # a wrong key: an open breaker would hide it behind "try again later"
    PermissionDeniedError,
    ModelNotFoundError,
    QuotaError,  # waiting does not bring money
    InvalidRequestError,  # this and the next are the caller's fault: other callers are served
    ContentFilterError,
    OutputError,
    BreakerOpenError,  # this and the next three are our own: the model was not called
    LimitReachedError,
    BudgetExceededError,
    UnknownPriceError,
    ModelsFailedError,  # from a route: each of its models has counted the call
)
"""Errors that say nothing about a model's health. All other errors do: the model is slow, full or
broken, or its answer was cut."""


def outcome(error: BaseException) -> Outcome:
    """The outcome of a call that raised this error.

    A cancellation never counts, even inside a group of errors.
    """
    if not isinstance(error, Exception) or isinstance(error, NEUTRAL_ERRORS):
        return Outcome.NEUTRAL
    return Outcome.FAILURE


@attrs.frozen
class Closed:
    """All calls are admitted; the numbers are those of the window."""

    calls: int
    failures: int
    slow: int


@attrs.frozen
class Open:
    """No call is admitted; `wait_s` is the time until the next round of probes."""

    wait_s: float


@attrs.frozen
class HalfOpen:
    """`probes_left` more calls are admitted; `successes` probes have succeeded so far."""

    probes_left: int
    successes: int


BreakerState: TypeAlias = Closed | Open | HalfOpen


@attrs.frozen
class Permit:
    """Permission to call, given in one state and one round of probes; `record` takes it back."""

    epoch: int
    round: int


@attrs.define
class _Slice:
    """The calls that ended in one slice of a window; slices are numbered from time 0."""

    number: int
    calls: int = 0
    failures: int = 0
    slow: int = 0


class Breaker:
    """The breaker of one model: a state machine. Every method takes the time, in seconds.

    `draw` returns numbers from 0 to 1, which extend the pauses; by default, none is extended.
    """

    def __init__(self, rule: BreakerRule, draw: Callable[[], float] = lambda: 0.0) -> None:
        self.rule = rule
        self._draw = draw
        self._slices: list[_Slice] = []
        self._epoch = 0
        self._round = 0
        self._refuted = 0
        """The first round whose successes count: a probe failed after the earlier rounds began."""
        self._tripped = False
        self._next_s = 0.0
        self._probes_left = 0
        self._successes = 0
        self._backoffs = 0
        self._closed_s: float | None = None
        self._permit = Permit(0, 0)
        """The current permit, shared by all calls until the state or the round changes."""

    @property
    def tripped(self) -> bool:
        """Whether the breaker is open or half-open."""
        return self._tripped

    def state(self, now_s: float) -> BreakerState:
        """The current state."""
        if not self._tripped:
            calls, failures, slow = self._counts(now_s)
            return Closed(calls, failures, slow)
        if now_s >= self._next_s:
            return HalfOpen(self.rule.probes, self._successes)
        if self._probes_left:
            return HalfOpen(self._probes_left, self._successes)
        return Open(self._next_s - now_s)

    def admit(self, now_s: float) -> Permit | None:
        """A permit for a call; None while the breaker is open, or all probes are under way."""
        if self._tripped:
            if now_s >= self._next_s:
                self._begin_round(now_s)
            if not self._probes_left:
                return None
            self._probes_left -= 1
        if self._permit.epoch != self._epoch or self._permit.round != self._round:
            self._permit = Permit(self._epoch, self._round)
        return self._permit

    def outdated(self, permit: Permit) -> bool:
        """Whether the breaker has opened since it gave this permit; the call should not begin."""
        return self._tripped and permit.epoch != self._epoch

    def record(
        self, permit: Permit, ended: Outcome, now_s: float, *, retry_after_s: float | None = None
    ) -> bool:
        """Take back a permit with its call's outcome; return whether this opened the breaker.

        `retry_after_s` is the pause that the provider asked for.
        """
        if permit.epoch != self._epoch:
            return False
        if self._tripped:
            return self._probed(permit, ended, now_s, retry_after_s)
        if ended is not Outcome.NEUTRAL and self._counted(ended, now_s):
            self._trip(now_s, retry_after_s)
            return True
        return False

    def _probed(
        self, permit: Permit, ended: Outcome, now_s: float, retry_after_s: float | None
    ) -> bool:
        current = permit.round == self._round
        if ended is Outcome.NEUTRAL:
            self._probes_left += current
        elif ended is not Outcome.SUCCESS:
            self._successes = 0
            if current:
                self._refuted = self._round = self._round + 1
                self._probes_left = 0
                self._next_s = now_s + self._pause_s(retry_after_s)
            return current
        elif permit.round >= self._refuted:
            self._successes += 1
            if self._successes >= self.rule.probes:
                self._close(now_s)
        return False

    def _counted(self, ended: Outcome, now_s: float) -> bool:
        """Count the end of a call; return whether the breaker has to open."""
        number = self._slice_number(now_s)
        if not self._slices or self._slices[-1].number != number:
            self._slices = [each for each in self._slices if each.number > number - SLICES]
            self._slices.append(_Slice(number))
        last = self._slices[-1]
        last.calls += 1
        if ended is Outcome.SUCCESS:
            return False
        last.failures += ended is Outcome.FAILURE
        last.slow += ended is Outcome.SLOW
        calls, failures, slow = self._counts(now_s)
        too_many = failures >= self.rule.failure_rate * calls
        too_slow = failures + slow >= self.rule.slow_rate * calls
        return calls >= self.rule.calls_min and (too_many or too_slow)

    def _counts(self, now_s: float) -> tuple[int, int, int]:
        number = self._slice_number(now_s)
        kept = [each for each in self._slices if each.number > number - SLICES]
        return (
            sum(each.calls for each in kept),
            sum(each.failures for each in kept),
            sum(each.slow for each in kept),
        )

    def _slice_number(self, now_s: float) -> int:
        return int(now_s * SLICES / self.rule.window_s)

    def _trip(self, now_s: float, retry_after_s: float | None) -> None:
        well = self._closed_s is None or now_s - self._closed_s >= self.rule.window_s
        self._backoffs = 0 if well else self._backoffs
        self._enter(tripped=True)
        self._next_s = now_s + self._pause_s(retry_after_s)

    def _begin_round(self, now_s: float) -> None:
        self._round += 1
        self._backoffs += 1
        self._probes_left = self.rule.probes
        self._next_s = now_s + self._pause_s(None)

    def _close(self, now_s: float) -> None:
        self._enter(tripped=False)
        self._closed_s = now_s

    def _enter(self, *, tripped: bool) -> None:
        self._tripped = tripped
        self._epoch += 1
        self._slices = []
        self._probes_left = self._successes = 0

    def _pause_s(self, retry_after_s: float | None) -> float:
        longest_s = self.rule.open_max_s
        doublings = min(self._backoffs, 64)  # so that the float does not overflow
        pause_s = min(self.rule.open_s * 2.0**doublings, longest_s)
        pause_s = max(pause_s, retry_after_s or 0.0)
        return min(pause_s * (1 + JITTER * self._draw()), longest_s)
