"""A call that was cancelled before a byte of it was sent is in no limit, as if it had never been."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NoReturn

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import UNSENT
from orchestra.errors import (
    LimitReachedError,
    ModelConnectionError,
    ProviderServerError,
    RateLimitError,
    StateError,
)
from orchestra.policies.account import PRESENT
from orchestra.policies.answers.accounting import NOT_SENT, was_unsent
from orchestra.policies.batches import BatchSize
from orchestra.policies.guard import GuardedModel
from orchestra.policies.limits.allowance import CallerRules, OwnerLimits
from orchestra.policies.limits.callers import CallerLimits
from orchestra.policies.limits.limit import CallLimits
from orchestra.policies.limits.limited import CallerLimitedModel
from orchestra.policies.limits.shared import SharedLimits
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.policies.money.prices import Price
from orchestra.policies.money.purse import Purse
from orchestra.policies.routing import Candidate, Route
from orchestra.protocols import Model, ModelReply
from orchestra.providers.routing import RoutedModel
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import ChatRequest, Embeddings, EmbedRequest, Message, TextDelta
from tests.policies.limits.test_limited import Ada
from tests.policies.test_guard import WHOLE, Fake

TEXT = "x" * 3_000
ASKED = ChatRequest((Message("user", TEXT),), output_tokens_max=1_000)
CONNECTS_S = 0.4
ONE = {"requests": 10, "tokens": 20_040}
"""A minute's limit with room for one such call at once; the next is some seconds later."""


@attrs.define(eq=False)
class Connecting(Fake):
    """Connects for `CONNECTS_S`, as a transport does, and then answers late."""

    async def connected(self) -> None:
        try:
            await trio.sleep(CONNECTS_S)
        except trio.Cancelled as cancelled:
            cancelled.add_note(UNSENT)
            raise
        await trio.sleep(1)

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        if self.begins_s:
            await self.connected()
        async with super().stream(request) as reply:
            yield reply

    async def embed(self, request: EmbedRequest) -> Embeddings:
        await self.connected()
        return await super().embed(request)


def unreached(_: float) -> ModelConnectionError:
    return ModelConnectionError("nobody is there", code="connect")


def limited(where: str, what: str, inner: Model) -> GuardedModel | CallerLimitedModel:
    """The model with this limit in this place, of which nobody waits for room."""
    most = {f"{what}_per_minute": ONE[what], "wait_max_s": 0.0}
    limits, state = CallLimits(**most), MemoryState(now_s=trio.current_time)  # type: ignore[arg-type]
    if where == "own":
        return GuardedModel(inner, name="m", limits=limits)
    if where == "shared":
        shared = SharedLimits("m", limits, state)
        return GuardedModel(inner, name="m", shared=shared)
    rules = CallerRules(user=OwnerLimits(**most))  # type: ignore[arg-type]
    return CallerLimitedModel(inner, CallerLimits(rules, state))


async def ask(model: Model, way: str) -> None:
    if way == "stream":
        async with model.stream(ASKED) as reply:
            await reply.receive()
    elif way == "complete":
        await model.complete(ASKED)
    else:
        await model.embed(EmbedRequest((TEXT * 2,)))


async def has_room(model: Model) -> bool:
    with suppress(LimitReachedError):
        async with model.stream(ASKED):
            return True
    return False


@given(
    st.sampled_from(["own", "shared", "caller's"]),
    st.sampled_from(["requests", "tokens"]),
    st.sampled_from(["stream", "complete", "embed"]),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7]),
    schedules(),
)
def test_a_limit_counts_a_cancelled_call_only_if_it_was_sent(
    where: str, what: str, way: str, leaves_s: float, schedule: int
) -> None:
    async def main() -> bool:
        PRESENT.set(Ada())
        fake = Connecting(begins_s=1)
        model = limited(where, what, fake)
        with trio.move_on_after(leaves_s) as left:
            await ask(model, way)
        assert left.cancelled_caught
        fake.begins_s = 0
        return await has_room(model)

    assert virtual(main, schedule=schedule) == (leaves_s < CONNECTS_S)


@pytest.mark.parametrize("what", ["requests", "tokens"])
def test_a_call_that_waits_for_the_models_limits_is_not_yet_in_its_callers(what: str) -> None:
    async def main() -> bool:
        PRESENT.set(Ada())
        fake = Connecting()
        guarded = GuardedModel(fake, name="m", limits=CallLimits(concurrency=1))
        model = limited("caller's", what, guarded)
        async with guarded.stream(ASKED):
            with trio.move_on_after(0.1):
                await ask(model, "stream")
        assert fake.asked == 1
        return await has_room(model)

    assert virtual(main)


