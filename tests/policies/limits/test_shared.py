"""Limits that processes share: kept by all of them together, and by none for longer than it must."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Literal

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.errors import (
    BudgetExceededError,
    LimitReachedError,
    LimitUnknownError,
    ModelError,
    OverloadedError,
    ProviderServerError,
)
from orchestra.policies.account import PRESENT
from orchestra.policies.clock import Clock
from orchestra.policies.guard import GuardedModel
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.limits.allowance import OwnerState
from orchestra.policies.limits.limit import CallLimits, Limiter, Load
from orchestra.policies.limits.shared import SharedLimits
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.policies.money.prices import Price
from orchestra.policies.money.purse import Purse
from orchestra.protocols import Change, State
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.policies.limits.test_callers import SlowState, state_of
from tests.policies.money.test_budget import Told
from tests.policies.test_guard import ASKED, INPUT, Fake, stream

OUTPUT = 100
REQUEST = attrs.evolve(ASKED, output_tokens_max=OUTPUT)


@attrs.frozen
class Call:
    """A call of somebody, in one of two processes, that is given up after a while."""

    user: str
    comes_s: float
    patience_s: float
    process: int
    whole: bool


SECONDS = st.integers(0, 40).map(lambda n: n / 4)
CALLS = st.lists(
    st.builds(
        Call,
        st.sampled_from(["", "ada", "bob"]),
        SECONDS,
        st.sampled_from([0.0, 0.001, 0.5, 3.0, 1e4]),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=12,
)
LIMITS = st.builds(
    CallLimits,
    requests_per_minute=st.none() | st.integers(2, 60),
    tokens_per_minute=st.none() | st.integers(300, 2000),
    concurrency=st.integers(1, 3),
    adaptive=st.booleans(),
    wait_max_s=st.sampled_from([0.0, 5.0, None]),
    waiting_max=st.integers(1, 20),
    shared=st.just(value=True),
)


def guarded(fake: Fake, limits: CallLimits, state: State, **more: object) -> GuardedModel:
    shared = SharedLimits("m", limits, state)
    return GuardedModel(fake, name="m", limits=limits, shared=shared, **more)  # type: ignore[arg-type]


async def left(state: SlowState, limits: CallLimits) -> OwnerState | None:
    """What is kept of the model."""
    (owner,) = SharedLimits("m", limits, state)._limits.rules.owners(Caller(), "models")
    assert owner.key == "limits:models:model:m"
    data = await state.inner.change([owner.key], lambda kept, _: Change(kept[0]))
    return None if data is None else state_of(owner, data, trio.current_time())


@pytest.mark.parametrize("shared", [True, False])
def test_a_share_of_a_minute_may_begin_at_once(shared: bool) -> None:
    limits = CallLimits(requests_per_minute=10, burst_share=0.5, shared=shared)

    async def main() -> list[float]:
        began: list[float] = []
        ours = SharedLimits("m", limits, MemoryState(now_s=trio.current_time))
        for _ in range(7):
            if shared:
                await ours.enter(Caller(), tokens=0)
            else:
                await own.enter()
            began.append(trio.current_time())
        return began

    own = Limiter(limits, Clock())
    assert virtual(main) == [0, 0, 0, 0, 0, 10, 20]


@pytest.mark.parametrize("shared", [True, False])
def test_callers_of_a_model_take_turns(shared: bool) -> None:
    """However many calls one of them has sent before the other."""
    limits = CallLimits(concurrency=1, shared=shared)

    async def main() -> list[str]:
        began: list[str] = []

        class Noted(Fake):
            def check(self) -> None:
                began.append(PRESENT.get().caller.user)

        state = MemoryState(now_s=trio.current_time)
        own = GuardedModel(Noted(), name="m", limits=limits)
        model = guarded(Noted(), limits, state) if shared else own

        async def one(user: str) -> None:
            PRESENT.set(Told("", user))
            await stream(model)

        async with trio.open_nursery() as nursery:
            for user in ("ada",) * 5 + ("bob",) * 2:
                nursery.start_soon(one, user)
                await trio.sleep(0.01)
        return began

    assert virtual(main)[:5] == ["ada", "ada", "bob", "ada", "bob"]


@given(LIMITS, CALLS, st.sampled_from([0.0, 0.001]), st.booleans(), schedules())
def test_two_processes_together_keep_every_limit_and_leave_nothing_behind(
    limits: CallLimits, calls: list[Call], slow_s: float, fails: bool, schedule: int
) -> None:
    """Whoever leaves, and whenever; also where the provider fails."""
    began: list[tuple[float, float]] = []

    @attrs.define(eq=False)
    class Timed(Fake):
        """Remembers when each of its calls began, and how many were under way."""

        def check(self) -> None:
            began.append((trio.current_time(), sum(each.running for each in fakes)))
            super().check()

    error = OverloadedError("full") if fails else None
    fakes: list[Fake] = [Timed(fault=lambda _: error) for _ in range(2)]

    async def main() -> None:
        state = SlowState(slow_s=slow_s)
        models = [guarded(fake, limits, state) for fake in fakes]

        async def one(call: Call) -> None:
            PRESENT.set(Told("", call.user))
            await trio.sleep(call.comes_s)
            with trio.move_on_after(call.patience_s), suppress(ModelError):
                await stream(models[call.process], 100 if call.whole else 1)

        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(one, call)
        for model in models:
            assert attrs.evolve(model.state().load, at_once=None) == Load(0, 0)
            assert not model._gate.shared._waiting  # type: ignore[union-attr]
        account = await left(state, limits)
        assert account is None or not account.leases
        for meter in () if account is None else (account.requests, account.tokens):
            assert meter is None or not meter.open

    virtual(main, schedule=schedule)
    for at_s, running in began:
        inside = [each for each, _ in began if at_s <= each < at_s + 60 - 1]
        assert len(inside) <= (limits.requests_per_minute or 99)
        assert running <= (limits.concurrency or 99)


def together(
    limits: CallLimits, callers: Sequence[str], *, rule: BreakerRule | None = None, **more: object
) -> tuple[list[str], Fake]:
    """Who was answered, in their order, of some who call at once, one after the other."""
    answered: list[str] = []
    fake = Fake(**more)  # type: ignore[arg-type]

    async def main() -> None:
        state = SlowState()
        models = [guarded(fake, limits, state, breaker=rule) for _ in range(2)]

        async def one(user: str, at: int) -> None:
            PRESENT.set(Told("", user))
            await trio.sleep(at / 1000)
            try:
                await stream(models[0])
                answered.append(user)
            except ModelError as error:
                answered.append(f"{type(error).__name__} {error.code} {trio.current_time():.1f}")

        async with trio.open_nursery() as nursery:
            for at, user in enumerate(callers):
                nursery.start_soon(one, user, at)

    virtual(main)
    return answered, fake


def test_each_caller_has_a_turn() -> None:
    limits = CallLimits(concurrency=1, shared=True, wait_max_s=None)
    answered, _ = together(limits, [*["ada"] * 6, "bob"])
    assert answered[:3] == ["ada", "ada", "bob"]


def test_an_open_breaker_refuses_at_once_who_waits() -> None:
    rule = BreakerRule(calls_min=1, failure_rate=0.1)
    limits = CallLimits(concurrency=1, shared=True, wait_max_s=None)
    broken = ProviderServerError("no")
    answered, fake = together(
        limits, ["ada", "bob", "eve"], rule=rule, fault=lambda _: broken, begins_s=2.0
    )
    assert fake.asked == 1
    assert sorted(answered)[:2] == ["BreakerOpenError breaker 2.0"] * 2


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (CallLimits(concurrency=1, wait_max_s=0.0, shared=True), "concurrency"),
        (CallLimits(concurrency=1, waiting_max=1, shared=True), "waiting_max"),
        (CallLimits(concurrency=1, wait_max_s=0.5, shared=True), "concurrency"),
        (CallLimits(requests_per_minute=1, wait_max_s=1.0, shared=True), "requests_per_minute"),
    ],
)
def test_who_would_wait_too_long_is_told_the_limit_of_the_model(
    limits: CallLimits, code: str
) -> None:
    """As by limits of one process: the code is the limit's name, and the model is named."""

    async def main() -> LimitReachedError:
        state = SlowState()
        models = [guarded(Fake(begins_s=9.0), limits, state) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream, models[0])
            await trio.sleep(0.1)
            if limits.waiting_max == 1:
                nursery.start_soon(stream, models[1])
                await trio.sleep(0.1)
            with pytest.raises(LimitReachedError) as caught:
                await stream(models[1])
        return caught.value

    error = virtual(main)
    assert (error.code, error.model) == (code, "m")
    assert "model 'm'" in str(error)


