"""Requests that are counted for good: as calls that have entered and are never given back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.errors import LimitReachedError
from orchestra.policies.limits.allowance import (
    ENCODING,
    Ask,
    Blocked,
    CallerRules,
    OwnerLimits,
    OwnerState,
    Remaining,
    admit,
    count,
)
from orchestra.policies.limits.callers import NOT_COUNTED, CallerLimits
from orchestra.protocols import WhenStateFails
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.virtual import virtual
from tests.policies.limits.remaining import remaining
from tests.policies.limits.test_callers import ADA, BOB, CALLERS, SlowState

FEW = CallerRules(
    user=OwnerLimits(requests_per_minute=20), organisation=OwnerLimits(requests_per_minute=30)
).of_requests()


def nearest(left: Sequence[Remaining]) -> Remaining | None:
    """Of requests and of tokens, the limit with the fewest left; of these, the smaller share."""
    fewest = sorted(left, key=lambda each: each.remaining)
    firsts = {each.name: each for each in reversed(fewest)}
    return min(firsts.values(), key=lambda each: each.remaining / each.limit, default=None)


@given(st.lists(st.tuples(st.sampled_from(CALLERS), st.sampled_from([0.0, 0.5, 3.0, 70.0]))))
def test_a_request_is_counted_as_a_call_that_is_never_given_back(
    arrivals: Sequence[tuple[Caller, float]],
) -> None:
    async def main() -> None:
        state = MemoryState(now_s=trio.current_time)
        counting, beside = CallerLimits(FEW, state), CallerLimits(FEW, state, scope="beside")
        entering = CallerLimits(FEW, MemoryState(now_s=trio.current_time))
        for caller, after_s in arrivals:
            await trio.sleep(after_s)
            count = await counting.count(caller)
            try:
                await entering.enter(caller)
                why = None
            except LimitReachedError as error:
                why = error
            told = counting.refusal(count)
            assert told_to_waiters(told) == str(why)
            assert getattr(told, "code", None) == getattr(why, "code", None)
            left = await remaining(counting, caller)
            assert left == await remaining(entering, caller)
            assert count.nearest == nearest(left)
            both = await beside.count(caller, counting)
            assert both.nearest == nearest((*await remaining(beside, caller), *left))
            assert await remaining(counting, caller) == left

    virtual(main)


def test_of_requests_the_fewest_left_are_told_however_large_the_limit_is() -> None:
    """By shares, an organisation that may use a tenth at once would hide its users' own limits."""
    user = OwnerLimits(requests_per_minute=10, burst_share=0.5)
    rules = CallerRules(user=user, organisation=OwnerLimits(requests_per_minute=1000))

    async def main() -> tuple[str, int, int]:
        count = await CallerLimits(rules.of_requests(), MemoryState()).count(ADA)
        assert count.nearest is not None
        return count.nearest.owner.kind, count.nearest.limit, count.nearest.remaining

    assert virtual(main) == ("user", 10, 4)


def told_to_waiters(refusal: object) -> str:
    """What is refused, in the words for a call, whose rule says how long it may wait."""
    return str(refusal).replace("a request over HTTP does not wait", "its wait_max_s is 0")


def test_nothing_is_kept_of_each_request_that_was_counted() -> None:
    """It will not be given back: what is kept stays as large as it is."""

    async def main() -> list[OwnerState]:
        state = MemoryState(now_s=trio.current_time)
        limits = CallerLimits(FEW, state, scope="http")
        for _ in range(50):
            await limits.count(ADA)
            await trio.sleep(4)
        keys = ["limits:http:user:acme%2Fada", "limits:http:organisation:acme"]
        return await state.look(keys, lambda kept, _: [each for each in kept if each], ENCODING)

    states = virtual(main)
    assert len(states) == 2
    assert not any(each.requests and each.requests.open for each in states)


JUMPS_S = st.floats(-5000, 5000) | st.just(0.0)


@given(st.lists(st.tuples(JUMPS_S, st.integers(1, 30)), min_size=1), st.booleans())
def test_who_waits_as_long_as_they_were_told_is_let_in_whatever_the_clock_did_before(
    asks: list[tuple[float, int]], counted: bool
) -> None:
    """It is the host's clock where processes share a state: it is put forward, and back."""
    owners = CallerRules(
        user=OwnerLimits(requests_per_minute=20, tokens_per_minute=30),
        organisation=OwnerLimits(requests_per_minute=30),
    ).owners(ADA, "llm")
    stored: dict[str, bytes] = {}

    def blocked(tokens: int, now_s: float) -> Sequence[Blocked]:
        found = [stored.get(owner.key) for owner in owners]
        kept = [None if each is None else ENCODING.read(each) for each in found]
        ask = Ask("a", tokens, 0.0)
        records: Mapping[str, tuple[OwnerState, float] | None]
        if counted:
            count_ = count(owners, ask, (), kept, now_s)
            by, records = count_.result.blocked, count_.records
        else:
            admitted = admit(owners, ask, kept, now_s)
            by, records = admitted.result, admitted.records
        stored.update({key: ENCODING.write(each[0]) for key, each in records.items() if each})
        return by

    now_s, tokens, by = 10_000.0, 1, list[Blocked]()
    for jump_s, tokens in asks:
        now_s = max(now_s + jump_s, 0.0)
        by = [*blocked(tokens, now_s)]
    told_s = max((each.wait_s or 0.0 for each in by), default=0.0)
    assert not by or not blocked(tokens, now_s + told_s + 1e-5)


@pytest.mark.parametrize("way", ["open", "closed"])
def test_where_the_state_is_gone_a_request_is_let_in_or_not_as_its_limits_say(
    way: WhenStateFails,
) -> None:
    rules = attrs.evolve(FEW, user=attrs.evolve(FEW.user, when_state_fails=way))

    async def main() -> str:
        state = SlowState()
        state.fails = True
        limits = CallerLimits(rules, state)
        if way == "open":
            return str(await limits.count(BOB) is NOT_COUNTED)
        with pytest.raises(LimitReachedError) as caught:
            await limits.count(BOB)
        return caught.value.code

    assert virtual(main) == {"open": "True", "closed": "user.when_state_fails"}[way]
