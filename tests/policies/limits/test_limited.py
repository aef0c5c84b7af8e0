"""Models whose callers have limits: what a call holds is given back, whatever ends it."""

from __future__ import annotations

from contextlib import suppress

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Caller, Usage
from orchestra.errors import (
    BreakerOpenError,
    BudgetExceededError,
    LimitReachedError,
    ModelError,
    ModelsFailedError,
    ProviderServerError,
    UnknownPriceError,
)
from orchestra.policies.account import PRESENT, NoAccount
from orchestra.policies.guard import GuardedModel
from orchestra.policies.limits.allowance import LEASE_S, CallerRules, OwnerLimits
from orchestra.policies.limits.callers import CallerLimits
from orchestra.policies.limits.limited import CallerLimitedModel, lease_s
from orchestra.policies.routing import Candidate, Route
from orchestra.protocols import Model
from orchestra.providers.routing import RoutedModel
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import (
    Capabilities,
    EmbedRequest,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
)
from tests.policies.limits.remaining import remaining
from tests.policies.test_guard import ASKED, INPUT, WHOLE, Fake

ADA = Caller("acme", "ada")
PER_MINUTE = 100_000
UNUSED = (PER_MINUTE // 10 - PER_MINUTE,) * 2
"""What is `spent` of requests and of tokens by nobody: all of a minute may be taken."""
RULES = CallerRules(
    user=OwnerLimits(requests_per_minute=PER_MINUTE, tokens_per_minute=PER_MINUTE),
    organisation=OwnerLimits(concurrency=2, wait_max_s=1e4),
)


class Ada(NoAccount):
    """An account of hers."""

    caller = ADA


def limited(model: Fake) -> tuple[CallerLimitedModel, CallerLimits]:
    PRESENT.set(Ada())
    limits = CallerLimits(RULES, MemoryState(now_s=trio.current_time))
    return CallerLimitedModel(model, limits), limits


async def spent(limits: CallerLimits) -> tuple[int, ...]:
    """Requests and tokens that were taken of a burst just now: nothing is regained."""
    return tuple(each.limit // 10 - each.remaining for each in await remaining(limits, ADA))


def at_once(model: Fake, way: str = "complete") -> tuple[int, ...]:
    """What one call has spent in the end; it takes no time."""
    model.begins_s = 0.0

    async def main() -> tuple[int, ...]:
        made, limits = limited(model)
        with suppress(ModelError):
            if way == "embed":
                await made.embed(EmbedRequest(("text",)))
            elif way == "complete":
                with trio.move_on_after(0):
                    await made.complete(ASKED)
            else:
                async with made.stream(ASKED):
                    pass
        return await spent(limits)

    return virtual(main)


def test_of_a_call_that_was_left_its_question_stays_charged() -> None:
    assert at_once(Fake()) == (1, INPUT)
    assert at_once(Fake(), "stream") == (1, INPUT)


def test_texts_are_charged_as_they_are_counted() -> None:
    assert at_once(Fake(), "embed") == (1, 70)


@pytest.mark.parametrize("way", ["stream", "embed"])
def test_what_was_not_sent_is_given_back_whole(way: str) -> None:
    refusals: list[ModelError] = [
        BreakerOpenError("left alone; ask another"),
        LimitReachedError("too many; wait"),
        BudgetExceededError("no room; wait"),
        UnknownPriceError("say what it costs"),
    ]
    several = ModelsFailedError("all failed", {str(n): each for n, each in enumerate(refusals)})
    for error in [*refusals, several]:
        assert at_once(Fake(fault=lambda _, e=error: e), way) == UNUSED  # type: ignore[misc]
    begun = BudgetExceededError("no room for the rest")
    begun.begun = True
    assert at_once(Fake(fault=lambda _: begun), "stream") == (1, INPUT)
    mixed = ModelsFailedError("all failed", {"a": refusals[0], "b": ProviderServerError("500")})
    assert at_once(Fake(fault=lambda _: mixed), "stream") == (1, INPUT)


def test_an_answer_is_charged_as_its_provider_counts_it() -> None:
    events = (*WHOLE[:2], UsageReport(Usage(300, 200)), WHOLE[2])

    async def main() -> tuple[int, int]:
        made, limits = limited(Fake(events=events))
        await made.complete(ASKED)
        complete = (await remaining(limits, ADA))[1].reset_s
        other, others = limited(Fake(events=events))
        async with other.stream(ASKED) as reply:
            while await reply.receive():
                pass
        return round(complete * 1e3), round((await remaining(others, ADA))[1].reset_s * 1e3)

    both = virtual(main)
    assert both[0] == both[1], "however it was asked"


EVENTS = st.lists(
    st.builds(TextDelta, st.text("aé", max_size=9))
    | st.builds(UsageReport, st.builds(Usage, st.integers(0, 40), st.integers(0, 9))),
    max_size=3,
)
"""Of an answer, between its first word and its end."""


@given(EVENTS, st.integers(1, 8), st.integers(0, 8), st.booleans())
def test_who_listens_to_an_answer_makes_no_difference_to_its_price(
    between: list[ModelEvent], most: int, fails_s: int, routed: bool
) -> None:
    """A guard inside listens for both, also through a route; of a bare model, nobody does.

    Read to its end or not, and broken anywhere behind its first word, also behind its last.
    """
    events = (TextDelta("begun"), *between, Stopped(StopReason.END))

    def fault(now_s: float) -> Exception | None:
        return ProviderServerError("500") if 1 < fails_s <= now_s else None

    def fake() -> Fake:
        return Fake(events, fault, at_entry=False)

    async def charged(model: Model) -> float:
        """How long it takes to pay it off, at a token a second."""
        PRESENT.set(Ada())
        rules = CallerRules(user=OwnerLimits(tokens_per_minute=60))
        limits = CallerLimits(rules, MemoryState(now_s=trio.current_time))
        with suppress(ModelError):
            async with CallerLimitedModel(model, limits).stream(ASKED) as reply:
                for _ in range(most):
                    await reply.receive()
        return (await remaining(limits, ADA))[0].reset_s

    def inside() -> Model:
        guard = GuardedModel(fake(), name="m")
        route = Route(name="r", candidates=(Candidate(name="m"),))
        return RoutedModel(route, {"m": guard}) if routed else guard

    assert virtual(lambda: charged(inside())) == virtual(lambda: charged(fake()))


def test_who_has_no_limits_gets_the_model_itself() -> None:
    async def main() -> object:
        made, _ = limited(Fake())
        PRESENT.set(NoAccount())
        await made.complete(ASKED)
        await made.embed(EmbedRequest(("text",)))
        assert made.capabilities == Capabilities(tools=True)
        return made.stream(ASKED)

    assert type(virtual(main)).__name__ == "_AsyncGeneratorContextManager"


@attrs.frozen
class Asking:
    way: str
    comes_s: float
    patience_s: float
    fails: bool
    at_entry: bool


ASKINGS = st.lists(
    st.builds(
        Asking,
        way=st.sampled_from(["stream", "complete", "embed"]),
        comes_s=st.integers(0, 8).map(float),
        patience_s=st.sampled_from([0.0, 0.5, 1.0, 2.0, 1e4]),
        fails=st.booleans(),
        at_entry=st.booleans(),
    ),
    max_size=8,
)


@given(ASKINGS, schedules())
def test_no_lease_is_left_whatever_ends_a_call(askings: list[Asking], schedule: int) -> None:
    """By its end, a failure, an early leave, or a cancellation at any moment."""

    async def one(asking: Asking, limits: CallerLimits, fakes: list[Fake]) -> None:
        await trio.sleep(asking.comes_s)
        fault = ProviderServerError("500") if asking.fails else None
        fake = Fake(fault=lambda _: fault, at_entry=asking.at_entry, begins_s=1.0)
        fakes.append(fake)
        made = CallerLimitedModel(fake, limits)
        with suppress(ModelError), trio.move_on_after(asking.patience_s):
            if asking.way == "embed":
                await made.embed(EmbedRequest(("text",)))
            elif asking.way == "complete":
                await made.complete(ASKED)
            else:
                async with made.stream(ASKED) as reply:
                    await reply.receive()

    async def main() -> bool:
        _, limits = limited(Fake())
        fakes: list[Fake] = []
        async with trio.open_nursery() as watched:
            watched.start_soon(watch, fakes)
            async with trio.open_nursery() as nursery:
                for asking in askings:
                    nursery.start_soon(one, asking, limits, fakes)
            watched.cancel_scope.cancel()
        with trio.fail_after(0):  # both places are free
            await limits.enter(ADA)
            await limits.enter(ADA)
        return True

    async def watch(fakes: list[Fake]) -> None:
        while True:
            assert sum(fake.running for fake in fakes) <= 2
            await trio.sleep(0.25)

    assert virtual(main, schedule=schedule)


def test_a_lease_is_as_long_as_the_longest_call() -> None:
    assert lease_s([(600.0, 30.0), (60.0, 0.0)]) == 690.0
    assert lease_s([(600.0, None)]) == lease_s([(None, 30.0)]) == LEASE_S
