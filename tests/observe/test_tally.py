"""Counts add up: in whatever processes something is counted, their sum is what one would have."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import StateError
from orchestra.observe import names
from orchestra.observe.tally import OTHER, SERIES_MAX, Histogram, Tally, decode

COUNTERS = (names.RUN_FAILURES, names.CACHE_HITS)
HISTOGRAMS = (names.STEP_DURATION, names.HTTP_DURATION)
WORDS = st.sampled_from(["a", "b", "", 'ü\n"\\'])
COUNTED = st.tuples(st.sampled_from(COUNTERS), st.tuples(WORDS, WORDS), st.integers(0, 9))
TIMED = st.tuples(
    st.sampled_from(HISTOGRAMS), st.tuples(WORDS, WORDS), st.integers(0, 800).map(lambda n: n / 8)
)
Act = tuple[names.Family, tuple[str, ...], float]


def tallied(acts: Sequence[Act]) -> Tally:
    tally = Tally()
    for family, labels, value in acts:
        if family.kind == "counter":
            tally.count(family, labels, int(value))
        else:
            tally.histogram(family, labels).observe(value)
    return tally


def total(tallies: Sequence[Tally]) -> Tally:
    """The sum of all."""
    found = Tally()
    for each in tallies:
        found.add(each)
    return found


@given(st.lists(st.tuples(COUNTED | TIMED, st.integers(0, 3))))
def test_the_sum_of_processes_is_what_one_would_have_counted(acts: list[tuple[Act, int]]) -> None:
    """Whichever of them counts what, and also written down and read again."""
    parts = [[act for act, process in acts if process == each] for each in range(4)]
    written = [decode(tallied(part).encode()) for part in parts]
    assert total(written) == tallied([act for act, _ in acts])


@given(st.lists(st.integers(0, 400).map(lambda n: n / 4)), st.sets(st.integers(0, 90), max_size=6))
def test_a_histogram_counts_each_value_at_the_first_bound_that_it_is_not_above(
    values: list[float], bounds: set[int]
) -> None:
    found = Histogram.of(tuple(map(float, sorted(bounds))))
    for value in values:
        found.observe(value)
    ordered = sorted(values)
    for place, bound in enumerate(found.bounds, 1):
        assert sum(found.counts[:place]) == bisect_right(ordered, bound)
    assert sum(found.counts) == len(values)
    assert found.sum == sum(values)


def test_a_histogram_of_other_bounds_is_left_alone() -> None:
    """As one may be that another version has written."""
    one, other = Histogram.of((1.0,)), Histogram.of((1.0, 2.0))
    other.observe(1.5)
    one.add(other)
    assert one == Histogram.of((1.0,))


def test_gauges_are_added_only_where_they_are_so_still() -> None:
    one, other = Tally(), Tally()
    one.set(names.RUNS_RUNNING, (), 2)
    other.set(names.RUNS_RUNNING, (), 3)
    other.count(names.CACHE_HITS, ("m",))
    both = total([one, other])
    assert both.gauges == {names.RUNS_RUNNING.name: {(): 5}}
    one.add(other, gauges=False)
    assert one.gauges == {names.RUNS_RUNNING.name: {(): 2}}
    assert one.counters == both.counters


def test_what_has_too_many_names_is_counted_under_other() -> None:
    tally, seconds = Tally(), Tally()
    for number in range(SERIES_MAX + 50):
        tally.count(names.RUN_FAILURES, ("p", f"Error{number}"))
        seconds.histogram(names.STEP_DURATION, ("p", f"step{number}")).observe(1)
    counts = tally.counters[names.RUN_FAILURES.name]
    assert len(counts) == SERIES_MAX + 1
    assert counts[OTHER, OTHER] == 50
    histograms = seconds.histograms[names.STEP_DURATION.name]
    assert sum(histograms[OTHER, OTHER].counts) == 50
    twice = total([tally, tally])
    assert len(twice.counters[names.RUN_FAILURES.name]) == SERIES_MAX + 1
    assert Counter(twice.counters[names.RUN_FAILURES.name].values()) == {2: SERIES_MAX, 100: 1}


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode([1])])
def test_what_no_process_has_written_is_refused(data: bytes) -> None:
    with pytest.raises(StateError, match="not the metrics of a process"):
        decode(data)
