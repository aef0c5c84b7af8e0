"""Limits: never exceeded, callers take turns, and every slot is given back."""

from __future__ import annotations

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import LimitReachedError, RateLimitError
from orchestra.policies.clock import Clock
from orchestra.policies.limits.limit import CallLimits, Limiter, Load
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual


@attrs.frozen
class Call:
    """A call that comes, holds its slot, and may be given up by its caller."""

    comes_s: float
    holds_s: float = 0.0
    tokens: int = 10
    really: int = 10
    patience_s: float = 1e4
    caller: str = ""


SECONDS = st.integers(0, 60).map(lambda n: n / 4)
CALLS = st.lists(
    st.builds(
        Call,
        comes_s=SECONDS,
        holds_s=SECONDS,
        tokens=st.integers(0, 60),
        really=st.integers(0, 80),
        patience_s=SECONDS | st.just(1e4),
        caller=st.sampled_from(["", "ada", "bob"]),
    ),
    max_size=14,
)
LIMITS = st.builds(
    CallLimits,
    requests_per_minute=st.none() | st.integers(1, 60),
    tokens_per_minute=st.none() | st.integers(80, 400),
    concurrency=st.none() | st.integers(1, 3),
    wait_max_s=st.none() | st.sampled_from([0.0, 0.25, 5.0, 1000.0]),
    waiting_max=st.integers(1, 20),
)


@attrs.define
class Seen:
    """What a run of calls has come to."""

    came: list[int] = attrs.field(factory=list)
    """Those that had to wait, in the order in which they came."""
    went: list[int] = attrs.field(factory=list)
    times_s: list[float] = attrs.field(factory=list)
    refused: list[LimitReachedError] = attrs.field(factory=list)
    running_max: int = 0
    waiting_max: int = 0


async def play(limiter: Limiter, calls: list[Call]) -> Seen:
    seen = Seen()

    async def one(number: int, call: Call) -> None:
        await trio.sleep(call.comes_s)
        seen.came.append(number)
        with trio.move_on_after(call.patience_s):
            try:
                admitted = await limiter.enter(call.caller, tokens=call.tokens)
            except LimitReachedError as error:
                seen.refused.append(error)
                return
            try:
                seen.went.append(number)
                seen.times_s.append(trio.current_time())
                seen.running_max = max(seen.running_max, limiter.load.running)
                await trio.sleep(call.holds_s)
            finally:
                limiter.leave(admitted, tokens=call.really)

    async def watch() -> None:
        while True:
            seen.waiting_max = max(seen.waiting_max, limiter.load.waiting)
            await trio.sleep(0.25)

    async with trio.open_nursery() as outer:
        outer.start_soon(watch)
        async with trio.open_nursery() as nursery:
            for number, call in enumerate(calls):
                nursery.start_soon(one, number, call)
        outer.cancel_scope.cancel()
    return seen


@given(LIMITS, CALLS, schedules())
def test_limits_hold_the_queue_is_fair_and_everything_is_given_back(
    limits: CallLimits, calls: list[Call], schedule: int
) -> None:
    """Whoever gives up, and whenever: while waiting, while running, or in the same instant."""

    async def main() -> tuple[Seen, Limiter]:
        limiter = Limiter(limits, Clock())
        return await play(limiter, calls), limiter

    seen, limiter = virtual(main, schedule=schedule)
    assert limiter.load == Load(0, 0)
    assert limiter._tokens is None or not limiter._tokens.state.open
    assert seen.running_max <= (limits.concurrency or 14)
    assert seen.waiting_max <= limits.waiting_max
    for caller in ("", "ada", "bob"):
        came, went = (
            [number for number in each if calls[number].caller == caller and number in seen.went]
            for each in (seen.came, seen.went)
        )
        assert came == went, "a caller's calls stay in order"
    for began_s in seen.times_s:
        inside = [at_s for at_s in seen.times_s if began_s <= at_s < began_s + 60 - 1e-6]
        assert len(inside) <= (limits.requests_per_minute or 1000)
    if limits == CallLimits(wait_max_s=limits.wait_max_s, waiting_max=limits.waiting_max):
        assert not seen.refused
        assert len(seen.went) == len(calls)