def test_who_has_only_stood_behind_others_is_told_that_the_wait_was_too_long() -> None:
    """And not that too many wait: nothing would be won by letting more of them wait."""
    limits = CallLimits(concurrency=1, wait_max_s=0.5, waiting_max=9, shared=True)

    async def main() -> list[str]:
        codes: list[str] = []
        model = guarded(Fake(begins_s=9.0), limits, SlowState(slow_s=0.02))

        async def refused() -> None:
            with pytest.raises(LimitReachedError, match=r"has waited 0\.5 s") as caught:
                await stream(model)
            codes.append(caught.value.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream, model)
            await trio.sleep(0.1)
            nursery.start_soon(refused)
            await trio.sleep(0.05)  # the first has asked, and stands in line; soon behind it:
            nursery.start_soon(refused)
        return codes

    assert virtual(main) == ["concurrency", "wait_max_s"]


def test_what_a_budget_refuses_has_taken_nothing() -> None:
    limits = CallLimits(requests_per_minute=60, tokens_per_minute=100_000, shared=True)

    async def main() -> None:
        state = SlowState()
        purse = Purse(Budgets(user=SpendingLimits(day=1)), state)
        price = Price(input=1_000_000, output=1_000_000)
        model = guarded(Fake(), limits, state, purse=purse, price=price)
        PRESENT.set(Told("", "ada"))
        with pytest.raises(BudgetExceededError):
            await stream(model)
        account = await left(state, limits)
        assert account is not None
        for meter in (account.requests, account.tokens):
            assert meter is not None
            assert not meter.open
            assert meter.debt <= 0

    virtual(main)


