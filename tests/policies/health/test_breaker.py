"""Breakers: an outage costs few calls, and what says nothing of health changes nothing."""

from __future__ import annotations

from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import errors
from orchestra.errors import ModelError
from orchestra.policies.health.breaker import (
    JITTER,
    NEUTRAL_ERRORS,
    Breaker,
    BreakerRule,
    Closed,
    HalfOpen,
    Open,
    Outcome,
    Permit,
    outcome,
)

RULES = st.builds(
    BreakerRule,
    failure_rate=st.floats(0.1, 1),
    calls_min=st.integers(1, 12),
    window_s=st.floats(1, 60),
    open_s=st.floats(1, 10),
    open_max_s=st.floats(10, 120),
    probes=st.integers(1, 4),
)
BAD = (Outcome.FAILURE, Outcome.SLOW)
FAILURES = {
    "RateLimitError",
    "OverloadedError",
    "ProviderServerError",
    "ModelTimeoutError",
    "ModelConnectionError",
    "TruncatedStreamError",
    "MalformedStreamError",
}


def fail(breaker: Breaker, times: int, now_s: float = 0.0) -> None:
    for _ in range(times):
        permit = breaker.admit(now_s)
        assert permit is not None
        breaker.record(permit, Outcome.FAILURE, now_s)


def rounds(rule: BreakerRule, outage_s: float) -> int:
    """How many rounds of probes there are in an outage, at the most."""
    at_s, count = 0.0, 0
    while (at_s := at_s + min(rule.open_s * 2**count, rule.open_max_s)) <= outage_s:
        count += 1
    return count


@given(
    RULES,
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 100), st.sampled_from(BAD))),
    st.randoms(use_true_random=False),
)
def test_an_outage_costs_no_more_than_the_probes(
    rule: BreakerRule, calls: list[tuple[float, float, Outcome]], chance: Random
) -> None:
    """Whether calls fail or are slow in it, and however long they take to; a hang takes long."""
    breaker = Breaker(rule, chance.random)
    fail(breaker, rule.calls_min)
    assert isinstance(breaker.state(0.0), Open)
    now_s, asked = 0.0, 0
    running: list[tuple[float, Permit, Outcome]] = []
    for pause_s, takes_s, ended in [*calls, *[(0.5, 1.0, Outcome.FAILURE)] * 130]:
        now_s += pause_s
        for entry in [each for each in running if each[0] <= now_s]:
            running.remove(entry)
            breaker.record(entry[1], entry[2], now_s)
        if now_s > 60:
            break
        permit = breaker.admit(now_s)
        if permit is not None:
            asked += 1
            running.append((now_s + takes_s, permit, ended))
    assert asked <= rule.probes * rounds(rule, 60)


def test_a_minute_of_outage_costs_six_probes_by_default() -> None:
    breaker, asked = Breaker(BreakerRule()), 0
    fail(breaker, 10)
    for tick in range(601):
        if permit := breaker.admit(tick / 10):
            asked += 1
            breaker.record(permit, Outcome.FAILURE, tick / 10)
    assert asked <= 6
    assert rounds(BreakerRule(), 60) * BreakerRule().probes == 6


MOVES = st.lists(
    st.tuples(st.floats(0, 20), st.sampled_from([*Outcome, None, None]), st.integers(0, 5)),
    max_size=60,
)


@given(RULES, MOVES, st.randoms(use_true_random=False))
def test_who_is_left_alone_is_told_when_that_ends(
    rule: BreakerRule, moves: list[tuple[float, Outcome | None, int]], chance: Random
) -> None:
    """In any state: refused means Open, with a time in which it is asked again and never sooner."""
    breaker, now_s = Breaker(rule, chance.random), 0.0
    permits: list[Permit] = []
    for pause_s, ended, which in moves:
        now_s += pause_s
        if ended is not None and permits:
            breaker.record(permits.pop(which % len(permits)), ended, now_s)
        state = breaker.state(now_s)
        permit = breaker.admit(now_s)
        assert (permit is None) == isinstance(state, Open)
        if permit is not None:
            permits.append(permit)
        if isinstance(state, HalfOpen):
            assert 0 < state.probes_left <= rule.probes
            assert 0 <= state.successes < rule.probes
        if isinstance(state, Open):
            assert 0 < state.wait_s <= rule.open_max_s + 1e-6
            assert isinstance(breaker.state(now_s + state.wait_s * 0.999), Open)
            assert not isinstance(breaker.state(now_s + state.wait_s * 1.001), Open)


