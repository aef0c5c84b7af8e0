"""Flights, as laws: whoever comes, goes or reads slowly, at any moment of any answer."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from math import inf

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.errors import (
    ModelTimeoutError,
    ProviderServerError,
)
from orchestra.events import StepCoalesced
from orchestra.policies.answers.replayed import events_of
from orchestra.policies.flights.coalesce import CoalesceRule, Question
from orchestra.policies.flights.coalesced import EVENT_BYTES, CoalescedModel
from orchestra.policies.flights.flight import Flight
from orchestra.policies.flights.waiter import Waiter
from orchestra.protocols import Model, ModelReply
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import (
    ChatRequest,
    ModelEvent,
)
from tests.policies.waiters import (
    Fake,
    Heard,
    Payer,
    Visit,
    all_of,
    saying,
    visit,
    visits,
)


@given(
    schedules(),
    st.lists(visits, min_size=1, max_size=6),
    st.integers(0, 4),
    st.tuples(st.none() | st.just(ProviderServerError("it broke")), st.booleans()),
    st.sampled_from([1, 350, 100_000]),
)
def test_everyone_hears_everything_in_order_and_all_is_paid(
    schedule: int,
    drawn: list[Visit],
    count: int,
    ends: tuple[ProviderServerError | None, bool],
    held_bytes: int,
) -> None:
    """Whoever joins, leaves, is cancelled or reads slowly, at any moment of any answer."""
    error, settles = ends
    model = Fake(saying(count), error, settles)
    shared = CoalescedModel(model, name="m", rule=CoalesceRule(held_bytes=held_bytes))
    whole = Completion.of(model.events)
    anew = tuple(events_of(whole))
    heard = virtual(lambda: all_of(shared, drawn), schedule=schedule)
    assert model.running == 0
    opened = [
        each
        for one, each in zip(heard, drawn, strict=True)
        if each.cancelled_s > 0 and (StepCoalesced, "m", 1.0) not in one.payer.notes
    ]
    left_at_once = sum(each.batches == 0 and not each.whole for each in opened)
    assert len(opened) - left_at_once <= model.asked <= len(opened)
    for one, each in zip(heard, drawn, strict=True):
        said = tuple(one.events)
        if said != model.events[: len(said)]:  # it has joined one who asked for a completion
            assert said == anew
        elif one.ended and not each.whole:
            assert said in (model.events, anew)
        assert one.answer is None or one.answer == whole
        lagged = isinstance(one.error, ModelTimeoutError)
        assert lagged or one.error is None or type(one.error) is type(error)
        if each.cancelled_s > 1000 and each.batches > 100 and not lagged:
            assert one.ended is (error is None)
    paid = [one.payer.usage for one in heard if one.payer.usage is not None]
    total, reported = sum(paid, Usage()), sum(model.reported, Usage())
    assert total.cost_nanodollars == reported.cost_nanodollars
    assert total.output_tokens == reported.output_tokens


@given(schedules(), st.lists(visits, min_size=1, max_size=6))
def test_who_waits_at_the_same_time_shares_a_call(schedule: int, drawn: list[Visit]) -> None:
    """While somebody waits for a call, nobody makes another."""
    most = 0

    class Watched(Model):
        def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
            nonlocal most
            most = max(most, shared.flights)
            return Fake().stream(request)

    shared = CoalescedModel(Watched(), name="m")
    virtual(lambda: all_of(shared, drawn), schedule=schedule)
    assert most <= 1


@given(schedules(), st.integers(1, 40), st.sampled_from([3, 7, 15, 1000]))
def test_a_slow_reader_holds_others_back_only_so_long(
    schedule: int, count: int, pause_s: float
) -> None:
    """In all, also where it reads on each time before their patience is over."""
    rule = CoalesceRule(held_bytes=3 * EVENT_BYTES, lag_s=20)
    shared = CoalescedModel(Fake(saying(count)), name="m", rule=rule)
    ended: list[float] = []

    async def main() -> None:
        async with trio.open_nursery() as engine, trio.open_nursery() as nursery:
            slow, fast = Heard(Payer(engine, "slow")), Heard(Payer(engine, "fast"))
            nursery.start_soon(visit, shared, Visit(0, pause_s=pause_s), slow)
            await visit(shared, Visit(0), fast)
            assert fast.ended
            ended.append(trio.current_time())

    virtual(main, schedule=schedule)
    assert ended[0] <= len(saying(count)) + 1 + 20


@given(schedules(), st.integers(10, 40))
def test_who_reads_too_slowly_is_left_behind_and_told_why(schedule: int, count: int) -> None:
    """And the others hear the rest at once."""
    rule = CoalesceRule(held_bytes=3 * EVENT_BYTES, lag_s=20)
    shared = CoalescedModel(Fake(saying(count)), name="m", rule=rule)

    async def main() -> None:
        async with trio.open_nursery() as engine:
            slow, fast = Heard(Payer(engine, "slow")), Heard(Payer(engine, "fast"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(visit, shared, Visit(0, pause_s=1000), slow)
                nursery.start_soon(visit, shared, Visit(0), fast)
            assert (fast.ended, slow.ended) == (True, False)
            assert isinstance(slow.error, ModelTimeoutError)
            assert slow.error.code == "lag_s"
            assert slow.events == fast.events[: len(slow.events)]

    virtual(main, schedule=schedule)


@given(schedules(), st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=1, max_size=4))
def test_what_is_held_of_an_answer_is_bounded(schedule: int, pauses_s: list[float]) -> None:
    """By `held_bytes`, and the one batch that has come when it was full."""
    most, rule = 0, CoalesceRule(held_bytes=4 * EVENT_BYTES)

    class Watched(Flight[ModelEvent]):
        async def publish(self, *items: ModelEvent) -> None:
            nonlocal most
            most = max(most, len(self._kept) * EVENT_BYTES)
            await super().publish(*items)

    async def main() -> None:
        async with trio.open_nursery() as engine:
            flight = Watched(Question(b"k"), rule, lambda _: EVENT_BYTES, lambda _: None)

            async def call() -> None:
                for event in saying(20):
                    await flight.publish(event)

            async def reads(waiter: Waiter[ModelEvent], pause_s: float) -> None:
                heard: list[ModelEvent] = []
                while batch := await waiter.receive():
                    heard += batch
                    await trio.sleep(pause_s)
                assert tuple(heard) == saying(20)
                await waiter.leave()

            for at, pause_s in enumerate(pauses_s):
                waiter = flight.join(Waiter(Payer(engine, str(at)), inf))
                engine.start_soon(reads, waiter, pause_s)
            flight.start(Payer(engine), call, "a flight")

    virtual(main, schedule=schedule)
    assert most <= rule.held_bytes
