"""Limits of callers: shared by processes, all or none, exactly given back, and fair."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
import msgspec
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.accounts import Caller, KeyAllowance
from orchestra.errors import LimitReachedError, StateError
from orchestra.policies import outbox
from orchestra.policies.limits.allowance import (
    ENCODING,
    LEASE_S,
    Ask,
    CallerRules,
    Owner,
    OwnerLimits,
    OwnerState,
    admit,
)
from orchestra.policies.limits.callers import AGAIN_S, NOTHING, POLL_S, CallerLimits, Lease
from orchestra.policies.limits.gcra import MINUTE_NS, WAIT_MIN_S, Meter, Rate
from orchestra.policies.outbox import GIVE_BACK_S
from orchestra.protocols import Change, State
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.policies.limits.meters import spend
from tests.policies.limits.remaining import remaining

T = TypeVar("T")
ADA, BOB, EVE = Caller("acme", "ada"), Caller("acme", "bob"), Caller("", "eve")
KEYS = [
    Caller("acme", "ada", "k1", KeyAllowance(requests_per_minute=4, concurrency=1)),
    Caller("acme", "ada", "k2", KeyAllowance(tokens_per_minute=80)),
    Caller("", "eve", "k3", KeyAllowance(concurrency=2)),
    Caller("acme", "bob", "k4"),
]
CALLERS = [ADA, BOB, EVE, Caller("acme"), Caller(), Caller("other", "ada"), *KEYS]


class SlowState(State):
    """A state behind a line: others come between, and it can be cancelled before and after."""

    def __init__(self, *, slow_s: float = 0.0) -> None:
        self.inner = MemoryState(now_s=trio.current_time)
        self.slow_s = slow_s
        self.changes = 0
        self.fails = False

    async def change(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        self.changes += 1
        await trio.sleep(self.slow_s)
        if self.fails:
            raise StateError("the store is gone; start it")
        found = await self.inner.change(keys, decide)
        await trio.sleep(self.slow_s)
        return found

    async def recall(self, key: str) -> bytes | None:
        raise NotImplementedError("limits do not ask")

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        raise NotImplementedError("limits do not remember")


@attrs.frozen
class Call:
    """A call that comes, holds what it took, and may be given up by its caller at any moment."""

    caller: Caller
    comes_s: float
    holds_s: float
    tokens: int
    really: int
    patience_s: float
    process: int


SECONDS = st.integers(0, 80).map(lambda n: n / 4)
CALLS = st.lists(
    st.builds(
        Call,
        caller=st.sampled_from(CALLERS),
        comes_s=SECONDS,
        holds_s=SECONDS,
        tokens=st.integers(0, 60),
        really=st.integers(0, 60),
        patience_s=st.sampled_from([0.0, 0.001, 0.002, 0.003, 0.5, 3.0, 1e4]),
        process=st.integers(0, 1),
    ).map(lambda call: attrs.evolve(call, really=min(call.really, call.tokens))),
    max_size=16,
)
LIMITS = st.builds(
    OwnerLimits,
    requests_per_minute=st.none() | st.integers(2, 60),
    tokens_per_minute=st.none() | st.integers(60, 200),
    concurrency=st.none() | st.integers(1, 3),
    wait_max_s=st.sampled_from([0.0, 5.0, 1000.0]),
    waiting_max=st.integers(1, 20),
)
RULES = st.builds(CallerRules, user=LIMITS, organisation=LIMITS)


def state_of(owner: Owner, data: bytes | None, now_s: float) -> OwnerState:
    """What is kept of an owner, as it is at a time."""
    state = OwnerState() if data is None else ENCODING.read(data)
    state.advance(owner, now_s)
    return state


@attrs.define
class Began:
    call: Call
    at_s: float
    until_s: float = 1e9


async def play(limits: Sequence[CallerLimits], calls: Sequence[Call]) -> list[Began]:
    seen: list[Began] = []

    async def one(call: Call) -> None:
        await trio.sleep(call.comes_s)
        mine = limits[call.process % len(limits)]
        with trio.move_on_after(call.patience_s):
            try:
                lease = await mine.enter(call.caller, tokens=call.tokens)
            except LimitReachedError:
                return
            began = Began(call, trio.current_time())
            seen.append(began)
            try:
                await trio.sleep(call.holds_s)
            finally:
                began.until_s = trio.current_time()
                await mine.leave(lease, tokens=call.really)  # noqa: ASYNC102 - it is shielded, and bounded

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(one, call)
    return seen


@given(RULES, CALLS, st.sampled_from([0.0, 0.001]), schedules())
def test_two_processes_together_keep_every_limit_and_leave_nothing_behind(
    rules: CallerRules, calls: list[Call], slow_s: float, schedule: int
) -> None:
    """Whoever leaves, and whenever: in a line, in the state, while running, in the same instant."""

    async def main() -> tuple[list[Began], list[OwnerState]]:
        state = SlowState(slow_s=slow_s)
        limits = [CallerLimits(rules, state), CallerLimits(rules, state)]
        seen = await play(limits, calls)
        assert not any(len(each._lines) + len(each._bells) for each in limits)
        owners = [owner for caller in CALLERS for owner in rules.owners(caller, "models")]
        now_s = trio.current_time()
        left = [
            state_of(owner, data, now_s)
            for owner in owners
            for data in [await state.inner.change([owner.key], lambda kept, _: Change(kept[0]))]
        ]
        return seen, left

    seen, left = virtual(main, schedule=schedule)
    for found in left:
        assert not found.leases
        for meter in (found.requests, found.tokens):
            assert meter is None or not meter.open
    for owner in {owner for caller in CALLERS for owner in rules.owners(caller, "models")}:
        limits = owner.limits
        mine = [each for each in seen if owner in rules.owners(each.call.caller, "models")]
        for first in mine:
            began_s = first.at_s - 2 * slow_s
            inside = [each for each in mine if began_s <= each.at_s < began_s + 60 - 0.01]
            assert len(inside) <= (limits.requests_per_minute or 99)
            spent = sum(each.call.really for each in inside)
            assert spent <= (limits.tokens_per_minute or 9999)
            at_once = sum(each.at_s <= first.at_s < each.until_s for each in mine)
            assert at_once <= (limits.concurrency or 99)


def test_limits_are_those_of_the_key_of_the_user_and_of_the_organisation() -> None:
    """Users of one name in two organisations are two, and so are two keys of one user."""
    rules = CallerRules(
        user=OwnerLimits(concurrency=1), organisation=OwnerLimits(requests_per_minute=9)
    )
    first, second, eves, without = KEYS
    named = [[str(owner) for owner in rules.owners(caller, "models")] for caller in KEYS]
    assert named == [
        ["key 'k1'", "user 'acme/ada'", "organisation 'acme'"],
        ["key 'k2'", "user 'acme/ada'", "organisation 'acme'"],
        ["key 'k3'", "user 'eve'"],
        ["user 'acme/bob'", "organisation 'acme'"],
    ]
    other = rules.owners(Caller("other", "ada"), "models")[0]
    assert other.key != rules.owners(first, "models")[1].key
    assert rules.owners(first, "models")[1] == rules.owners(second, "models")[1]
    assert CallerRules().owners(without, "models") == ()
    (own,) = CallerRules().owners(eves, "models")
    assert own.limits == OwnerLimits(concurrency=2)
    assert own.key == "limits:models:key:k3"


def test_of_requests_over_http_only_their_number_counts_and_nobody_waits() -> None:
    rules = CallerRules(user=OwnerLimits(requests_per_minute=9, concurrency=1)).of_requests()
    first, second, *_ = KEYS
    own, users = rules.owners(first, "http")
    assert own.limits == OwnerLimits(requests_per_minute=4, wait_max_s=0.0)
    assert users.limits == OwnerLimits(requests_per_minute=9, wait_max_s=0.0)
    assert [owner.kind for owner in rules.owners(second, "http")] == ["user"]
    assert not rules.of_keys_only
    assert CallerRules(users={"ada": OwnerLimits()}).of_requests().of_keys_only


TAKES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 60), st.integers(0, 80), st.integers(0, 5)),
    max_size=16,
)


@given(TAKES, st.integers(60, 200))
def test_a_refund_leaves_no_trace_and_an_underestimate_is_charged(
    takes: list[tuple[int, int, int, int]], limit: int
) -> None:
    """What is kept is as if of each call the truth had been known from the start.

    Except that what was saved up before a call may stay lost when all of it is given back.
    """

    async def main() -> tuple[int, int, int]:
        state = MemoryState(now_s=trio.current_time)
        rules = CallerRules(user=OwnerLimits(tokens_per_minute=limit, wait_max_s=1e4))
        processes = [CallerLimits(rules, state), CallerLimits(rules, state)]
        open_: list[tuple[Lease, int, list[float]]] = []
        truth: list[list[float]] = []  # [time, units]
        for pause_s, estimate, really, which in takes:
            await trio.sleep(pause_s)
            limits = processes[which % 2]
            if which % 3 and open_:
                lease, tokens, entry = open_.pop(which % len(open_))
                await limits.leave(lease, tokens=tokens)
                if tokens > entry[1]:
                    truth.append([trio.current_time(), tokens - entry[1]])
                else:
                    entry[1] = tokens
            else:
                lease = await limits.enter(EVE, tokens=estimate)
                truth.append([trio.current_time(), estimate])
                open_.append((lease, really, truth[-1]))
        (owner,) = rules.owners(EVE, "models")
        kept = await state.change([owner.key], lambda kept, _: Change(kept[0]))
        now_s = trio.current_time()
        meter, most, least = state_of(owner, kept, now_s).tokens, Meter(limit), Meter(limit)
        assert meter is not None
        for at_s, units in truth:
            spend(most, at_s, int(units))
            if units:
                spend(least, at_s, int(units))
        for each in (most, least):
            each.advance(now_s)
        debts = (least.state.debt, meter.debt, most.state.debt)
        unused = -limit * MINUTE_NS  # further back than that nothing is felt
        return max(debts[0], unused), max(debts[1], unused), max(debts[2], unused)

    least, kept, most = virtual(main)
    assert least <= kept <= most


def refused(rules: CallerRules, callers: list[Caller], tokens: int = 0) -> LimitReachedError:
    """The refusal of the last of some callers, who all stay."""

    async def main() -> LimitReachedError:
        limits = CallerLimits(rules, MemoryState(now_s=trio.current_time))
        for caller in callers[:-1]:
            await limits.enter(caller, tokens=tokens)
        with pytest.raises(LimitReachedError) as caught:
            await limits.enter(callers[-1], tokens=tokens)
        assert trio.current_time() == 0
        return caught.value

    return virtual(main)


def test_a_refusal_tells_which_limit_whose_and_when_there_is_room() -> None:
    rules = CallerRules(user=OwnerLimits(requests_per_minute=1, wait_max_s=0))
    error = refused(rules, [ADA, ADA])
    assert (error.code, error.retry_after_s) == ("user.requests_per_minute", 60.0)
    assert str(error) == (
        "refused by limit requests_per_minute of user 'acme/ada': 1 at once, of 1 a minute, are "
        "taken, there is room in 60 s, and its wait_max_s is 0; ask for less at once, or have the limit raised (retry after 60 s)"
    )
    rules = CallerRules(organisation=OwnerLimits(concurrency=1, wait_max_s=0))
    error = refused(rules, [ADA, BOB])
    assert (error.code, error.retry_after_s) == ("organisation.concurrency", None)


def test_a_share_of_a_minute_may_come_at_once_and_keys_have_that_of_their_user() -> None:
    half = OwnerLimits(requests_per_minute=10, burst_share=0.5, wait_max_s=0)
    error = refused(CallerRules(users={"ada": half}), [ADA] * 6)
    assert error.retry_after_s == 10.0
    assert "of user 'acme/ada': 5 at once, of 10 a minute, are taken" in str(error)
    key = Caller("acme", "ada", "k", KeyAllowance(requests_per_minute=10))
    only = attrs.evolve(half, requests_per_minute=None)
    for rules in (CallerRules(users={"ada": only}), CallerRules(user=only)):
        assert rules.of_requests().owners(key, "http")[0].requests == Rate.of(10, 0.5)


def test_a_wait_that_would_be_too_long_is_not_begun() -> None:
    rules = CallerRules(user=OwnerLimits(tokens_per_minute=100, wait_max_s=5))
    error = refused(rules, [EVE, EVE], tokens=60)
    assert error.code == "user.tokens_per_minute"
    assert "it may wait only 5 s" in str(error)


def test_calls_that_wait_for_a_limit_are_logged_once_an_hour_with_whose_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Runs that wait are slow, and nothing else tells their operator why."""
    slow = OwnerLimits(requests_per_minute=60, wait_max_s=1e4, waiting_max=1000)
    rules = CallerRules(user=slow, organisation=OwnerLimits(concurrency=1))

    async def call(limits: CallerLimits, caller: Caller, lasts_s: float) -> None:
        lease = await limits.enter(caller)
        await trio.sleep(lasts_s)
        await limits.leave(lease, tokens=0)

    async def logged(limits: CallerLimits, *callers: Caller, lasts_s: float = 0.0) -> list[str]:
        caplog.clear()
        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(call, limits, caller, lasts_s)
        return caplog.messages

    async def main() -> None:
        limits = CallerLimits(rules, MemoryState(now_s=trio.current_time))
        of_ada = (
            "calls wait for limit requests_per_minute of user 'acme/ada', which is logged once an "
            "hour: 6 at once, of 60 a minute, are taken; waiting calls of all callers: 6"
        )
        assert await logged(limits, *[ADA] * 6) == []
        assert await logged(limits, *[ADA] * 6) == [of_ada]
        await trio.sleep(AGAIN_S / 2)
        assert await logged(limits, *[ADA] * 12) == []
        assert await logged(limits, *[EVE] * 12) == [of_ada.replace("acme/ada", "eve")]
        await trio.sleep(AGAIN_S / 2)
        assert await logged(limits, *[ADA] * 12) == [of_ada]
        assert await logged(limits, BOB, Caller("acme", "cid"), lasts_s=1.0) == [
            "calls wait for limit concurrency of organisation 'acme', which is logged once an "
            "hour: 1 are taken; waiting calls of all callers: 1"
        ]
        limits = CallerLimits(CallerRules(user=slow), MemoryState(now_s=trio.current_time))
        told = await logged(limits, *[ADA] * 7, *[EVE] * 7)  # one call of each has to wait
        assert told[1].endswith("waiting calls of all callers: 2")

    virtual(main)