@given(RULES, MOVES, st.data())
def test_what_says_nothing_changes_nothing(
    rule: BreakerRule, moves: list[tuple[float, Outcome | None, int]], data: st.DataObject
) -> None:
    """A breaker that also sees cancelled calls is in the state of one that does not."""
    one, two, now_s = Breaker(rule), Breaker(rule), 0.0
    for pause_s, ended, _ in moves:
        now_s += pause_s
        cancelled = one.admit(now_s) if data.draw(st.booleans(), label="a cancelled one") else None
        if cancelled is not None:
            one.record(cancelled, Outcome.NEUTRAL, now_s)
        permit, same = one.admit(now_s), two.admit(now_s)
        assert (permit is None) == (same is None)
        if permit is not None and same is not None:
            one.record(permit, ended or Outcome.SUCCESS, now_s)
            two.record(same, ended or Outcome.SUCCESS, now_s)
        assert one.state(now_s) == two.state(now_s)


def subclasses(kind: type[ModelError]) -> list[type[ModelError]]:
    return [each for sub in kind.__subclasses__() for each in (sub, *subclasses(sub))]


def test_of_every_error_it_is_decided_whether_it_counts() -> None:
    ours = [each for each in subclasses(ModelError) if each.__module__ == errors.__name__]
    assert len(ours) > 12
    for kind in ours:
        error = kind("x", {}) if issubclass(kind, errors.ModelsFailedError) else kind("x")
        counts = outcome(error) is Outcome.FAILURE
        assert counts == (kind.__name__ in FAILURES), kind
        assert counts != issubclass(kind, NEUTRAL_ERRORS)
    assert outcome(RuntimeError("x")) is Outcome.FAILURE
    assert outcome(KeyboardInterrupt()) is Outcome.NEUTRAL


def test_a_cancellation_in_a_group_does_not_count() -> None:
    async def cancelled() -> BaseException:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                found = error
                raise
        return BaseExceptionGroup("x", [found, ValueError("y")])

    assert outcome(trio.run(cancelled)) is Outcome.NEUTRAL


def test_few_calls_prove_nothing_and_half_of_enough_do() -> None:
    breaker = Breaker(BreakerRule(calls_min=10))
    fail(breaker, 5)
    for _ in range(4):
        permit = breaker.admit(0.0)
        assert permit is not None
        breaker.record(permit, Outcome.SUCCESS, 0.0)
    assert breaker.state(0.0) == Closed(9, 5, 0)
    fail(breaker, 1)
    assert breaker.state(0.0) == Open(5.0)


@given(RULES, st.floats(0, 1), st.none() | st.floats(0, 200))
def test_a_pause_is_drawn_longer_never_shorter_and_never_over_the_longest(
    rule: BreakerRule, drawn: float, asked_s: float | None
) -> None:
    """So that the breakers of many processes do not probe in the same instant."""
    pauses_s = []
    for chance in (0.0, drawn):
        breaker = Breaker(rule, lambda chance=chance: chance)  # type: ignore[misc]
        fail(breaker, rule.calls_min - 1)
        permit = breaker.admit(0.0)
        assert permit is not None
        assert breaker.record(permit, Outcome.FAILURE, 0.0, retry_after_s=asked_s)
        state = breaker.state(0.0)
        assert isinstance(state, Open)
        pauses_s.append(state.wait_s)
    plain_s, spread_s = pauses_s
    assert spread_s == pytest.approx(min(plain_s * (1 + JITTER * drawn), rule.open_max_s))