@given(LIMITS, st.lists(st.integers(0, 60), max_size=8))
def test_a_call_that_was_given_back_unsent_is_as_if_it_had_never_been(
    limits: CallLimits, calls: list[int]
) -> None:
    """As many begin afterwards as of a limiter that nobody has asked."""

    def begun(limiter: Limiter) -> int:
        return sum(limiter.begin(0.0, 1) is not None for _ in range(20))

    asked = Limiter(limits, Clock())
    for tokens in calls:
        if (admitted := asked.begin(0.0, tokens)) is not None:
            asked.leave(admitted, tokens=0, sent=False)
            assert asked.load == Load(0, 0)
    assert begun(asked) == begun(Limiter(limits, Clock()))


@given(st.integers(60, 400), CALLS, schedules())
def test_no_minute_sees_more_tokens_than_the_limit(
    limit: int, calls: list[Call], schedule: int
) -> None:
    """As far as estimates were no less than the truth; what is over one is charged when known."""
    calls = [attrs.evolve(each, really=min(each.really, each.tokens)) for each in calls]
    began: dict[int, float] = {}

    async def main() -> Seen:
        limits = CallLimits(tokens_per_minute=limit, wait_max_s=None)
        return await play(Limiter(limits, Clock()), calls)

    seen = virtual(main, schedule=schedule)
    began = dict(zip(seen.went, seen.times_s, strict=True))
    for begin_s in began.values():
        inside = [
            calls[number].really
            for number, at_s in began.items()
            if begin_s <= at_s < begin_s + 60 - 1e-6
        ]
        assert sum(inside) <= limit


@given(st.integers(0, 40), schedules())
def test_a_cancellation_at_any_moment_takes_nothing_along(ticks: int, schedule: int) -> None:
    """The caller in the middle of the queue is cancelled after some steps of the scheduler."""

    async def main() -> tuple[Load, list[str]]:
        limiter = Limiter(CallLimits(concurrency=1, requests_per_minute=600), Clock())
        went: list[str] = []

        async def one(name: str) -> None:
            admitted = await limiter.enter()
            try:
                went.append(name)
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
            finally:
                limiter.leave(admitted, tokens=0)

        async def leaving() -> None:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_soon, scope)
                await one("leaving")

        async def cancel_soon(scope: trio.CancelScope) -> None:
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "first")
            nursery.start_soon(leaving)
            nursery.start_soon(one, "last")
        return limiter.load, went

    load, went = virtual(main, schedule=schedule)
    assert load == Load(0, 0)
    assert {"first", "last"} <= set(went)


def refusal(limits: CallLimits, calls: list[Call]) -> tuple[LimitReachedError, float]:
    """The error of the last call, and when it came."""

    async def main() -> tuple[LimitReachedError, float]:
        limiter = Limiter(limits, Clock(), "m")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, limiter, calls[:-1])
            await trio.sleep(calls[-1].comes_s)
            patience = trio.CancelScope(deadline=trio.current_time() + calls[-1].patience_s)
            with patience, pytest.raises(LimitReachedError) as caught:
                await limiter.enter(calls[-1].caller, tokens=calls[-1].tokens)
            nursery.cancel_scope.cancel()
        return caught.value, trio.current_time()

    return virtual(main)


def test_a_full_queue_refuses_at_once() -> None:
    limits = CallLimits(concurrency=1, waiting_max=2)
    error, at_s = refusal(limits, [Call(0, 100)] * 3 + [Call(1)])
    assert (error.code, at_s, error.retry_after_s) == ("waiting_max", 1.0, None)
    assert isinstance(error, RateLimitError)
    assert error.retryable
    assert str(error) == (
        "m: refused by our own limit waiting_max = 2: so many calls wait already; ask for less at once, ask another model, or have the limit raised"
    )


def test_a_caller_with_many_calls_does_not_hold_up_another() -> None:
    flood = [Call(0, 1, caller="ada")] * 8
    calls = [*flood, *[Call(0.5, 1, caller="bob")] * 2, Call(0.75, 1, caller="eve")]

    async def main() -> Seen:
        return await play(Limiter(CallLimits(concurrency=1), Clock()), calls)

    callers = [calls[number].caller for number in virtual(main).went]
    assert callers == ["ada", "ada", "bob", "eve", "ada", "bob", "ada", "ada", "ada", "ada", "ada"]