def test_all_or_none() -> None:
    """Where the organisation is in the way, nothing is taken of the user, and the other way."""
    rules = CallerRules(
        user=OwnerLimits(requests_per_minute=100, concurrency=1, wait_max_s=0),
        organisation=OwnerLimits(tokens_per_minute=100, wait_max_s=0),
    )

    async def main() -> tuple[int, ...]:
        limits = CallerLimits(rules, MemoryState(now_s=trio.current_time))
        await limits.enter(ADA, tokens=60)
        before = await remaining(limits, BOB)
        for caller, tokens in ((BOB, 60), (ADA, 1)):
            with pytest.raises(LimitReachedError):
                await limits.enter(caller, tokens=tokens)
        assert await remaining(limits, BOB) == before
        return tuple(each.remaining for each in before)

    assert virtual(main) == (100, 0)


def test_who_has_no_limits_never_touches_the_state() -> None:
    async def main() -> int:
        state = SlowState()
        limits = CallerLimits(CallerRules(user=OwnerLimits(concurrency=1)), state)
        for caller in (Caller(), Caller("acme"), Caller("acme", "", "k")):
            assert not limits.limited(caller)
            assert await limits.enter(caller) is NOTHING
            await limits.leave(NOTHING, tokens=5)
            assert await remaining(limits, caller) == ()
        return state.changes

    assert virtual(main) == 0


