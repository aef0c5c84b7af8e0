"""The measure of a model: trouble is noticed at once, and forgotten as time passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestra.policies.health.latency import FAILED_S, UNKNOWN_S, Latencies, Measure

SECONDS = st.floats(0, 100)
CALLS = st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=20)


def measured(calls: list[tuple[float, float]]) -> tuple[Measure, float]:
    """The measure after calls, each so long after the one before, and when that was."""
    measure, now_s = Measure(), 0.0
    for after_s, took_s in calls:
        now_s += after_s
        measure = measure.observed(took_s, now_s)
    return measure, now_s


@given(CALLS, SECONDS)
def test_a_slower_call_is_the_measure_at_once(
    calls: list[tuple[float, float]], more_s: float
) -> None:
    measure, now_s = measured(calls)
    assert measure.average_s is not None
    slower = measure.average_s + more_s
    assert measure.observed(slower, now_s).load_s(now_s) == slower


@given(CALLS)
def test_the_measure_is_between_the_fastest_and_the_slowest(
    calls: list[tuple[float, float]],
) -> None:
    average = measured(calls)[0].average_s
    took = [took_s for _, took_s in calls]
    assert average is not None
    assert min(took) - 1e-9 <= average <= max(took) + 1e-9


@given(CALLS, SECONDS, SECONDS)
def test_without_calls_it_sinks(calls: list[tuple[float, float]], one: float, two: float) -> None:
    measure, now_s = measured(calls)
    earlier, later = sorted([now_s + one, now_s + two])
    assert measure.load_s(later) <= measure.load_s(earlier) <= measure.load_s(now_s)


@given(CALLS, st.integers(0, 9))
def test_each_that_waits_adds_the_measure_once_more(
    calls: list[tuple[float, float]], waiting: int
) -> None:
    measure, now_s = measured(calls)
    latencies = Latencies(["a"])
    for after_s, took_s in calls:
        latencies.answered("a", took_s, after_s)
    assert measure.average_s is not None
    busy = Measure(measure.average_s, now_s, waiting)
    assert busy.load_s(now_s) == measure.average_s * (waiting + 1)


def test_who_was_never_asked_is_tried_and_then_waited_for() -> None:
    latencies = Latencies(["a", "b"])
    assert latencies.loads(0) == {"a": 0, "b": 0}
    latencies.began("a")
    assert latencies.loads(0) == {"a": UNKNOWN_S, "b": 0}
    latencies.left("a")
    assert latencies.loads(0) == {"a": 0, "b": 0}


def test_a_model_that_fails_at_once_is_not_a_fast_one() -> None:
    latencies = Latencies(["a", "b"])
    latencies.failed("a", 0.001, 0)
    latencies.answered("b", 2, 0)
    assert latencies.loads(0) == {"a": FAILED_S, "b": 2}
    latencies.failed("b", 99, 0)
    assert latencies.loads(0)["b"] == 99
