"""How fast models are at present: a peak-sensitive moving average, and who is waiting. Pure.

The theory (Finagle's "peak EWMA"): a call that was slower than the average becomes the average
at once, and one that was faster moves it only as time passes, so that trouble is noticed in one
call and forgotten in some. Without calls the average sinks towards nothing: whoever was slow is
tried again. A model's load is its average, as often as there are calls that wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp

import msgspec

DECAY_S = 10.0
"""After which an old measure has lost two thirds of its weight; Finagle's default."""
UNKNOWN_S = 1.0
"""What each waiting call of a model counts that has never answered."""
FAILED_S = 10.0
"""What a failed call counts at least: a model that fails at once is not a fast one."""


class Measure(msgspec.Struct, frozen=True):
    """What is known of one model; times are of one monotonic clock."""

    average_s: float | None = None
    at_s: float = 0.0
    in_flight: int = 0

    def observed(self, took_s: float, now_s: float, decay_s: float = DECAY_S) -> Measure:
        """The measure after one more call, which took so long."""
        average = self.average_s
        if average is None or took_s >= average:
            return Measure(took_s, now_s, self.in_flight)
        old = exp(-max(0.0, now_s - self.at_s) / decay_s)
        return Measure(average * old + took_s * (1 - old), now_s, self.in_flight)

    def load_s(self, now_s: float, decay_s: float = DECAY_S) -> float:
        """About how long one more call would take now; 0 for a model that nobody has tried."""
        if self.average_s is None:
            return UNKNOWN_S * self.in_flight
        old = exp(-max(0.0, now_s - self.at_s) / decay_s)
        return self.average_s * old * (self.in_flight + 1)


class Latencies:
    """The measures of some models, as calls begin, are answered, fail and are left.

    A call has `began`; it is `answered` when it first says something, and has `failed` before
    that or behind it; `left` it is once, when nothing waits for it any more. One that is `cut`
    before it said anything counts neither as an answer nor as a failure: all that is known is that
    it would have taken longer.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._measures = {name: Measure() for name in names}

    def loads(self, now_s: float) -> Mapping[str, float]:
        """The load of each, in seconds."""
        return {name: each.load_s(now_s) for name, each in self._measures.items()}

    def began(self, name: str) -> None:
        """A call waits for this model."""
        self._wait(name, 1)

    def left(self, name: str) -> None:
        """A call waits no longer for it, however it ended."""
        self._wait(name, -1)

    def answered(self, name: str, took_s: float, now_s: float) -> None:
        """It answered a call after so long."""
        self._measures[name] = self._measures[name].observed(took_s, now_s)

    def failed(self, name: str, took_s: float, now_s: float) -> None:
        """It failed a call after so long."""
        self.answered(name, max(took_s, FAILED_S), now_s)

    def cut(self, name: str, took_s: float, now_s: float) -> None:
        """A caller gave up after so long, without an answer: the model is no faster than that."""
        if took_s >= (self._measures[name].average_s or 0.0):
            self.answered(name, took_s, now_s)

    def _wait(self, name: str, more: int) -> None:
        measure = self._measures[name]
        self._measures[name] = Measure(measure.average_s, measure.at_s, measure.in_flight + more)