@given(schedules())
def test_one_flooding_caller_does_not_delay_another(schedule: int) -> None:
    """Twenty calls of one user wait for the organisation; that of another has the next turn."""
    rules = CallerRules(organisation=OwnerLimits(concurrency=1, wait_max_s=1000))

    async def main() -> float:
        state = MemoryState(now_s=trio.current_time)
        limits = CallerLimits(rules, state)
        flood = [Call(ADA, 0, 1, 0, 0, 1e4, 0)] * 20

        async def bob() -> float:
            await trio.sleep(0.5)
            await limits.leave(await limits.enter(BOB), tokens=0)
            return trio.current_time()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, [limits], flood)
            at_s = await bob()
            nursery.cancel_scope.cancel()
        return at_s

    assert virtual(main, schedule=schedule) <= 2.0


def test_who_waits_for_their_own_limit_lets_others_of_the_organisation_pass() -> None:
    rules = CallerRules(
        users={"ada": OwnerLimits(concurrency=1)},
        organisation=OwnerLimits(concurrency=2),
    )

    async def main() -> float:
        limits = CallerLimits(rules, MemoryState(now_s=trio.current_time))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, [limits], [Call(ADA, 0, 9, 0, 0, 1e4, 0)] * 5)
            await trio.sleep(1)
            await limits.enter(BOB)
            nursery.cancel_scope.cancel()
        return trio.current_time()

    assert virtual(main) == 1.0