def test_tokens_are_settled_with_what_was_counted() -> None:
    limits = CallLimits(tokens_per_minute=1_000_000, shared=True)

    async def main() -> int:
        state = SlowState()
        model = guarded(Fake(), limits, state)
        async with model.stream(REQUEST) as reply:
            taken = await left(state, limits)
            assert taken is not None
            assert taken.tokens is not None
            assert [each.units for each in taken.tokens.open] == [INPUT + OUTPUT]
            while await reply.receive():
                pass
        account = await left(state, limits)
        assert account is not None
        assert account.tokens is not None
        return account.tokens.debt

    assert virtual(main) <= 0


@pytest.mark.parametrize("fails", ["open", "closed"])
def test_while_the_state_is_away_they_are_open_or_closed(fails: Literal["open", "closed"]) -> None:
    limits = CallLimits(concurrency=1, shared=True, when_state_fails=fails)

    async def main() -> None:
        state, fake = SlowState(), Fake()
        state.fails = True
        model = guarded(fake, limits, state)
        if fails == "open":
            await stream(model)
        else:
            with pytest.raises(LimitUnknownError, match='when_state_fails = "closed"') as caught:
                await stream(model)
            assert caught.value.code == "when_state_fails"
            assert fake.asked == 0
        assert model.state().load == Load(0, 0)

    virtual(main)


def test_who_waits_is_seen_to_wait() -> None:
    async def main() -> None:
        state = SlowState()
        limits = CallLimits(concurrency=1, shared=True)
        model = guarded(Fake(), limits, state)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(partial(stream, model))
            await trio.sleep(0.5)
            assert model.state().load == Load(1, 2)
        assert model.state().load == Load(0, 0)

    virtual(main)


def test_shared_limits_leave_a_process_nothing_but_what_adapts() -> None:
    limits = CallLimits(requests_per_minute=5, concurrency=3, adaptive=True, shared=True)
    assert limits.of_process() == attrs.evolve(limits, requests_per_minute=None)
    calm = attrs.evolve(limits, adaptive=False)
    assert calm.of_process() == attrs.evolve(calm, requests_per_minute=None, concurrency=None)
    alone = attrs.evolve(limits, shared=False)
    assert alone.of_process() is alone
