"""Meters: a limit holds in every window, and a refund leaves no trace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.policies.gcra import MINUTE_NS, SECOND_NS, Meter

LIMITS = st.integers(1, 300)


@given(LIMITS, st.lists(st.tuples(st.integers(0, 90_000), st.floats(0, 1.5)), max_size=60))
def test_no_minute_wherever_it_begins_sees_more_than_the_limit(
    limit: int, calls: list[tuple[int, float]]
) -> None:
    """Each call comes some milliseconds after the last, and goes as soon as it may."""
    meter, now_s = Meter(limit), 0.0
    went: list[tuple[float, int]] = []
    for pause_ms, share in calls:
        now_s += pause_ms / 1000
        units = min(max(1, round(share * limit)), limit)
        while wait_s := meter.wait_s(now_s, units):
            now_s += wait_s
        meter.spend(now_s, units)
        went.append((now_s, units))
    for began_s, _ in went:
        seen = sum(units for at_s, units in went if began_s <= at_s < began_s + 60 - 1e-6)
        assert seen <= limit


@given(LIMITS)
def test_who_asks_all_the_time_gets_nearly_all_of_the_limit(limit: int) -> None:
    meter, now_s, went = Meter(limit), 0.0, 0
    while now_s < 600:
        now_s += meter.wait_s(now_s, 1)
        meter.spend(now_s, 1)
        went += 1
    assert went >= 0.9 * 10 * limit


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "spend", "settle"]),
        st.integers(0, 40),
        st.integers(0, 30),
        st.integers(0, 9),
    ),
    max_size=40,
)


@given(LIMITS, STEPS)
def test_a_refund_leaves_no_trace(limit: int, steps: list[tuple[str, int, int, int]]) -> None:
    """After every step the meter is where it would be if the truth had been known from the start."""
    meter, now_s = Meter(limit), 0
    truth: list[list[int]] = []  # [time, units]
    taken = []
    for kind, pause_s, units, which in steps:
        now_s += pause_s
        if kind == "take":
            truth.append([now_s, units])
            taken.append((meter.take(now_s, units), truth[-1]))
        elif kind == "spend":
            truth.append([now_s, units])
            meter.spend(now_s, units)
        elif taken:
            one, entry = taken.pop(which % len(taken))
            meter.settle(one, now_s, units)
            if units > entry[1]:
                truth.append([now_s, units - entry[1]])
            else:
                entry[1] = units
        paid_until = -limit * MINUTE_NS
        for at_s, spent in truth:
            paid_until = max(paid_until, at_s * SECOND_NS * meter.steady) + spent * MINUTE_NS
        assert meter._paid_until == paid_until


def test_paying_back_what_is_no_longer_felt_lets_nothing_through() -> None:
    """Refunded late, a burst of long ago does not allow a second one now."""
    meter = Meter(100)
    old = meter.take(0.0, 10)
    meter.spend(50.0, 10)
    waits_s = meter.wait_s(50.0, 10)
    meter.settle(old, 50.0, 0)
    assert meter.wait_s(50.0, 10) == waits_s > 0


def test_an_underestimate_is_charged_when_it_is_known() -> None:
    meter = Meter(60)
    taken = meter.take(0.0, 1)
    meter.settle(taken, 30.0, 60)
    assert meter.wait_s(30.0, 1) == pytest.approx(60 * (59 - 5) / 55)


def test_a_burst_is_a_tenth_and_more_than_that_is_saved_up() -> None:
    meter = Meter(100)
    assert meter.wait_s(0.0, 100) == 0.0
    meter.spend(0.0, 10)
    assert meter.wait_s(0.0, 1) == pytest.approx(60 / 91)
    assert meter.wait_s(0.0, 100) == pytest.approx(60 * 100 / 91)
    assert meter.wait_s(0.0, 1_000_000) == meter.wait_s(0.0, 100)


@pytest.mark.parametrize("first", [0, 10])
def test_two_refunds_share_what_is_still_felt(first: int) -> None:
    """Also where the later of the two was settled before, without a refund."""
    meter = Meter(100)
    one, two = meter.take(0.0, 10), meter.take(0.0, 10)
    meter.spend(10.0, 10)
    meter.settle(two, 10.0, first)
    meter.settle(one, 10.0, 0)
    assert meter._paid_until == 10 * SECOND_NS * meter.steady + 10 * MINUTE_NS
