"""Counters, histograms and gauges of a process, which can be added to those of others. Pure.

Rules of the file: counting is an addition in a dictionary, since every step is counted. A metric
has at most `SERIES_MAX` series; further label values are counted under `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import add
from typing import TypeVar

import msgspec

from orchestra.errors import StateError
from orchestra.observe.names import Family
from orchestra.records import UNREADABLE

SERIES_MAX = 2_000
"""The most series per metric. Names come from the configuration and from code, and are far fewer.
"""
OTHER = "other"

Labels = tuple[str, ...]
V = TypeVar("V")


class Histogram(msgspec.Struct):
    """The number of values between each two bounds (the last: above all of them), and their sum."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float = 0.0

    @classmethod
    def of(cls, bounds: tuple[float, ...]) -> Histogram:
        """An empty histogram."""
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, value: float) -> None:
        """Count a value; one that equals a bound is counted below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, other: Histogram) -> None:
        """Add the counts of another histogram; ignore it if its bounds differ."""
        if other.bounds == self.bounds:
            self.counts[:] = map(add, self.counts, other.counts)
            self.sum += other.sum


class Tally(msgspec.Struct):
    """Counts by the name of the metric, and then by its labels."""

    counters: dict[str, dict[Labels, int]] = {}
    histograms: dict[str, dict[Labels, Histogram]] = {}
    gauges: dict[str, dict[Labels, int]] = {}
    """Current values, not counts."""

    def count(self, family: Family, labels: Labels, amount: int = 1) -> None:
        """Add to a counter."""
        series = self.counters.setdefault(family.name, {})
        labels = _bounded(series, labels)
        series[labels] = series.get(labels, 0) + amount

    def histogram(self, family: Family, labels: Labels) -> Histogram:
        """The histogram of these labels; always the same object."""
        series = self.histograms.setdefault(family.name, {})
        labels = _bounded(series, labels)
        found = series.get(labels)
        if found is None:
            found = series[labels] = Histogram.of(family.bounds)
        return found

    def set(self, family: Family, labels: Labels, value: int) -> None:
        """Set a gauge."""
        series = self.gauges.setdefault(family.name, {})
        series[_bounded(series, labels)] = value

    def add(self, other: Tally, *, gauges: bool = True) -> None:
        """Add the counts of another tally, and its gauges too if they are still current."""
        _add(self.counters, other.counters)
        if gauges:
            _add(self.gauges, other.gauges)
        for name, series in other.histograms.items():
            mine = self.histograms.setdefault(name, {})
            for labels, histogram in series.items():
                at = _bounded(mine, labels)
                mine.setdefault(at, Histogram.of(histogram.bounds)).add(histogram)

    def encode(self) -> bytes:
        """The tally as bytes, for `decode`."""
        return msgspec.msgpack.encode(self)


def decode(data: bytes) -> Tally:
    """The tally that `encode` wrote.

    Raises:
        StateError: the bytes are no tally.
    """
    try:
        return _DECODER.decode(data)
    except UNREADABLE as error:
        raise StateError(f"these are not the metrics of a process: {error}") from error


def _bounded(series: dict[Labels, V], labels: Labels) -> Labels:
    if labels in series or len(series) < SERIES_MAX:
        return labels
    return (OTHER,) * len(labels)


def _add(mine: dict[str, dict[Labels, int]], more: dict[str, dict[Labels, int]]) -> None:
    for name, series in more.items():
        there = mine.setdefault(name, {})
        for labels, amount in series.items():
            at = _bounded(there, labels)
            there[at] = there.get(at, 0) + amount


_DECODER = msgspec.msgpack.Decoder(Tally)