@given(schedules(), st.sampled_from(["user", "organisation"]))
def test_a_key_at_its_limit_is_not_in_the_way_of_another_key(schedule: int, shared: str) -> None:
    """Calls of a key that wait for its own limit hold no place of its user or organisation."""
    rules = CallerRules(**{shared: OwnerLimits(concurrency=2, wait_max_s=1000)})  # type: ignore[arg-type]
    one, two, *_ = KEYS

    async def main() -> float:
        limits = CallerLimits(rules, MemoryState(now_s=trio.current_time))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, [limits], [Call(one, 0, 9, 0, 0, 1e4, 0)] * 5)
            await trio.sleep(1)
            await limits.enter(two)
            nursery.cancel_scope.cancel()
        return trio.current_time()

    assert virtual(main, schedule=schedule) == 1.0


@given(schedules())
def test_keys_of_one_user_have_their_turns(schedule: int) -> None:
    """A flood with one key waits for the user's limit; another key's call has the next turn."""
    rules = CallerRules(user=OwnerLimits(concurrency=1, wait_max_s=1000))
    many = KeyAllowance(concurrency=100)
    one, two = Caller("acme", "ada", "k1", many), Caller("acme", "ada", "k2", many)

    async def main() -> float:
        limits = CallerLimits(rules, MemoryState(now_s=trio.current_time))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, [limits], [Call(one, 0, 1, 0, 0, 1e4, 0)] * 20)
            await trio.sleep(0.5)
            await limits.enter(two)
            nursery.cancel_scope.cancel()
        return trio.current_time()

    assert virtual(main, schedule=schedule) <= 2.0


