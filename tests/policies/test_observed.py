"""Each call of a model is told once, when it has ended, with how: whatever ended it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.errors import BreakerOpenError, LimitReachedError, ModelError, RateLimitError
from orchestra.policies.guard import GuardedModel
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.limits.limit import CallLimits
from orchestra.policies.money.prices import Price
from orchestra.policies.observed import CANCELLED, CallEnded, Teller, settings_of
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import Began, EmbedRequest, Stopped, StopReason, TextDelta, UsageReport
from tests.policies.test_guard import ASKED, ASKS, Fake, down, stream

WHOLE_S = 3.5
"""After so long a stream of the fake has said all that it says."""


@attrs.frozen
class Told:
    """What one who asked saw of a call, in the words in which it is told."""

    embeds: bool
    error: str
    first_chunk_s: float | None
    duration_s: float


def observed(model: Fake, told: list[CallEnded], **limits: int | None) -> GuardedModel:
    return GuardedModel(
        model,
        name="m",
        breaker=BreakerRule(calls_min=3, failure_rate=1.0, window_s=1000),
        draw=lambda: 0.0,
        limits=CallLimits(**limits),  # type: ignore[arg-type]
        teller=Teller(lambda: told.append, "openai", "gpt"),
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(ASKS),
            st.integers(0, 40).map(lambda n: n / 4),
            st.integers(0, 24).map(lambda n: n / 4 + 1 / 8) | st.just(1e4),
            st.integers(1, 4),
        ),
        max_size=10,
    ),
    st.tuples(st.integers(0, 10), st.integers(0, 10)),
    st.booleans(),
    schedules(),
)
def test_every_call_is_told_once_and_as_it_was(
    calls: list[tuple[Callable[..., object], float, float, int]],
    outage: tuple[int, int],
    at_entry: bool,
    schedule: int,
) -> None:
    """That of a reader who leaves early is cancelled; one that was refused is no call."""
    told: list[CallEnded] = []
    seen: list[Told] = []
    fake = Fake(fault=down(*sorted(outage)), at_entry=at_entry, begins_s=0.5)

    async def main() -> None:
        model = observed(fake, told)

        async def one(ask: Callable[..., object], at_s: float, left_s: float, most: int) -> None:
            await trio.sleep(at_s)
            began_s, error = trio.current_time(), CANCELLED
            with trio.move_on_after(left_s):
                try:
                    await (stream(model, most) if ask is stream else ask(model))  # type: ignore[misc]
                    error = "" if ask is not stream else CANCELLED
                except (BreakerOpenError, LimitReachedError):
                    return
                except ModelError as caught:
                    error = type(caught).__name__
            lasted_s = trio.current_time() - began_s
            if ask is stream and error == CANCELLED and lasted_s >= WHOLE_S:
                error = ""
            first_s = 1.5 if ask is stream and lasted_s >= 1.5 and fake_spoke(error) else None
            seen.append(Told(ask not in ASKS[:2], error, first_s, lasted_s))

        def fake_spoke(error: str) -> bool:
            return not (at_entry and error not in ("", CANCELLED))

        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(one, *call)

    virtual(main, schedule=schedule)
    assert {(each.model, each.provider, each.request_model) for each in told} <= {
        ("m", "openai", "gpt")
    }
    found = [
        Told(each.operation == "embeddings", each.error, each.first_chunk_s, each.duration_s)
        for each in told
    ]
    key = attrs.astuple
    assert sorted(map(repr, map(key, found))) == sorted(map(repr, map(key, seen)))


def test_its_usage_has_its_cost_and_one_that_was_refused_by_the_provider_has_none() -> None:
    told: list[CallEnded] = []
    usage = UsageReport(Usage(1_000_000, 500_000), {})
    said = (TextDelta("yes"), usage, Stopped(StopReason.END))

    async def main() -> None:
        price = Price(input=2_000_000_000, output=4_000_000_000)
        whole = GuardedModel(
            Fake(said), name="m", price=price, teller=Teller(lambda: told.append, "openai", "gpt")
        )
        await stream(whole)
        full = Fake(said, fault=lambda _: RateLimitError("full"))
        with pytest.raises(RateLimitError):
            await stream(observed(full, told))

    virtual(main)
    first, second = told
    assert first.usage is not None
    assert (first.usage.input_tokens, first.usage.cost_nanodollars) == (1_000_000, 4 * 10**9)
    assert (first.error, second.error) == ("", "RateLimitError")
    assert second.usage is None


@pytest.mark.parametrize("ask", ["stream", "complete"])
def test_it_is_told_what_was_asked_for_and_who_has_answered(ask: str) -> None:
    told: list[CallEnded] = []
    said = (Began("a1", "gpt-7"), TextDelta("yes"), Stopped(StopReason.LENGTH, "max_tokens"))
    request = attrs.evolve(ASKED, temperature=0.0, output_tokens_max=9)

    async def main() -> None:
        teller = Teller(lambda: told.append, "openai", "gpt", "api.test", 443)
        model = GuardedModel(Fake(said), name="m", teller=teller)
        if ask == "complete":
            await model.complete(request)
            return
        async with model.stream(request) as reply:
            while await reply.receive():
                pass

    virtual(main)
    (call,) = told
    assert call.settings == {"temperature": 0.0, "output_tokens_max": 9}
    assert (call.answer_id, call.answer_model) == ("a1", "gpt-7")
    assert (call.finish_reason, call.address, call.port) == ("max_tokens", "api.test", 443)


def test_vectors_are_told_with_who_made_them_and_what_length_was_asked_for() -> None:
    assert settings_of(EmbedRequest(("a",), dimensions=7)) == {"dimensions": 7}
    assert settings_of(EmbedRequest(("a",))) == {}


def test_the_time_of_a_wait_for_its_turn_is_not_the_models() -> None:
    told: list[CallEnded] = []

    async def main() -> None:
        model = observed(Fake(), told, concurrency=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream, model)
            nursery.start_soon(stream, model)

    virtual(main)
    assert [each.duration_s for each in told] == [4, 4]
    assert [each.first_chunk_s for each in told] == [1, 1]