@pytest.mark.parametrize("leaves_s", [0.1, 0.5, 2.5])
def test_of_several_requests_of_one_call_a_first_that_was_sent_counts(leaves_s: float) -> None:
    """One is sent, and the others wait for its place, or for a connection."""

    async def main() -> bool:
        PRESENT.set(Ada())
        fake, size = Connecting(begins_s=1), BatchSize(1)
        alone = CallLimits(concurrency=1)
        guarded = GuardedModel(fake, name="m", batch_size=size, limits=alone)
        model = limited("caller's", "requests", guarded)
        with trio.move_on_after(leaves_s):
            await model.embed(EmbedRequest(("a", "b", "c")))
        fake.begins_s = 0
        return await has_room(model)

    assert virtual(main) == (leaves_s < CONNECTS_S)


def test_a_call_of_a_route_was_sent_if_the_model_before_was_asked() -> None:
    async def main() -> bool:
        PRESENT.set(Ada())
        fails = Fake(fault=lambda _: ProviderServerError("500"))
        fake = Connecting(begins_s=1)
        models = {"a": GuardedModel(fails, name="a"), "b": GuardedModel(fake, name="b")}
        route = Route(name="r", candidates=(Candidate(name="a"), Candidate(name="b")))
        model = limited("caller's", "requests", RoutedModel(route, models))
        with trio.move_on_after(0.1):
            await ask(model, "complete")
        fake.begins_s = 0
        return await has_room(model)

    assert not virtual(main)


class Away(MemoryState):
    """A state that is out of reach."""

    at_once = False

    async def change(self, *_: object) -> NoReturn:
        raise StateError("gone")

    revise = change  # type: ignore[assignment]


@pytest.mark.parametrize("way", ["stream", "complete", "embed"])
def test_a_call_of_a_route_was_sent_also_where_a_state_keeps_it_from_the_next_model(
    way: str,
) -> None:
    async def main() -> bool:
        PRESENT.set(Ada())
        fails = Fake(fault=lambda _: ProviderServerError("500"))
        purse = Purse(Budgets(user=SpendingLimits(day=10**9)), Away())
        paid = GuardedModel(Fake(), name="b", price=Price(input=1, output=1), purse=purse)
        models = {"a": GuardedModel(fails, name="a"), "b": paid}
        route = Route(name="r", candidates=(Candidate(name="a"), Candidate(name="b")))
        model = limited("caller's", "requests", RoutedModel(route, models))
        with pytest.raises(StateError):
            await ask(model, way)
        assert fails.asked == 1
        fails.fault = lambda _: None
        return await has_room(model)

    assert not virtual(main)


def test_of_several_requests_of_one_call_a_later_one_that_was_not_sent_refunds_nothing() -> None:
    """The second finds no connection, after the first was answered."""

    async def main() -> bool:
        PRESENT.set(Ada())
        fake = Fake()
        fake.fault = lambda now_s: unreached(now_s) if fake.asked > 1 else None
        alone = CallLimits(concurrency=1)
        guarded = GuardedModel(fake, name="m", batch_size=BatchSize(1), limits=alone)
        model = limited("caller's", "requests", guarded)
        with pytest.raises(ModelConnectionError):
            await model.embed(EmbedRequest(("a", "b")))
        assert fake.asked == 2
        fake.fault = lambda _: None
        return await has_room(model)

    assert not virtual(main)


@pytest.mark.parametrize("what", ["requests", "tokens"])
@pytest.mark.parametrize("where", ["own", "shared", "caller's"])
def test_an_answer_that_has_begun_was_sent_whatever_its_error_says(where: str, what: str) -> None:
    """A model that comes back for the rest of its answer finds no connection, for instance."""

    async def main() -> bool:
        PRESENT.set(Ada())
        fake = Fake(events=(TextDelta(TEXT * 2), *WHOLE), fault=unreached, at_entry=False)
        model = limited(where, what, fake)
        async with model.stream(ASKED) as reply:
            assert await reply.receive()
            with pytest.raises(ModelConnectionError):
                await reply.receive()
        return await has_room(model)

    assert not virtual(main)


@pytest.mark.parametrize("code", NOT_SENT)
def test_the_code_of_a_provider_does_not_say_that_nothing_was_sent(code: str) -> None:
    """It writes there what it likes, and has been asked to write it."""
    for kind in (RateLimitError, ProviderServerError):
        assert not was_unsent(kind("no", code=code, status=502))


def test_a_call_that_is_not_made_since_its_budget_is_out_of_reach_is_in_no_limit() -> None:
    async def main() -> bool:
        PRESENT.set(Ada())
        fake = Fake()
        budgets = Budgets(user=SpendingLimits(day=10**9, when_state_fails="closed"))
        guarded = GuardedModel(
            fake, name="m", price=Price(input=1, output=1), purse=Purse(budgets, Away())
        )
        model = limited("caller's", "requests", guarded)
        with pytest.raises(StateError):
            await ask(model, "complete")
        assert fake.asked == 0
        model.model = fake
        return await has_room(model)

    assert virtual(main)
