"""How the dead are replaced, and how it all ended: laws of what a supervisor decides."""

from __future__ import annotations

import signal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.server.processes.restarts import (
    FAILED,
    Ended,
    GiveUp,
    Replace,
    RestartRule,
    after_death,
    code_of_first,
    exit_code,
    spelled,
)

rules = st.builds(
    RestartRule,
    delay_s=st.floats(0.01, 10),
    delay_max_s=st.floats(10, 100),
    healthy_s=st.floats(1, 100),
    deaths_max=st.integers(0, 20),
)
jitters = st.floats(0, 1)


def lives(rule: RestartRule, lived: list[float], *, others_serve: bool) -> list[Replace | GiveUp]:
    """What is decided about one place, life after life, until it is given up."""
    deaths, decided = 0, list[Replace | GiveUp]()
    for lived_s in lived:
        found = after_death(rule, deaths, lived_s, 0, others_serve=others_serve)
        decided.append(found)
        if isinstance(found, GiveUp):
            break
        deaths = found.deaths
    return decided


@given(rules, st.integers(0, 10**6), st.floats(0, 1000), jitters, st.booleans())
def test_a_wait_is_never_longer_than_twice_the_longest(
    rule: RestartRule, deaths: int, lived_s: float, jitter: float, others: bool
) -> None:
    found = after_death(rule, deaths, lived_s, jitter, others_serve=others)
    if isinstance(found, Replace):
        assert rule.delay_s <= found.delay_s <= 2 * rule.delay_max_s


@given(rules, st.integers(1, 40))
def test_waits_double_until_the_longest(rule: RestartRule, count: int) -> None:
    waits = [
        d.delay_s for d in lives(rule, [0.0] * count, others_serve=True) if isinstance(d, Replace)
    ]
    assert len(waits) == count, "while others serve, a place is never given up"
    for before, after in pairwise(waits):
        assert after == pytest.approx(min(2 * before, rule.delay_max_s))


@given(rules)
def test_quick_deaths_in_a_row_are_bounded(rule: RestartRule) -> None:
    decided = lives(rule, [rule.healthy_s / 2] * 50, others_serve=False)
    assert len(decided) == rule.deaths_max + 1
    assert decided[-1] == GiveUp(rule.deaths_max + 1)


@given(rules, st.lists(st.booleans(), max_size=60), st.booleans())
def test_only_deaths_since_the_last_healthy_life_count(
    rule: RestartRule, healthy: list[bool], others: bool
) -> None:
    """The model: how many of the last lives in a row were short; the last healthy one counts."""
    decided = lives(rule, [rule.healthy_s * each for each in healthy], others_serve=others)
    for seen, found in enumerate(decided, 1):
        row = 0
        for each in healthy[:seen]:
            row = 1 if each else row + 1
        assert found.deaths == row


def test_a_worker_that_served_long_is_replaced_at_once() -> None:
    rule = RestartRule()
    assert after_death(rule, 9, rule.healthy_s, 0, others_serve=False) == Replace(0.1, 1)


codes = st.sampled_from([0, 0, 0, 1, 255, -signal.SIGTERM, -signal.SIGKILL])
ends = st.builds(Ended, st.integers(1, 9), codes, st.booleans())


@given(st.lists(ends))
def test_it_ends_well_if_all_have(all_ends: list[Ended]) -> None:
    bad = [
        each
        for each in all_ends
        if each.code != 0 and not (each.code == -signal.SIGTERM and not each.ready)
    ]
    assert exit_code(all_ends) == (FAILED if bad else 0)


@given(st.integers(-64, 255))
def test_a_start_that_failed_is_never_a_success(code: int) -> None:
    assert code_of_first(code) > 0
    assert code <= 0 or code_of_first(code) == code, "a command called wrongly says so"


def test_ends_are_told_in_words() -> None:
    assert [spelled(3), spelled(-9), spelled(-60)] == ["exit code 3", "SIGKILL", "signal 60"]
