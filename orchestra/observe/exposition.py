"""Metrics in Prometheus' formats; prometheus-client is imported at the first request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from orchestra.observe.names import FAMILIES, Family
from orchestra.observe.tally import Histogram, Labels, Tally

if TYPE_CHECKING:
    from prometheus_client import Metric


V = TypeVar("V")

_NONE_YET: Mapping[str, Mapping[Labels, int]] = {
    name: {(): 0} for name, each in FAMILIES.items() if each.kind == "counter" and not each.labels
}
"""A counter without labels is shown as 0 before its first event. Otherwise, Prometheus would not
see an increase when it appears."""

NO_COUNTS: Mapping[str, Mapping[Labels, int]] = MappingProxyType({})

OPEN_METRICS = "application/openmetrics-text"


def exposed(tally: Tally, accept: str = "") -> tuple[bytes, str]:
    """The metrics and their content type: OpenMetrics if `accept` contains it, else plain text.

    Raises:
        ModuleNotFoundError: prometheus-client is not installed.
    """
    from prometheus_client.exposition import choose_encoder

    accepted = f"{OPEN_METRICS}; version=1.0.0" if OPEN_METRICS in accept else ""
    encode, content_type = choose_encoder(accepted)
    return encode(_Registry(tally)), content_type


class _Registry:
    """A server's tally as a registry, which the encoders of prometheus-client read."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        """Every metric that has a value, and counters without labels."""
        return families(self._tally, _NONE_YET)


def families(
    tally: Tally, none_yet: Mapping[str, Mapping[Labels, int]] = NO_COUNTS
) -> Iterator[Metric]:
    """Every metric that has a value, in the classes of prometheus-client.

    `none_yet` are counts of counters that have none.
    """
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    for family, counts in _known({**none_yet, **tally.counters}):
        counter = CounterMetricFamily(family.name, family.about, labels=family.labels)
        for labels, count in counts:
            counter.add_metric(labels, count * family.unit)
        yield counter
    for family, histograms in _known(tally.histograms):
        metric = HistogramMetricFamily(family.name, family.about, labels=family.labels)
        for labels, histogram in histograms:
            metric.add_metric(labels, _buckets(histogram), histogram.sum)
        yield metric
    for family, values in _known(tally.gauges):
        gauge = GaugeMetricFamily(family.name, family.about, labels=family.labels)
        for labels, value in values:
            gauge.add_metric(labels, value)
        yield gauge


def _known(
    counted: Mapping[str, Mapping[Labels, V]],
) -> Iterator[tuple[Family, Iterable[tuple[Labels, V]]]]:
    """The metrics that this version knows, sorted; other processes may write newer ones."""
    for name in sorted(counted.keys() & FAMILIES.keys()):
        yield FAMILIES[name], sorted(counted[name].items(), key=itemgetter(0))


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """The cumulative counts, by upper bound."""
    bounds = (*map(str, histogram.bounds), "+Inf")
    return [*zip(bounds, accumulate(map(float, histogram.counts)), strict=True)]