def test_what_has_left_the_window_does_not_count() -> None:
    breaker = Breaker(BreakerRule(calls_min=10, window_s=30))
    fail(breaker, 9)
    assert breaker.state(26.9) == Closed(9, 9, 0)
    assert breaker.state(30.0) == Closed(0, 0, 0)
    fail(breaker, 9, 30.0)
    assert breaker.state(30.0) == Closed(9, 9, 0)


def test_slow_calls_count_when_all_are_slow() -> None:
    breaker = Breaker(BreakerRule(calls_min=2))
    for ended, state in ((Outcome.SLOW, Closed(1, 0, 1)), (Outcome.SLOW, Open(5.0))):
        permit = breaker.admit(0.0)
        assert permit is not None
        breaker.record(permit, ended, 0.0)
        assert breaker.state(0.0) == state


def test_good_probes_close_and_one_bad_one_opens_for_twice_as_long() -> None:
    breaker = Breaker(BreakerRule(calls_min=1))
    fail(breaker, 1)
    assert breaker.state(5.0) == HalfOpen(2, 0)
    fail(breaker, 1, 5.0)
    assert breaker.state(5.0) == Open(10.0)
    first, second = breaker.admit(15.0), breaker.admit(15.0)
    assert first is not None
    assert second is not None
    assert breaker.admit(15.0) is None
    breaker.record(first, Outcome.SUCCESS, 16.0)
    assert breaker.state(16.0) == Open(19.0)
    breaker.record(second, Outcome.SUCCESS, 17.0)
    assert breaker.state(17.0) == Closed(0, 0, 0)


def test_one_that_opens_again_soon_goes_on_where_it_was() -> None:
    breaker = Breaker(BreakerRule(calls_min=1, probes=1, window_s=30))
    fail(breaker, 1)
    permit = breaker.admit(5.0)
    assert permit is not None
    breaker.record(permit, Outcome.SUCCESS, 5.0)
    fail(breaker, 1, 6.0)
    assert breaker.state(6.0) == Open(10.0)
    permit = breaker.admit(16.0)
    assert permit is not None
    breaker.record(permit, Outcome.SUCCESS, 16.0)
    fail(breaker, 1, 46.0)
    assert breaker.state(46.0) == Open(5.0)


def test_probes_that_hang_make_room_for_others_and_less_and_less_often() -> None:
    breaker = Breaker(BreakerRule(calls_min=1, probes=1))
    fail(breaker, 1)
    asked_s = [tick for tick in range(200) if breaker.admit(float(tick)) is not None]
    assert asked_s == [5, 15, 35, 75, 135, 195]


def test_a_probe_that_failed_refutes_those_beside_it() -> None:
    breaker = Breaker(BreakerRule(calls_min=1, probes=2))
    fail(breaker, 1)
    bad, good = breaker.admit(5.0), breaker.admit(5.0)
    assert bad is not None
    assert good is not None
    breaker.record(bad, Outcome.FAILURE, 6.0)
    breaker.record(good, Outcome.SUCCESS, 7.0)
    assert breaker.state(16.0) == HalfOpen(2, 0)


def test_calls_from_before_it_opened_are_no_news() -> None:
    breaker = Breaker(BreakerRule(calls_min=2, probes=1))
    old = [breaker.admit(0.0) for _ in range(3)]
    fail(breaker, 2)
    for permit in old:
        assert permit is not None
        assert breaker.outdated(permit)
        assert not breaker.record(permit, Outcome.SUCCESS, 5.0)
    assert breaker.state(5.0) == HalfOpen(1, 0)


@pytest.mark.parametrize(("asked_s", "waits_s"), [(20.0, 20.0), (1.0, 5.0), (3600.0, 60.0)])
def test_a_provider_that_asks_for_a_pause_gets_it(asked_s: float, waits_s: float) -> None:
    breaker = Breaker(BreakerRule(calls_min=1))
    permit = breaker.admit(0.0)
    assert permit is not None
    assert breaker.record(permit, Outcome.FAILURE, 0.0, retry_after_s=asked_s)
    assert breaker.state(0.0) == Open(waits_s)