def test_what_a_dead_process_held_is_free_when_its_lease_is_over() -> None:
    rules = CallerRules(user=OwnerLimits(concurrency=1, wait_max_s=1e4))

    async def main() -> float:
        state = MemoryState(now_s=trio.current_time)
        await CallerLimits(rules, state).enter(ADA, lease_s=100)
        await CallerLimits(rules, state).enter(ADA)
        return trio.current_time()

    assert 100 <= virtual(main) <= 100.25


@given(st.integers(1, 2000), st.integers(0, 10**40))
def test_a_call_takes_a_minute_at_the_most_until_it_is_known_what_it_took(
    limit: int, asked: int
) -> None:
    """Whoever asks may write any number; after a crash it locked a limit for years."""
    rules = CallerRules(user=OwnerLimits(tokens_per_minute=limit, wait_max_s=1e4))

    async def main() -> float:
        state = MemoryState(now_s=trio.current_time)
        await CallerLimits(rules, state).enter(ADA, tokens=asked)  # and its process dies
        await CallerLimits(rules, state).enter(ADA, tokens=1)
        return trio.current_time()

    assert virtual(main) <= 60 + WAIT_MIN_S


@pytest.mark.parametrize("fails", ["open", "closed"])
def test_a_state_that_is_gone_opens_or_closes_the_limit(fails: str) -> None:
    rules = CallerRules(user=OwnerLimits(concurrency=1, when_state_fails=fails))  # type: ignore[arg-type]

    async def main() -> str:
        state = SlowState()
        state.fails = True
        limits = CallerLimits(rules, state)
        try:
            for _ in range(3):
                await limits.leave(await limits.enter(ADA), tokens=0)
        except LimitReachedError as error:
            return error.code
        return ""

    assert virtual(main) == {"open": "", "closed": "user.when_state_fails"}[fails]


