"""What a budget or a limit refuses to whoever asked first is nobody else's refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.answers import Completion
from orchestra.errors import (
    BudgetExceededError,
    LimitReachedError,
    ModelsFailedError,
    ProviderServerError,
    StateError,
    TruncatedStreamError,
)
from orchestra.policies.account import PRESENT
from orchestra.policies.flights.coalesce import CoalesceRule
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.protocols import Model, ModelReply
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import Capabilities, ChatRequest, Embeddings, EmbedRequest
from tests.policies.waiters import ACME, ASKED, Fake, Payer, ask, read, saying

POOR = Caller("acme", "poor")
TEXTS = EmbedRequest(("a", "bcd"))
USED_UP = BudgetExceededError("it is used up")
REFUSALS = (
    LimitReachedError("later"),
    USED_UP,
    StateError("its budget cannot be told"),
    ModelsFailedError("r", {"cheap": ProviderServerError("500"), "dear": USED_UP}),
    ModelsFailedError("r", {"of routes": ModelsFailedError("s", {"dear": USED_UP})}),
)


@attrs.define(eq=False)
class Refusing(Model):
    """A model that some may not ask, which is told to them after a while.

    With `begun`, a stream is refused to them behind so many of its events.
    """

    inner: Fake
    refusal: Exception
    wait_s: float
    begun: int = 0

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def _check(self) -> None:
        poor = PRESENT.get().caller == POOR  # as it is when it is asked
        await trio.sleep(self.wait_s)
        if poor:
            raise self.refusal

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        if not self.begun:
            await self._check()
        elif PRESENT.get().caller == POOR:
            stopped = Fake(self.inner.events[: self.begun], self.refusal)
            async with stopped.stream(request) as reply:
                yield reply
            return
        async with self.inner.stream(request) as reply:
            yield reply

    async def complete(self, request: ChatRequest) -> Completion:
        await self._check()
        return await self.inner.complete(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        await self._check()
        return await self.inner.embed(request)


@attrs.define(eq=False)
class Nursed(Model):
    """Refuses so many, and then answers out of a context that holds a nursery."""

    refuses: int
    capabilities: Capabilities = Capabilities()

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        if self.refuses:
            self.refuses -= 1
            await trio.sleep(1)
            raise LimitReachedError("not you")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0.1)
            async with Fake().stream(request) as reply:
                yield reply
        # left in the order of its entry, or Trio complains


@given(schedules(), st.integers(0, 6), st.integers(1, 4), st.booleans())
def test_no_context_of_a_model_is_entered_under_the_scopes_of_a_reader(
    schedule: int, refuses: int, askers: int, crowded: bool
) -> None:
    """A reader has scopes around `receive`, which it leaves before the answer."""
    shared = CoalescedModel(Nursed(refuses), name="m", rule=CoalesceRule(flights_max=1))
    answers = list[int]()
    refused = 0

    async def asks(engine: trio.Nursery, number: int, question: ChatRequest) -> None:
        nonlocal refused
        PRESENT.set(Payer(engine, f"r{number}"))
        said = 0
        try:
            async with shared.stream(question) as reply:
                while True:
                    with trio.fail_after(30):
                        batch = await reply.receive()
                    if not batch:
                        break
                    said += len(batch)
        except LimitReachedError:
            refused += 1
        else:
            answers.append(said)

    async def main() -> None:
        async with trio.open_nursery() as engine:
            async with trio.open_nursery() as nursery:
                for number in range(askers):
                    nursery.start_soon(asks, engine, number, ASKED)
                if crowded:
                    await trio.sleep(1)  # when the first is refused, and all ask anew
                    nursery.start_soon(asks, engine, askers, ask("something else"))
            await trio.testing.wait_all_tasks_blocked()
            assert not engine.child_tasks, "a flight outlives its waiters"

    virtual(main, schedule=schedule)
    assert shared.flights == 0
    assert answers == [len(Fake().events)] * len(answers)
    assert len(answers) + refused == askers + crowded
    assert refused <= refuses


@attrs.frozen
class Asker:
    """One who asks at a time, and may or may not."""

    at_s: float
    poor: bool
    whole: bool
    cancelled_s: float


askers = st.builds(
    Asker,
    st.sampled_from([0.0, 0.0, 0.5, 2.0]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.4, 1e5, 1e5, 1e5]),
)


@given(
    schedules(),
    st.lists(askers, min_size=1, max_size=6),
    st.sampled_from(REFUSALS),
    st.sampled_from([(0.0, 0), (1.0, 0), (0.0, 1), (0.0, 3)]),
    st.booleans(),
)
@example(0, [Asker(0.0, True, False, 1e5), Asker(0.5, False, False, 1e5)], USED_UP, (0.0, 3), False)
def test_a_refusal_is_told_to_those_who_are_refused_and_all_others_are_answered(
    schedule: int,
    drawn: list[Asker],
    refusal: Exception,
    when: tuple[float, int],
    vectors: bool,
) -> None:
    """Whoever has heard a part of what was stopped then is told that it was cut, and not why."""
    model = Fake(saying(3))
    shared = CoalescedModel(Refusing(model, refusal, *when), name="m")
    answered, refused, cut = list[Asker](), list[Asker](), dict[Asker, str]()

    async def asks(asker: Asker, engine: trio.Nursery, run_id: str) -> None:
        PRESENT.set(Payer(engine, run_id, POOR if asker.poor else ACME))
        await trio.sleep(asker.at_s)
        with trio.move_on_after(asker.cancelled_s):
            try:
                if vectors:
                    assert len((await shared.embed(TEXTS)).vectors) == 2
                elif asker.whole:
                    assert (await shared.complete(ASKED)) == Completion.of(model.events)
                else:
                    said = [event for batch in await read(shared) for event in batch]
                    assert Completion.of(said).text == Completion.of(model.events).text
            except type(refusal):
                refused.append(asker)
            except TruncatedStreamError as error:
                cut[asker] = error.code
            else:
                answered.append(asker)

    async def main() -> None:
        async with trio.open_nursery() as engine, trio.open_nursery() as nursery:
            for at, each in enumerate(drawn):
                nursery.start_soon(asks, each, engine, f"r{at}")

    virtual(main, schedule=schedule)
    assert shared.flights == 0
    assert model.running == 0
    assert all(asker.poor for asker in refused)
    assert all(when[1] and not vectors and not asker.whole for asker in cut)
    assert {*cut.values()} <= {"coalesce"}
    stayed = [asker for asker in drawn if not asker.poor and asker.cancelled_s > 1]
    assert all(asker in [*answered, *cut] for asker in stayed)
