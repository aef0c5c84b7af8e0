"""The current speed of models: a peak-sensitive moving average, and the calls in flight. Pure.

The theory (Finagle's "peak EWMA"): a call slower than the average becomes the average at once; a
faster one moves it only gradually. So trouble is noticed after one call and forgotten after
several. Without calls, the average decays towards zero, so a slow model is tried again. A model's
load is its average times the number of calls in flight plus one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp

import msgspec

DECAY_S = 10.0
"""The time after which a measurement has lost two thirds of its weight; Finagle's default."""
UNKNOWN_S = 1.0
"""The load per call in flight, for a model that has never answered."""
FAILED_S = 10.0
"""A failed call counts as at least this long: a model that fails at once is not fast."""


class Measure(msgspec.Struct, frozen=True):
    """The measured speed of one model; times are from one monotonic clock."""

    average_s: float | None = None
    at_s: float = 0.0
    in_flight: int = 0

    def observed(self, took_s: float, now_s: float) -> Measure:
        """The measure after one more call, with this duration."""
        average = self.average_s
        if average is None or took_s >= average:
            return Measure(took_s, now_s, self.in_flight)
        old = exp(-max(0.0, now_s - self.at_s) / DECAY_S)
        return Measure(average * old + took_s * (1 - old), now_s, self.in_flight)

    def load_s(self, now_s: float) -> float:
        """An estimate of how long another call would take; 0 for a model that was never called."""
        if self.average_s is None:
            return UNKNOWN_S * self.in_flight
        old = exp(-max(0.0, now_s - self.at_s) / DECAY_S)
        return self.average_s * old * (self.in_flight + 1)


class Latencies:
    """The measures of several models, updated by the events of each call.

    A call has `began`. It is `answered` at its first output, and may have `failed` before or after
    that. It is `cut` if its caller leaves before any output: that is neither an answer nor a
    failure, as the time is only a lower bound. It has `left` once, when nobody waits for it any
    more.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._measures = {name: Measure() for name in names}

    def loads(self, now_s: float) -> Mapping[str, float]:
        """The load of each model, in seconds."""
        return {name: each.load_s(now_s) for name, each in self._measures.items()}

    def began(self, name: str) -> None:
        """Note a call that now waits for this model."""
        self._wait(name, 1)

    def left(self, name: str) -> None:
        """Note that a call no longer waits for this model, however it ended."""
        self._wait(name, -1)

    def answered(self, name: str, took_s: float, now_s: float) -> None:
        """Note a call that the model answered after this time."""
        self._measures[name] = self._measures[name].observed(took_s, now_s)

    def failed(self, name: str, took_s: float, now_s: float) -> None:
        """Note a call that the model failed after this time."""
        self.answered(name, max(took_s, FAILED_S), now_s)

    def cut(self, name: str, took_s: float, now_s: float) -> None:
        """Note a call whose caller gave up after this time, without any output."""
        if took_s >= (self._measures[name].average_s or 0.0):
            self.answered(name, took_s, now_s)

    def _wait(self, name: str, more: int) -> None:
        measure = self._measures[name]
        self._measures[name] = Measure(measure.average_s, measure.at_s, measure.in_flight + more)