class FarState(SlowState):
    """Each call takes so long to get there, and its answer so long to come back."""

    def __init__(self, ways_s: list[tuple[float, float]]) -> None:
        super().__init__()
        self.ways_s = ways_s

    async def change(
        self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
    ) -> T:
        there_s, back_s = self.ways_s.pop() if self.ways_s else (0.0, 0.0)
        await trio.sleep(there_s)
        found = await self.inner.change(keys, decide)
        await trio.sleep(back_s)
        return found


ways = st.sampled_from([0.0, 0.001, 0.01, 0.02])


@given(schedules(), st.lists(st.tuples(ways, ways), max_size=12), st.floats(0, 0.1))
@example(0, [(0.0, 0.0), (0.0, 0.02), (0.0, 0.0), (0.0, 0.0)], 0.01)  # its second answer is late
def test_what_is_given_back_is_heard_by_whoever_asks_in_the_same_moment(
    schedule: int, ways_s: list[tuple[float, float]], back_at_s: float
) -> None:
    """It is asked for once more at the most: the answer that is on its way may be older."""
    rules = CallerRules(user=OwnerLimits(tokens_per_minute=100, wait_max_s=100))

    async def main() -> None:
        limits = CallerLimits(rules, FarState(list(ways_s)))

        async def second() -> None:
            await limits.leave(await limits.enter(ADA, tokens=10), tokens=10)
            assert trio.current_time() <= 1.0 + back_at_s + 5 * 0.04

        first = await limits.enter(ADA, tokens=10)
        await trio.sleep_until(1.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second)
            await trio.sleep(back_at_s)
            await limits.leave(first, tokens=0)

    virtual(main, schedule=schedule)


def test_giving_back_is_bounded_and_shielded() -> None:
    rules = CallerRules(user=OwnerLimits(concurrency=1))

    async def main() -> float:
        state = SlowState()
        limits = CallerLimits(rules, state)
        lease = await limits.enter(ADA)
        state.slow_s = 10.0
        with trio.CancelScope() as scope:
            scope.cancel()
            await limits.leave(lease, tokens=0)
        return trio.current_time()

    assert virtual(main) == pytest.approx(GIVE_BACK_S)


def test_what_another_version_has_written_counts_as_nothing() -> None:
    owners = CallerRules(user=OwnerLimits(concurrency=1)).owners(ADA, "models")
    change = admit(owners, Ask("1", 1, LEASE_S), [ENCODING.read(b"\xff{")], 0.0)
    assert change.result == ()
    kept = change.records[owners[0].key]
    assert kept is not None
    assert msgspec.json.decode(ENCODING.write(kept[0])) == [None, None, [["1", LEASE_S]]]


