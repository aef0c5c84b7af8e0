"""Meters: a limit holds in every window, and a refund leaves no trace."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.policies.limits.gcra import (
    BURST_SHARE,
    MINUTE_NS,
    OPEN_MAX,
    SECOND_NS,
    Meter,
    MeterState,
    Rate,
)
from tests.policies.limits.meters import settle, spend, take

LIMITS = st.integers(1, 300)
SHARES = st.just(BURST_SHARE) | st.floats(0, 1, exclude_min=True)


def paid_until(state: MeterState, rate: Rate) -> int:
    """The one number of the theory."""
    return state.at_ns * rate.steady + state.debt


@given(LIMITS, SHARES, st.lists(st.tuples(st.integers(0, 90_000), st.floats(0, 1.5)), max_size=60))
def test_no_minute_wherever_it_begins_sees_more_than_the_limit(
    limit: int, burst_share: float, calls: list[tuple[int, float]]
) -> None:
    """Each call comes some milliseconds after the last, and goes as soon as it may."""
    meter, now_s = Meter(limit, burst_share), 0.0
    went: list[tuple[float, int]] = []
    for pause_ms, share in calls:
        now_s += pause_ms / 1000
        units = min(max(1, round(share * limit)), limit)
        while wait_s := meter.wait_s(now_s, units):
            now_s += wait_s
        spend(meter, now_s, units)
        went.append((now_s, units))
    for began_s, _ in went:
        seen = sum(units for at_s, units in went if began_s <= at_s < began_s + 60 - 1e-6)
        assert seen <= limit


@given(LIMITS)
def test_who_asks_all_the_time_gets_nearly_all_of_the_limit(limit: int) -> None:
    meter, now_s, went = Meter(limit), 0.0, 0
    while now_s < 600:
        now_s += meter.wait_s(now_s, 1)
        spend(meter, now_s, 1)
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
@example(60, [("take", 0, 10, 0), ("settle", 0, 0, 0)])
@example(60, [("take", 0, 9, 0), ("take", 0, 9, 0), ("settle", 0, 0, 0), ("settle", 0, 0, 0)])
def test_a_refund_leaves_no_trace(limit: int, steps: list[tuple[str, int, int, int]]) -> None:
    """After every step the meter is where it would be if the truth had been known from the start."""
    meter, now_s = Meter(limit), 0
    truth: list[list[int]] = []  # [time, units]
    taken = []
    for kind, pause_s, units, which in steps:
        now_s += pause_s
        if kind == "take":
            truth.append([now_s, units])
            taken.append((take(meter, now_s, units), truth[-1]))
        elif kind == "spend":
            truth.append([now_s, units])
            spend(meter, now_s, units)
        elif taken:
            one, entry = taken.pop(which % len(taken))
            if units > entry[1]:
                settle(meter, one, now_s, units)
                truth.append([now_s, units - entry[1]])
            else:
                meter.state.settle(one, units)  # a refund does not depend on the time
                entry[1] = units
            if not units:
                truth = [each for each in truth if each is not entry]
        paid = -limit * MINUTE_NS
        for at_s, spent in truth:
            paid = max(paid, at_s * SECOND_NS * meter.rate.steady) + spent * MINUTE_NS
        assert paid_until(meter.state, meter.rate) == paid


@given(LIMITS, st.lists(st.integers(0, 90), max_size=3), st.integers(0, 90), st.integers(1, 400))
def test_what_is_refunded_whole_was_never_taken(
    limit: int, pauses_s: list[int], then_s: int, units: int
) -> None:
    """Also what was saved up before: a large call that could not be sent may be repeated at once."""
    meter, other, now_s = Meter(limit), Meter(limit), 0
    for pause_s in pauses_s:
        now_s += pause_s
        spend(meter, now_s, 7)
        spend(other, now_s, 7)
    taken = take(meter, now_s, units)
    settle(meter, taken, now_s + then_s, 0)
    other.advance(now_s + then_s)
    assert meter.state == other.state


def test_paying_back_what_is_no_longer_felt_lets_nothing_through() -> None:
    """Refunded late, a burst of long ago does not allow a second one now."""
    meter = Meter(100)
    old = take(meter, 0.0, 10)
    spend(meter, 50.0, 10)
    waits_s = meter.wait_s(50.0, 10)
    settle(meter, old, 50.0, 0)
    assert meter.wait_s(50.0, 10) == waits_s > 0


def test_an_underestimate_is_charged_when_it_is_known() -> None:
    meter = Meter(60)
    taken = take(meter, 0.0, 1)
    settle(meter, taken, 30.0, 60)
    assert meter.wait_s(30.0, 1) == pytest.approx(60 * (59 - 5) / 55)


@given(st.integers(1, 2**53), SHARES)
def test_a_burst_is_its_share_of_a_limit_and_at_least_one(limit: int, share: float) -> None:
    rate = Rate.of(limit, share)
    assert 1 <= rate.burst <= limit
    assert abs(rate.burst - share * limit) <= 1
    assert rate.burst + rate.steady == limit + 1
    assert Rate.of(limit).burst == max(1, limit // 10)


def test_a_burst_is_a_tenth_and_more_than_that_is_saved_up() -> None:
    meter = Meter(100)
    assert meter.wait_s(0.0, 100) == 0.0
    spend(meter, 0.0, 10)
    assert meter.wait_s(0.0, 1) == pytest.approx(60 / 91)
    assert meter.wait_s(0.0, 100) == pytest.approx(60 * 100 / 91)
    assert meter.wait_s(0.0, 1_000_000) == meter.wait_s(0.0, 100)


@pytest.mark.parametrize("first", [0, 10])
def test_two_refunds_share_what_is_still_felt(first: int) -> None:
    """Also where the later of the two was settled before, without a refund."""
    meter = Meter(100)
    one, two = take(meter, 0.0, 10), take(meter, 0.0, 10)
    spend(meter, 10.0, 10)
    settle(meter, two, 10.0, first)
    settle(meter, one, 10.0, 0)
    assert meter.state.debt == 10 * MINUTE_NS


def kept(state: MeterState, rate: Rate, now_s: float) -> MeterState:
    """What is kept, after it has been written down and read again, and some time has passed."""
    state.close()
    state = msgspec.json.decode(msgspec.json.encode(state), type=MeterState)
    state.advance(rate, int(now_s * SECOND_NS))
    return state


SETTLED_BETWEEN = [
    *[("take", 0, 1, 0), ("take", 30, 1, 0), ("take", 0, 10, 0)],
    *[("settle", 0, 1, 1), ("settle", 0, 0, 1)],
]
"""The second of three takes stays, so that the first has no effect any more; the third has."""


@given(LIMITS, STEPS)
@example(60, SETTLED_BETWEEN)
def test_a_meter_that_is_kept_is_the_same_meter(
    limit: int, steps: list[tuple[str, int, int, int]]
) -> None:
    """After every step, also where refunds have no effect any more, and were left out."""
    meter, rate, now_s = Meter(limit), Rate.of(limit), 1_732_000_000
    stored = rate.unused(0)
    open_ = []
    for number, (kind, pause_s, units, which) in enumerate(steps):
        now_s += pause_s
        stored = kept(stored, rate, now_s)
        if kind == "take":
            open_.append((take(meter, now_s, units), str(number)))
            stored.take(units, id=str(number), until_ns=(now_s + 10_000) * SECOND_NS)
        elif kind == "spend":
            spend(meter, now_s, units)
            stored.spend(units)
        elif open_:
            taken, name = open_.pop(which % len(open_))
            settle(meter, taken, now_s, units)
            stored.settle_id(name, taken.units, units)
        here, there = paid_until(meter.state, rate), paid_until(stored, rate)
        assert here == there
        assert rate.wait_s(stored.debt, limit) == meter.wait_s(now_s, limit)
        assert len(stored.open) <= len(meter.state.open)


def test_what_nobody_settles_is_dropped_and_stays_taken() -> None:
    rate = Rate.of(100)
    state = rate.unused(0)
    state.take(60, id="a", until_ns=10 * SECOND_NS)
    state.take(10, id="b", until_ns=30 * SECOND_NS)
    state.advance(rate, 10 * SECOND_NS)
    state.close()
    assert state.find("a") is None
    debt = state.debt
    state.settle_id("a", 60, 0)
    assert state.debt == debt, "beyond refund"
    state.settle_id("a", 60, 61)
    assert state.debt == debt + MINUTE_NS, "but not beyond charge"
    state.settle_id("b", 10, 0)
    assert state.closed(rate) == pytest.approx(60 * (100 + 60 + 1) / 91 - 10)


def test_only_what_is_beyond_refund_is_left_out() -> None:
    meter = MeterState(0, 0)
    for number, felt in enumerate((7, 0, 5)):
        meter.take(1, id=str(number), until_ns=SECOND_NS).felt = felt
    meter.close()
    assert [(taken.id, taken.felt) for taken in meter.open] == [("2", 5)]


def test_a_kept_meter_is_small() -> None:
    rate, now_s = Rate.of(10**9), 1_700_000_000
    state = rate.unused(now_s * SECOND_NS)
    for number in range(5 * OPEN_MAX):
        name = f"0123456789ab.{number}"
        state.take(10**6, id=name, until_ns=2 * now_s * SECOND_NS)
        state = kept(state, rate, now_s)
    assert len(state.open) == OPEN_MAX
    assert state.find(f"0123456789ab.{5 * OPEN_MAX - 1}") is not None
    assert len(msgspec.json.encode(state)) < 40_000


def test_a_clock_that_goes_back_makes_nobody_wait_for_longer() -> None:
    rate = Rate.of(100)
    state = rate.unused(5000 * SECOND_NS)
    state.spend(100)
    wait_s = rate.wait_s(state.debt, 1)
    state.advance(rate, 1000 * SECOND_NS)
    assert rate.wait_s(state.debt, 1) == wait_s
    state.advance(rate, 1001 * SECOND_NS)
    assert rate.wait_s(state.debt, 1) == pytest.approx(wait_s - 1)


def test_a_rate_tells_its_room_and_when_it_is_full() -> None:
    rate = Rate.of(100)
    state = rate.unused(0)
    assert (rate.room(state.debt), state.closed(rate)) == (100, 0.0)
    state.spend(100)
    assert rate.room(state.debt) == 0
    full_s = state.closed(rate)
    assert full_s == pytest.approx(60 * 200 / 91)
    state.advance(rate, 80 * SECOND_NS)
    room = rate.room(state.debt)
    assert 0 < room < 100
    assert rate.wait_s(state.debt, room) == 0.0 < rate.wait_s(state.debt, room + 1)
    state.advance(rate, int((full_s + 1e-6) * SECOND_NS))
    assert rate.room(state.debt) == 100
