"""What ails a model is in the log, though no run fails: once, and once when it is over."""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import AuthenticationError, ModelError, ProviderServerError, QuotaError
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.health.failure_log import AGAIN_S, FailureLog, log
from orchestra.testing.virtual import virtual
from tests.policies.test_guard import Fake, down, guarded, stream

KEY = AuthenticationError("HTTP 401: Incorrect API key")


class Heard:
    """A handler that keeps what it is told; `caplog` is one for all examples."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __enter__(self) -> list[str]:
        log.addFilter(self.hear)
        return self.lines

    def __exit__(self, *_: object) -> None:
        log.removeFilter(self.hear)

    def hear(self, record: logging.LogRecord) -> bool:
        self.lines.append(record.getMessage())
        return True


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 40)), max_size=60))
def test_refusals_are_told_once_a_minute_and_their_end_once(
    calls: list[tuple[bool, float]],
) -> None:
    failure_log, now_s, told_s = FailureLog("m"), 0.0, list[float]()
    with Heard() as lines:
        for well, later_s in calls:
            now_s += later_s
            before = len(lines)
            if well:
                failure_log.answered()
            else:
                failure_log.refused(KEY, now_s)
            told_s += [now_s] * (len(lines) - before and not well)
    ends = ["answers again" in each for each in lines]
    assert all(later - sooner >= AGAIN_S for sooner, later in pairwise(told_s))
    assert ends[:1] != [True]
    assert all(not (one and other) for one, other in pairwise(ends))


def test_one_call_that_is_refused_is_told_by_who_made_it() -> None:
    async def main() -> None:
        model = guarded(Fake(fault=lambda _: KEY))
        for _ in range(20):
            with suppress(ModelError):
                await stream(model)
            alone.append(list(lines))

    alone = list[list[str]]()
    with Heard() as lines:
        virtual(main)
    assert alone[0] == []
    assert alone[1] == alone[-1] == lines
    assert lines == [
        "model 'm' was refused by its provider, 2 times in a row: "
        "AuthenticationError: HTTP 401: Incorrect API key"
    ]


def test_a_breaker_tells_that_it_opens_with_the_last_error_and_that_it_closes() -> None:
    """A round of probes that fails is no news."""

    async def main() -> None:
        model = guarded(Fake(fault=down(0, 20)), BreakerRule(calls_min=3))
        for _ in range(40):
            with suppress(ModelError):
                await stream(model)
            await trio.sleep(1)

    with Heard() as lines:
        virtual(main)
    first, last = lines
    assert first.startswith(
        "model 'm' has failed too often, and its breaker is open, for 5 s at first: "
        "ProviderServerError"
    )
    assert last == "model 'm' answers again"


def test_a_breaker_that_opens_for_slowness_says_so() -> None:
    rule = BreakerRule(calls_min=1, slow_s=5)
    with Heard() as lines:
        virtual(lambda: stream(guarded(Fake(begins_s=9), rule)))
    assert [each.rpartition(": ")[2] for each in lines] == ["it was slow to answer"]


@pytest.mark.parametrize("error", [ProviderServerError("HTTP 500"), QuotaError("no money")])
def test_a_call_that_was_well_begins_anew(error: ModelError) -> None:
    faults = [error, None, error, None, error]

    async def main() -> None:
        model = guarded(Fake(fault=lambda _: faults.pop()))
        while faults:
            with suppress(ModelError):
                await stream(model)

    with Heard() as lines:
        virtual(main)
    assert lines == []
