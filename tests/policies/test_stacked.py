"""All policies around one model, stacked as a deployment stacks them, whatever happens to them.

The state is slow, fails before and after each change, and its clock jumps; the model fails at each
of its waits; callers leave at any time. At the end, nobody holds anything of anybody.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import attrs
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.accounts import Caller, KeyAllowance, Usage
from orchestra.answers import Completion
from orchestra.errors import (
    ModelConnectionError,
    ModelError,
    ProviderServerError,
    RateLimitError,
    StateError,
)
from orchestra.policies.account import PRESENT
from orchestra.policies.batches import BatchSize
from orchestra.policies.caching.cache import CacheRule
from orchestra.policies.caching.cached import CachedModel
from orchestra.policies.flights.coalesce import CoalesceRule
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.policies.guard import GuardedModel
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.limits.allowance import ENCODING as LIMITS
from orchestra.policies.limits.allowance import CallerRules, OwnerLimits, OwnerState
from orchestra.policies.limits.callers import CallerLimits
from orchestra.policies.limits.limit import CallLimits
from orchestra.policies.limits.limited import CallerLimitedModel
from orchestra.policies.limits.shared import SharedLimits
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.policies.money.ledger import ENCODING as MONEY
from orchestra.policies.money.ledger import HOLD_KEY, Ledger
from orchestra.policies.money.prices import Price
from orchestra.policies.money.purse import Purse
from orchestra.policies.outbox import Outbox
from orchestra.protocols import Change, Model, ModelReply, State, WhenStateFails
from orchestra.rankings import Ranked, Ranking, RerankRequest
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
    Vector,
)
from tests.policies.waiters import Payer, ask

T = TypeVar("T")
OUTAGE_S = 40.0
"""How long the state is bad; after it, it takes what could not be told before."""
FAULTS: Sequence[Callable[[], Exception]] = (
    lambda: ProviderServerError("no"),
    lambda: RateLimitError("no", retry_after_s=1.0),
    lambda: ModelConnectionError("no", code="connect"),
    lambda: ZeroDivisionError("a bug"),
)
ERRORS = (ModelError, StateError, ZeroDivisionError)
JUMPS_S = (0.0, 0.0, 5.0, -5.0, 500.0, -500.0, 5000.0, -5000.0)


@attrs.define(eq=False)
class BadState(State):
    drawn: random.Random
    fails: bool
    jumps: bool
    ahead_s: float = 40_000.0
    inner: MemoryState = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.inner = MemoryState(now_s=lambda: trio.current_time() + self.ahead_s)

    async def change(
        self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
    ) -> T:
        await self._suffer()
        found = await self.inner.change(keys, decide)
        await self._suffer()
        return found

    async def recall(self, key: str) -> bytes | None:
        await self._suffer()
        return await self.inner.recall(key)

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        await self._suffer()
        await self.inner.remember(key, data, ttl_s=ttl_s)

    async def _suffer(self) -> None:
        if trio.current_time() > OUTAGE_S:
            await trio.lowlevel.checkpoint()
            return
        await trio.sleep(self.drawn.choice([0, 0, 0, 0, 0, 0.01, 0.04, 0.06, 0.3]))
        if self.jumps and self.drawn.random() < 0.1:
            self.ahead_s = 40_000 + self.drawn.choice(JUMPS_S)
        if self.fails and self.drawn.random() < 0.15:
            raise StateError("the store is gone; start it")


@attrs.define(eq=False)
class BadModel(Model):
    """Its words are numbers, so that one which is lost or comes twice is seen."""

    drawn: random.Random
    running: int = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(output_tokens_max=self.drawn.choice([None, 50]))

    async def suffer(self) -> None:
        await trio.sleep(self.drawn.choice([0, 0, 0.1, 0.5, 1, 3]))
        if self.drawn.random() < 0.06:
            fault = self.drawn.choice(FAULTS)
            raise fault()

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        self.running += 1
        try:
            await self.suffer()
            yield BadReply(self, self.events())
        finally:
            self.running -= 1

    async def complete(self, request: ChatRequest) -> Completion:
        async with self.stream(request):
            return Completion.of([*self.events(), Stopped(StopReason.END)])

    async def embed(self, request: EmbedRequest) -> Embeddings:
        async with self.stream(ask("")):
            vectors = tuple(Vector.of([len(each)]) for each in request.texts)
            return Embeddings(vectors, self.drawn.choice([None, Usage(9)]))

    async def rerank(self, request: RerankRequest) -> Ranking:
        async with self.stream(ask("")):
            return attrs.evolve(RANKING, searches=self.drawn.choice([None, 2]))

    def events(self) -> list[ModelEvent]:
        said: list[ModelEvent] = []
        number = 0
        for _ in range(self.drawn.randint(1, 6)):
            count = self.drawn.choice([1, 1, 2, 40])
            said.append(TextDelta("".join(f"{number + at} " for at in range(count))))
            number += count
        if self.drawn.random() < 0.7:
            said.insert(self.drawn.randint(0, len(said)), UsageReport(Usage(20, 1)))
            said.append(UsageReport(Usage(20, 7)))
        return [*said, Stopped(StopReason.END)] if self.drawn.random() < 0.9 else said


@attrs.define(eq=False)
class BadReply:
    model: BadModel
    left: list[ModelEvent]

    async def receive(self) -> tuple[ModelEvent, ...]:
        await self.model.suffer()
        batch = tuple(self.left[: self.model.drawn.randint(1, 3)])
        del self.left[: len(batch)]
        return batch


RANKING = Ranking((Ranked(1, 0.5),))
CALLERS = [
    Caller("acme", "ada"),
    Caller("acme", "bob"),
    Caller("", "eve"),
    Caller("acme", "ada", "k", KeyAllowance(concurrency=1, day_nanodollars=3000)),
]


@attrs.frozen
class Visit:
    at_s: float
    caller: Caller
    run: int
    words: str
    act: str
    batches: int
    pause_s: float
    leaves_s: float
    output_tokens_max: int | None


visits = st.builds(
    Visit,
    st.integers(0, 16).map(lambda halves: halves / 2),
    st.sampled_from(CALLERS),
    st.integers(0, 3),
    st.sampled_from(["a", "a", "b"]),
    st.sampled_from(["stream", "stream", "complete", "embed", "rerank"]),
    st.sampled_from([0, 1, 2, 1000, 1000]),
    st.sampled_from([0.0, 0.0, 0.5, 3.0]),
    st.sampled_from([0.0, 0.01, 0.05, 0.1, 1.0, 2.5, 6.0, 1e5, 1e5, 1e5]),
    st.sampled_from([None, 10]),
)
per_minute = st.sampled_from([None, None, 20, 300, 30_000])
at_once = st.sampled_from([None, 1, 2])
money = st.sampled_from([None, 3000, 10**7, 10**7])


@attrs.frozen
class Setting:
    """What stands around the model, and what the state does: None if it answers at once."""

    state: tuple[bool, bool] | None
    cached: bool
    coalesced: bool
    limits: CallLimits
    of_callers: OwnerLimits
    day: int | None
    of_run: int | None
    when: WhenStateFails

    @property
    def is_exact(self) -> bool:
        """Whether it is always known if a change of the state was made, and when."""
        return self.state in {None, (False, False)}


stacks = st.builds(
    Setting,
    st.none() | st.tuples(st.booleans(), st.booleans()),
    st.booleans(),
    st.booleans(),
    st.builds(
        CallLimits,
        concurrency=at_once,
        tokens_per_minute=per_minute,
        requests_per_minute=per_minute,
        adaptive=st.booleans(),
        wait_max_s=st.sampled_from([None, 2.0, 30.0]),
        shared=st.booleans(),
    ),
    st.builds(
        OwnerLimits,
        concurrency=at_once,
        tokens_per_minute=per_minute,
        requests_per_minute=per_minute,
        wait_max_s=st.sampled_from([2.0, 30.0]),
    ),
    money,
    st.sampled_from([None, None, 2000]),
    st.sampled_from(["open", "closed"]),
)


class Stack:
    """The policies, in their order; what each of them keeps is at hand."""

    def __init__(self, setting: Setting, drawn: random.Random) -> None:
        self.bad = None if setting.state is None else BadState(drawn, *setting.state)
        self.kept = MemoryState(now_s=trio.current_time) if self.bad is None else self.bad.inner
        state: State = self.bad or self.kept
        day, limits = setting.day, setting.limits
        budgets = Budgets(
            request=setting.of_run, user=SpendingLimits(day=day, when_state_fails=setting.when)
        )
        self.purse = Purse(budgets, state)
        limited = (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency)
        shared = SharedLimits("m", limits, state) if limits.shared and any(limited) else None
        self.asked = BadModel(drawn)
        self.guarded = GuardedModel(
            self.asked,
            name="m",
            breaker=BreakerRule(calls_min=3, open_s=1.0, slow_s=2.0),
            limits=limits,
            batch_size=BatchSize(1),
            price=Price(input=10**6, output=3 * 10**6, search=10**6),
            purse=self.purse,
            draw=drawn.random,
            shared=shared,
        )
        rules = CallerRules(user=setting.of_callers, organisation=OwnerLimits(concurrency=2))
        self.callers = CallerLimits(rules, state)
        self.outboxes: list[Outbox[Any]] = [self.purse.outbox, self.callers.outbox]
        self.outboxes += [] if shared is None else [shared.outbox]
        self.model: Model = CallerLimitedModel(self.guarded, self.callers)
        self.coalesced: CoalescedModel | None = None
        if setting.coalesced:
            rule = CoalesceRule(held_bytes=400, lag_s=1.0)
            self.model = self.coalesced = CoalescedModel(self.model, name="m", rule=rule)
        if setting.cached:
            rule_ = CacheRule(ttl_s=1000.0)
            self.model = CachedModel(self.model, state, rule_, name="m", identity="m")

    async def holds_nothing(self) -> None:
        """When all have left, and the state has been well for a minute."""
        load = self.guarded.state().load
        left = self.asked.running, load.running, load.waiting, self.callers.waiting
        assert left == (0, 0, 0, 0)
        assert self.coalesced is None or self.coalesced.flights == 0
        assert not any(each.undelivered for each in self.outboxes)
        assert not any(each.held for each in self.purse._of_runs.values())
        keys = list(self.kept._entries)
        assert not any(key.startswith(HOLD_KEY) for key in keys)
        for key in keys:
            if key.startswith("limits:"):
                (owner,) = await self.kept.look([key], _first_of_limits, LIMITS)
                assert owner is None or not owner.leases
                meters = [] if owner is None else [owner.requests, owner.tokens]
                assert not any(each.open for each in meters if each is not None)

    async def spent(self) -> int:
        """What the users have spent; nothing may be held of it."""
        spent = 0
        for key in list(self.kept._entries):
            if key.startswith("budget:user:"):
                (ledger,) = await self.kept.look([key], _first_of_money, MONEY)
                assert isinstance(ledger, Ledger | None)
                now_s = self.kept._now_s()
                assert ledger is None or not any(until_s > now_s for until_s in ledger.holds)
                spent += 0 if ledger is None else ledger.spent[0]
        return spent


def _first_of_limits(kept: Sequence[OwnerState | None], _: float) -> list[OwnerState | None]:
    return list(kept)


def _first_of_money(kept: Sequence[object], _: float) -> list[object]:
    return list(kept)


async def visited(model: Model, visit: Visit) -> None:
    request = attrs.evolve(ask(visit.words), output_tokens_max=visit.output_tokens_max)
    if visit.act == "embed":
        texts = (visit.words, "bb", "ccc")
        found = await model.embed(EmbedRequest(texts))
        assert found.vectors == tuple(Vector.of([len(each)]) for each in texts)
        return
    if visit.act == "rerank":
        ranking = await model.rerank(RerankRequest(visit.words, ("bb", "ccc"), 1))
        assert ranking.results == RANKING.results
        return
    said = ""
    if visit.act == "complete":
        said = (await model.complete(request)).text
    else:
        async with model.stream(request) as reply:
            for _ in range(visit.batches):
                if not (batch := await reply.receive()):
                    break
                said += "".join(each.text for each in batch if isinstance(each, TextDelta))
                await trio.sleep(visit.pause_s)
    assert said.split() == [str(at) for at in range(len(said.split()))]


@settings(max_examples=150)
@given(st.lists(visits, min_size=1, max_size=9), stacks, schedules(), st.integers(0, 2**32))
def test_whatever_happens_all_is_given_back_and_paid_once_and_every_word_comes_once(
    drawn: list[Visit], setting: Setting, schedule: int, seed: int
) -> None:
    async def main() -> None:
        stack = Stack(setting, random.Random(seed))
        runs = [BadReply(stack.asked, []) for _ in range(4)]  # any objects that are kept weakly
        payers: list[Payer] = []

        async def come(visit: Visit, payer: Payer) -> None:
            await trio.sleep(visit.at_s)
            PRESENT.set(payer)
            with trio.move_on_after(visit.leaves_s), suppress(*ERRORS):
                await visited(stack.model, visit)

        async with trio.open_nursery() as engine:
            async with trio.open_nursery() as nursery:
                for visit in drawn:
                    payer = Payer(engine, f"r{visit.run}", visit.caller, run_key=runs[visit.run])
                    payers.append(payer)
                    nursery.start_soon(come, visit, payer)
            await trio.testing.wait_all_tasks_blocked()
            assert stack.asked.running == 0, "nobody waits for its answer"
            await trio.sleep(OUTAGE_S + 60)
            assert not engine.child_tasks
        await stack.holds_nothing()
        spent = await stack.spent()
        paid = sum(each.usage.cost_nanodollars for each in payers if each.usage is not None)
        assert not (setting.is_exact and setting.day) or spent == paid

    virtual(main, schedule=schedule)