def test_names_make_keys_without_whitespace_of_bounded_length() -> None:
    rules = CallerRules(user=OwnerLimits(concurrency=1))
    for name in ("a b", "ä" * 500, "\0", "a:b"):
        (owner,) = rules.owners(Caller("", name), "http")
        assert len(owner.key.split()) == 1
        assert len(owner.key) < 250
        assert owner.key.startswith("limits:http:user:")


def test_a_call_within_its_limits_costs_little() -> None:
    """Far above what it takes, so that a busy machine does not fail it."""
    rules = CallerRules(
        user=OwnerLimits(requests_per_minute=10**6, tokens_per_minute=10**9, concurrency=10),
        organisation=OwnerLimits(
            requests_per_minute=10**6, tokens_per_minute=10**9, concurrency=10
        ),
    )

    async def main() -> float:
        limits = CallerLimits(rules, MemoryState())
        began = time.perf_counter()
        for _ in range(500):
            await limits.leave(await limits.enter(ADA, tokens=1000), tokens=100)
        return (time.perf_counter() - began) / 500

    assert trio.run(main) < 0.002


def one_at_once(state: State) -> CallerLimits:
    return CallerLimits(CallerRules(user=OwnerLimits(concurrency=1, tokens_per_minute=100)), state)


def test_an_end_that_the_state_did_not_take_is_told_again_by_the_next_who_begins() -> None:
    """A moment's silence of the state does not lock a caller out for as long as a lease."""

    async def main() -> None:
        state = SlowState()
        limits = one_at_once(state)
        lease = await limits.enter(EVE, tokens=10)
        state.fails = True
        await limits.leave(lease, tokens=1)
        state.fails = False
        with trio.fail_after(1.0):
            await limits.leave(await limits.enter(EVE, tokens=9), tokens=9)
        (tokens,) = await remaining(limits, EVE)
        assert tokens.remaining == 0  # of a burst of ten, one and nine were taken

    virtual(main)


def test_an_end_that_is_told_again_is_counted_once() -> None:
    """Also one that has taken more than was thought, of which only the answer was lost."""

    class Deaf(SlowState):
        async def change(
            self,
            keys: Sequence[str],
            decide: Callable[[Sequence[bytes | None], float], Change[T]],
        ) -> T:
            fails, self.fails = self.fails, False
            found = await super().change(keys, decide)
            if fails:
                raise StateError("it has happened, and nobody was told")
            return found

    async def main() -> None:
        state = Deaf()
        limits = one_at_once(state)
        lease = await limits.enter(EVE, tokens=1)
        state.fails = True
        await limits.leave(lease, tokens=4)
        await limits.leave(await limits.enter(EVE, tokens=2), tokens=2)
        (tokens,) = await remaining(limits, EVE)
        assert tokens.remaining == 4

    virtual(main)


def test_who_waits_begins_when_the_state_is_back_that_did_not_take_an_end() -> None:
    async def main() -> None:
        state = SlowState()
        limits = one_at_once(state)
        lease, began_s = await limits.enter(EVE), []

        async def wait() -> None:
            await limits.leave(await limits.enter(EVE), tokens=0)
            began_s.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(1.1)
            state.fails = True
            await limits.leave(lease, tokens=0)
            state.fails = False
        assert began_s[0] <= 1.1 + POLL_S

    virtual(main)


def test_of_ends_that_are_late_no_more_are_kept_than_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        state = SlowState()
        limits = CallerLimits(CallerRules(user=OwnerLimits(concurrency=100)), state)
        leases = [await limits.enter(EVE) for _ in range(30)]
        state.fails = True
        for lease in leases:
            await limits.leave(lease, tokens=0)
        assert len(limits.outbox.undelivered) == 20
        state.fails = False
        for left in (12, 4, 0):
            await limits.leave(await limits.enter(EVE), tokens=0)
            assert len(limits.outbox.undelivered) == left
        changes = state.changes
        await limits.leave(await limits.enter(EVE), tokens=0)
        assert state.changes == changes + 2

    monkeypatch.setattr(outbox, "UNDELIVERED_MAX", 20)
    virtual(main)