def test_in_a_full_queue_the_last_call_of_who_has_most_makes_room() -> None:
    limits = CallLimits(concurrency=1, waiting_max=3)
    flood = [Call(0, 5, caller="ada")] * 4
    calls = [*flood, *[Call(1, 5, caller="bob")] * 2, Call(2, 5, caller="ada")]

    async def main() -> tuple[Seen, Limiter]:
        limiter = Limiter(limits, Clock())
        return await play(limiter, calls), limiter

    seen, limiter = virtual(main)
    callers = [calls[number].caller for number in seen.went]
    assert callers == ["ada", "ada", "bob", "ada"]
    assert [each.code for each in seen.refused] == ["waiting_max"] * 3
    assert any("callers with fewer calls come before" in str(each) for each in seen.refused)
    assert (seen.waiting_max, limiter.load) == (3, Load(0, 0))


def test_a_wait_has_an_end() -> None:
    error, at_s = refusal(CallLimits(concurrency=1, wait_max_s=3), [Call(0, 100), Call(1)])
    assert (error.code, at_s) == ("wait_max_s", 4.0)
    assert "wait_max_s = 3: the call has waited so long" in str(error)


def test_a_wait_that_would_be_too_long_is_not_begun() -> None:
    limits = CallLimits(requests_per_minute=1, wait_max_s=30)
    error, at_s = refusal(limits, [Call(0), Call(1)])
    assert (error.code, at_s, error.retry_after_s) == ("requests_per_minute", 1.0, 59.0)
    assert (
        "requests_per_minute = 1: the call could begin only in 59 s, after wait_max_s = 30"
        in str(error)
    )


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    limits = CallLimits(tokens_per_minute=100, wait_max_s=None)
    error, at_s = refusal(limits, [Call(0, tokens=100, really=100), Call(1, patience_s=9)])
    assert (error.code, at_s) == ("tokens_per_minute", 1.0)
    assert "after its deadline in 9 s" in str(error)


def test_who_is_cancelled_already_is_cancelled_and_not_refused() -> None:
    async def main() -> Load:
        limiter = Limiter(CallLimits(requests_per_minute=1), Clock())
        await limiter.enter()
        with trio.CancelScope() as scope:
            scope.cancel()
            await limiter.enter()
        assert scope.cancelled_caught
        return limiter.load

    assert virtual(main) == Load(1, 0)


def test_those_before_it_count_in_what_a_call_would_wait() -> None:
    limits = CallLimits(requests_per_minute=60, wait_max_s=None)
    calls = [Call(0)] * 6 + [Call(1)] * 5 + [Call(2, patience_s=4)]
    error, _ = refusal(limits, calls)
    assert error.code == "requests_per_minute"


def test_a_call_that_asks_for_any_number_takes_a_minute_at_the_most() -> None:
    limits = CallLimits(tokens_per_minute=100, wait_max_s=None)

    async def main() -> float:
        limiter = Limiter(limits, Clock())
        await limiter.enter(tokens=10**40)
        await limiter.enter(tokens=1)
        return trio.current_time()

    assert virtual(main) <= 60


def test_a_refund_wakes_who_waits_for_it() -> None:
    async def main() -> float:
        limits = CallLimits(tokens_per_minute=100, wait_max_s=None)
        limiter = Limiter(limits, Clock())
        admitted = await limiter.enter(tokens=100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, limiter, [Call(0, tokens=10)])
            await trio.sleep(2)
            limiter.leave(admitted, tokens=0)
        return trio.current_time()

    assert virtual(main) == 2.0


def test_state_outlives_a_run_whose_clock_begins_anew() -> None:
    limiter = Limiter(CallLimits(requests_per_minute=1, wait_max_s=None), Clock())

    async def later() -> float:
        await trio.sleep(500)
        limiter.leave(await limiter.enter(), tokens=0)
        return trio.current_time()

    async def at_once() -> float:
        limiter.leave(await limiter.enter(), tokens=0)
        return trio.current_time()

    assert virtual(later) == 500
    assert virtual(at_once) == 60
    assert trio.run(at_once_or_refused, limiter) == pytest.approx(60, abs=1)


async def at_once_or_refused(limiter: Limiter) -> float | None:
    """On a real clock, which begins at a random time: how long there would be to wait."""
    with trio.move_on_after(1), pytest.raises(LimitReachedError) as caught:
        await limiter.enter()
    return caught.value.retry_after_s
