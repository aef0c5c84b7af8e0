"""How fast models are now: a peak-sensitive moving average, and the waiting calls. Pure.

The theory (Finagle's "peak EWMA"): a call slower than the average becomes the average at once; a
faster one moves it only over time. So trouble is noticed in one call and forgotten in several.
Without calls the average decays towards zero, so a slow model is tried again. A model's load is
its average times the number of waiting calls plus one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp

import msgspec

DECAY_S = 10.0
"""The time after which a measure has lost two thirds of its weight; Finagle's default."""
UNKNOWN_S = 1.0
"""The time per waiting call for a model that has never answered."""
FAILED_S = 10.0
"""The least time of a failed call: a model that fails at once is not fast."""


class Measure(msgspec.Struct, frozen=True):
    """The measure of one model; times are from one monotonic clock."""

    average_s: float | None = None
    at_s: float = 0.0
    in_flight: int = 0

    def observed(self, took_s: float, now_s: float) -> Measure:
        """The measure after another call with this duration."""
        average = self.average_s
        if average is None or took_s >= average:
            return Measure(took_s, now_s, self.in_flight)
        old = exp(-max(0.0, now_s - self.at_s) / DECAY_S)
        return Measure(average * old + took_s * (1 - old), now_s, self.in_flight)

    def load_s(self, now_s: float) -> float:
        """About how long another call would take now; 0 for a model that was never called."""
        if self.average_s is None:
            return UNKNOWN_S * self.in_flight
        old = exp(-max(0.0, now_s - self.at_s) / DECAY_S)
        return self.average_s * old * (self.in_flight + 1)


class Latencies:
    """The measures of some models, updated as calls begin, are answered, fail and are left.

    A call has `began`. It is `answered` at its first output, and has `failed` before or after that.
    It has `left` once, when nothing waits for it any more. A call that is `cut` before any output
    counts neither as an answer nor as a failure: it is only known that it would have taken longer.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._measures = {name: Measure() for name in names}

    def loads(self, now_s: float) -> Mapping[str, float]:
        """The load of each model, in seconds."""
        return {name: each.load_s(now_s) for name, each in self._measures.items()}

    def began(self, name: str) -> None:
        """Note a call that waits for this model."""
        self._wait(name, 1)

    def left(self, name: str) -> None:
        """Note that a call no longer waits for it, however it ended."""
        self._wait(name, -1)

    def answered(self, name: str, took_s: float, now_s: float) -> None:
        """Note a call that it answered after this time."""
        self._measures[name] = self._measures[name].observed(took_s, now_s)

    def failed(self, name: str, took_s: float, now_s: float) -> None:
        """Note a call that it failed after this time."""
        self.answered(name, max(took_s, FAILED_S), now_s)

    def cut(self, name: str, took_s: float, now_s: float) -> None:
        """Note a caller that gave up after this time without an answer: a lower bound."""
        if took_s >= (self._measures[name].average_s or 0.0):
            self.answered(name, took_s, now_s)

    def _wait(self, name: str, more: int) -> None:
        measure = self._measures[name]
        self._measures[name] = Measure(measure.average_s, measure.at_s, measure.in_flight + more)
