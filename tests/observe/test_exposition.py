"""What is counted, as Prometheus reads it: its own parser finds all of it again."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from orchestra.observe import names
from orchestra.observe.exposition import OPEN_METRICS, exposed
from orchestra.observe.tally import Tally

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

NONE_YET: Samples = {
    (f"orchestra_{name}_total", frozenset()): 0.0
    for name in ("runs_lost", "reloads_refused", "spans_made", "spans_sent")
}
"""Told from the start: Prometheus would see no increase in a series that begins with 1."""

READERS = {
    "": (parser.text_string_to_metric_families, "text/plain"),
    f"text/html, {OPEN_METRICS}; version=0.0.1": (
        openmetrics.text_string_to_metric_families,
        OPEN_METRICS,
    ),
}


def expected(tally: Tally) -> Samples:
    """All samples that there have to be."""
    found: Samples = dict(NONE_YET)

    def add(name: str, labels: tuple[str, ...], value: float, **more: str) -> None:
        pairs = {**dict(zip(family.labels, labels, strict=True)), **more}
        found[name, frozenset(pairs.items())] = value

    for name, counts in tally.counters.items():
        family = names.FAMILIES[name]
        for labels, count in counts.items():
            add(f"{name}_total", labels, count * family.unit)
    for name, values in tally.gauges.items():
        family = names.FAMILIES[name]
        for labels, value in values.items():
            add(name, labels, value)
    for name, histograms in tally.histograms.items():
        family = names.FAMILIES[name]
        for labels, each in histograms.items():
            bounds = (*map(str, each.bounds), "+Inf")
            for bound, count in zip(bounds, accumulate(each.counts), strict=True):
                add(f"{name}_bucket", labels, count, le=bound)
            add(f"{name}_count", labels, sum(each.counts))
            add(f"{name}_sum", labels, each.sum)
    return found


def samples(body: bytes, read: Any = parser.text_string_to_metric_families) -> Samples:
    """All that a reader finds."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in read(body.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("accept", READERS)
@given(
    st.dictionaries(st.tuples(TEXTS, TEXTS), st.integers(0, 2**40), max_size=4),
    st.dictionaries(TEXTS, st.integers(0, 2**40), max_size=4),
    st.dictionaries(st.tuples(TEXTS, TEXTS), st.lists(st.floats(0, 200), max_size=5), max_size=3),
    st.integers(0, 9),
)
def test_all_of_it_is_read_again(
    accept: str,
    failures: dict[tuple[str, ...], int],
    costs: dict[str, int],
    steps: dict[tuple[str, ...], list[float]],
    running: int,
) -> None:
    """Whatever is in the names: quotes, backslashes, ends of lines."""
    tally = Tally()
    for labels, count in failures.items():
        tally.count(names.RUN_FAILURES, labels, count)
    for pipeline, nanodollars in costs.items():
        tally.count(names.RUN_COST, (pipeline,), nanodollars)
    for labels, values in steps.items():
        histogram = tally.histogram(names.STEP_DURATION, labels)
        for value in values:
            histogram.observe(value)
    tally.set(names.RUNS_RUNNING, (), running)
    read, media_type = READERS[accept]
    body, content_type = exposed(tally, accept)
    assert content_type.startswith(media_type)
    assert samples(body, read) == pytest.approx(expected(tally))


@pytest.mark.parametrize("accept", ["x" * 100, f"{OPEN_METRICS}; version=a; escaping=b", ",;="])
def test_whatever_is_accepted_something_is_answered(accept: str) -> None:
    assert samples(exposed(Tally(), accept)[0]) == NONE_YET


def test_what_another_version_has_counted_and_this_does_not_know_is_left_out() -> None:
    assert samples(exposed(Tally({"orchestra_of_tomorrow": {(): 1}}))[0]) == NONE_YET
