"""Guarded models: a model like any other, and whatever it holds is given back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Completion
from orchestra.errors import (
    BreakerOpenError,
    CapabilityError,
    InvalidRequestError,
    LimitReachedError,
    ModelError,
    OverloadedError,
    ProviderServerError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.policies.batches import BatchSize
from orchestra.policies.gate import GuardState
from orchestra.policies.guard import GuardedModel
from orchestra.policies.health.breaker import BreakerRule, Closed, HalfOpen, Open
from orchestra.policies.limits.limit import CallLimits, Load
from orchestra.policies.requests.tokens import OUTPUT_TOKENS
from orchestra.protocols import Model, ModelReply
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Message,
    ModelEvent,
    ReasoningDelta,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
    Vector,
)
from tests.policies.limits.test_gcra import paid_until

ASKED = ChatRequest((Message("user", "x" * 30),))
INPUT = 14
"""Tokens of that, as estimated: ten of its text, and four of the turn."""
WHOLE = (TextDelta("hello "), TextDelta("there"), Stopped(StopReason.END))


@attrs.define(eq=False)
class Fake(Model):
    """Answers with `events` a second after each other, unless `fault` tells of an error."""

    events: tuple[ModelEvent, ...] = WHOLE
    fault: Callable[[float], Exception | None] = lambda _: None
    at_entry: bool = True
    begins_s: float = 0.0
    asked: int = 0
    running: int = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(tools=True)

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        self.asked += 1
        self.running += 1
        try:
            await trio.sleep(self.begins_s)
            if self.at_entry:
                self.check()
            yield FakeReply(self, list(self.events))
        finally:
            self.running -= 1

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.asked += 1
        await trio.sleep(self.begins_s)
        self.check()
        return Embeddings(tuple(Vector.of([1.0]) for _ in request.texts), Usage(70, 0))

    def check(self) -> None:
        if error := self.fault(trio.current_time()):
            raise error


@attrs.define(eq=False)
class FakeReply:
    model: Fake
    left: list[ModelEvent]

    async def receive(self) -> tuple[ModelEvent, ...]:
        await trio.sleep(1)
        if not self.model.at_entry and len(self.left) < len(self.model.events):
            self.model.check()
        return (self.left.pop(0),) if self.left else ()


def guarded(model: Model, rule: BreakerRule | None = None, **limits: float | None) -> GuardedModel:
    return GuardedModel(
        model,
        name="m",
        breaker=rule or BreakerRule(),
        draw=lambda: 0.0,
        limits=CallLimits(**limits),  # type: ignore[arg-type]
    )


async def stream(model: Model, most: int = 100) -> list[ModelEvent]:
    heard: list[ModelEvent] = []
    async with model.stream(ASKED) as reply:
        while len(heard) < most and (batch := await reply.receive()):
            heard += batch
    return heard


async def complete(model: Model) -> Completion:
    return await model.complete(ASKED)


async def embed(model: Model) -> Embeddings:
    return await model.embed(EmbedRequest(("a", "b")))


ASKS = [stream, complete, embed]


@attrs.frozen
class Setting:
    """What calls are made against: an outage, a limit, a nervous breaker."""

    at_entry: bool
    outage: tuple[int, int]
    concurrency: int | None
    calls_min: int


def down(since_s: float, until_s: float) -> Callable[[float], Exception | None]:
    def fault(now_s: float) -> Exception | None:
        return ProviderServerError("broken") if since_s <= now_s < until_s else None

    return fault


@given(
    st.lists(
        st.tuples(
            st.sampled_from(ASKS),
            st.integers(0, 40).map(lambda n: n / 4),
            st.integers(0, 24).map(lambda n: n / 4) | st.just(1e4),
            st.integers(0, 4),
        ),
        max_size=12,
    ),
    st.builds(
        Setting,
        at_entry=st.booleans(),
        outage=st.tuples(st.integers(0, 10), st.integers(0, 10)),
        concurrency=st.none() | st.integers(1, 3),
        calls_min=st.integers(1, 4),
    ),
    schedules(),
)
def test_everything_is_given_back_and_a_cancellation_never_counts(
    calls: list[tuple[Callable[..., object], float, float, int]],
    setting: Setting,
    schedule: int,
) -> None:
    """On success, failure, early leave and cancellation, wherever it comes."""
    failures = 0
    most = 0

    async def main() -> tuple[GuardState, Fake]:
        fake = Fake(fault=down(*sorted(setting.outage)), at_entry=setting.at_entry)
        rule = BreakerRule(calls_min=setting.calls_min, failure_rate=1.0, window_s=1000)
        model = guarded(fake, rule, concurrency=setting.concurrency, tokens_per_minute=10**6)

        async def one(ask: Callable[..., object], at_s: float, left_s: float, heard: int) -> None:
            nonlocal failures
            await trio.sleep(at_s)
            with trio.move_on_after(left_s):
                try:
                    await (stream(model, heard) if ask is stream else ask(model))  # type: ignore[misc]
                except (BreakerOpenError, LimitReachedError):
                    pass
                except ModelError:
                    failures += 1

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, fake.running)
                await trio.sleep(0.125)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            async with trio.open_nursery() as inner:
                for call in calls:
                    inner.start_soon(one, *call)
            nursery.cancel_scope.cancel()
        tokens = model._gate.limiter._tokens
        assert tokens is not None
        assert not tokens.state.open
        return model.state(), fake

    state, fake = virtual(main, schedule=schedule)
    assert state.load == Load(0, 0)
    assert fake.running == 0
    assert most <= (setting.concurrency or 12)
    if failures == 0:
        assert isinstance(state.breaker, Closed)
        assert state.breaker.failures == 0
    if isinstance(state.breaker, Closed) and fake.asked and failures < setting.calls_min:
        assert state.breaker.failures == failures


@given(
    st.lists(st.integers(1, 8).map(lambda n: n / 4), min_size=1, max_size=10),
    st.booleans(),
    schedules(),
)
def test_an_outage_of_a_minute_costs_no_more_than_the_probes(
    pauses: list[float], at_entry: bool, schedule: int
) -> None:
    """One caller after another, also where the error comes in the middle of the answer."""
    asked_in_outage = 0

    async def main() -> int:
        nonlocal asked_in_outage
        fake = Fake(fault=down(10, 70), at_entry=at_entry)
        model = guarded(fake)
        opened = False

        async def one() -> None:
            nonlocal asked_in_outage, opened
            before = fake.asked
            with suppress(ModelError):
                await stream(model)
            state = model.state().breaker
            opened = opened or isinstance(state, Open | HalfOpen)
            if opened and fake.asked > before and 10 <= trio.current_time() < 70:
                asked_in_outage += 1

        for number in range(10_000):
            await one()
            await trio.sleep(pauses[number % len(pauses)])
            if trio.current_time() > 70:
                break
        await trio.sleep(60)
        for _ in range(2):
            assert len(await stream(model)) == 3
        assert isinstance(model.state().breaker, Closed)
        return fake.asked

    virtual(main, schedule=schedule)
    assert asked_in_outage <= 1 + 6  # the call that opened it, and three rounds of two


def test_it_is_a_model_like_any_other() -> None:
    async def main() -> None:
        fake = Fake()
        model = guarded(fake, concurrency=1)
        assert tuple(await stream(model)) == WHOLE
        assert (await complete(model)).text == "hello there"
        assert len((await embed(model)).vectors) == 2
        assert model.capabilities.tools
        assert model.state() == GuardState(Closed(3, 0, 0), Load(0, 0))

    virtual(main)


@pytest.mark.parametrize("ask", ASKS)
def test_an_open_breaker_refuses_at_once_and_says_until_when(ask: Callable[..., object]) -> None:
    async def main() -> None:
        fake = Fake(fault=down(0, 100))
        model = guarded(fake, BreakerRule(calls_min=3))
        for _ in range(3):
            with pytest.raises(ProviderServerError):
                await ask(model)  # type: ignore[misc]
        assert model.state().breaker == Open(5.0)
        await trio.sleep(2)
        with pytest.raises(BreakerOpenError) as caught:
            await ask(model)  # type: ignore[misc]
        assert (fake.asked, trio.current_time()) == (3, 2.0)
        assert caught.value.retryable
        assert caught.value.retry_after_s == 3.0
        assert "so nothing was sent; retry in 3 s" in str(caught.value)

    virtual(main)


def test_an_open_breaker_never_waits_for_a_slot() -> None:
    """Neither who comes then, nor who waits when it opens."""

    async def main() -> list[tuple[str, float]]:
        fake = Fake(fault=down(0, 100), begins_s=4)
        model = guarded(fake, BreakerRule(calls_min=1), concurrency=1)
        ended: list[tuple[str, float]] = []

        async def one() -> None:
            try:
                await stream(model)
            except ModelError as error:
                ended.append((type(error).__name__, trio.current_time()))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)
            await trio.sleep(5)
            nursery.start_soon(one)
        assert fake.asked == 1
        return ended

    assert virtual(main) == [("ProviderServerError", 4.0)] + [("BreakerOpenError", 4.0)] * 3 + [
        ("BreakerOpenError", 5.0)
    ]


def test_a_probe_that_is_cancelled_in_the_queue_is_given_back() -> None:
    async def main() -> None:
        model = guarded(
            Fake(fault=down(0, 1)),
            BreakerRule(calls_min=1),
            requests_per_minute=1,
            wait_max_s=None,
        )
        with pytest.raises(ProviderServerError):
            await stream(model)
        await trio.sleep(5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream, model)
            await trio.sleep(1)
            assert model.state() == GuardState(HalfOpen(1, 0), Load(0, 1))
            nursery.cancel_scope.cancel()
        assert model.state() == GuardState(HalfOpen(2, 0), Load(0, 0))

    virtual(main)


def test_an_error_in_the_middle_is_a_failure_and_the_callers_fault_is_none() -> None:
    async def main() -> None:
        cut = Fake(fault=lambda _: TruncatedStreamError("cut"), at_entry=False)
        model = guarded(cut)
        with pytest.raises(TruncatedStreamError):
            await stream(model)
        assert model.state().breaker == Closed(1, 1, 0)
        model = guarded(Fake(fault=lambda _: InvalidRequestError("no")))
        with pytest.raises(InvalidRequestError):
            await stream(model)
        assert model.state().breaker == Closed(0, 0, 0)

    virtual(main)


async def reading_badly(model: Model) -> None:
    async with model.stream(ASKED) as reply:
        await reply.receive()
        raise ZeroDivisionError("the reader's own")


def test_a_readers_own_error_and_an_early_leave_say_nothing() -> None:
    async def main() -> None:
        model = guarded(Fake())
        with pytest.raises(ZeroDivisionError):
            await reading_badly(model)
        await stream(model, 1)
        assert model.state() == GuardState(Closed(0, 0, 0), Load(0, 0))

    virtual(main)


def test_a_long_answer_is_not_slow_and_a_late_one_is() -> None:
    async def main() -> None:
        rule = BreakerRule(window_s=1000)
        long = guarded(Fake(events=(*WHOLE[:1] * 100, *WHOLE)), rule)
        await stream(long, 1000)
        await complete(long)
        assert long.state().breaker == Closed(2, 0, 0)
        late = guarded(Fake(begins_s=60), rule)
        await stream(late)
        await embed(late)
        assert late.state().breaker == Closed(2, 0, 2)
        never = guarded(Fake(begins_s=60), BreakerRule(slow_s=None))
        await stream(never)
        assert never.state().breaker == Closed(1, 0, 0)

    virtual(main)


@pytest.mark.parametrize(("patience_s", "slow"), [(4, 0), (6, 1), (60, 1)])
def test_a_model_that_says_nothing_until_its_callers_give_up_is_slow(
    patience_s: float, slow: int
) -> None:
    """That they give up says nothing; but that they waited in vain for so long does."""

    async def main() -> None:
        rule = BreakerRule(slow_s=5, window_s=1000)
        for fake in (Fake(begins_s=61), Fake(begins_s=61, at_entry=False)):
            model = guarded(fake, rule)
            with trio.move_on_after(patience_s):
                await stream(model)
            assert model.state().breaker == Closed(slow, 0, slow)
        spoke = guarded(Fake(), rule)
        await stream(spoke, 1)  # which has begun in time
        whole = guarded(Fake(begins_s=61), rule)
        with trio.move_on_after(patience_s):
            await complete(whole)  # whose length says nothing
        assert spoke.state().breaker == whole.state().breaker == Closed(0, 0, 0)

    virtual(main)


def test_waiting_for_a_slot_does_not_make_a_call_slow() -> None:
    async def main() -> None:
        model = guarded(Fake(begins_s=5), BreakerRule(slow_s=8), concurrency=1)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(stream, model)
        assert model.state().breaker == Closed(3, 0, 0)

    virtual(main)


USAGE = UsageReport(Usage(20, 5))


@pytest.mark.parametrize(
    ("events", "most", "fault", "taken"),
    [
        ((*WHOLE, USAGE), 9, None, 25),
        (WHOLE, 9, None, INPUT + 4),  # nobody counted: eleven bytes are four tokens
        ((ReasoningDelta("Hm, hm"), *WHOLE), 9, None, INPUT + 6),  # what it thinks, too
        ((USAGE, *WHOLE), 2, None, 25),  # left early, counted so far
        ((UsageReport(Usage(20, 0)), *WHOLE), 1, ProviderServerError("x"), 20),
        (WHOLE, 0, None, INPUT),  # left before anything was said
        (WHOLE, 9, RateLimitError("x"), INPUT + 2),  # cut after "hello "
    ],
)
def test_what_a_call_took_is_settled(
    events: tuple[ModelEvent, ...], most: int, fault: Exception | None, taken: int
) -> None:
    async def main() -> int:
        fake = Fake(events, fault=lambda _: fault, at_entry=False)
        model = guarded(fake, tokens_per_minute=10**6)
        tokens = model._gate.limiter._tokens
        assert tokens is not None
        with suppress(ModelError):
            async with model.stream(ASKED) as reply:
                before = paid_until(tokens.state, tokens.rate)
                for _ in range(most):
                    await reply.receive()
        back = before - paid_until(tokens.state, tokens.rate)
        settled = (INPUT + OUTPUT_TOKENS) * 60_000_000_000 - back
        return settled // 60_000_000_000

    assert virtual(main) == taken


def test_texts_that_are_embedded_in_several_requests_count_as_so_many() -> None:
    async def main() -> float:
        model = GuardedModel(
            Fake(),
            name="m",
            limits=CallLimits(requests_per_minute=60, tokens_per_minute=10**6),
            batch_size=BatchSize(2),
        )
        assert model.state().breaker is None
        for _ in range(2):
            await model.embed(EmbedRequest(("a",) * 12))  # six requests, which are a burst
        return trio.current_time()

    assert virtual(main) == pytest.approx(60 * 6 / 55)


@attrs.define(eq=False)
class Embedding(Fake):
    """Gives a text's own number, a second later; and knows how many requests were at once."""

    fails_at: str = ""
    running: int = 0
    most: int = 0
    sent: list[tuple[str, ...]] = attrs.field(factory=list)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.sent.append(request.texts)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(1)
        finally:
            self.running -= 1
        if self.fails_at in request.texts:
            raise OverloadedError(f"not {self.fails_at}")
        vectors = tuple(Vector.of([float(text)]) for text in request.texts)
        return Embeddings(vectors, Usage(len(vectors), 0), "m")


TEN = EmbedRequest(tuple(map(str, range(10))))


@pytest.mark.parametrize(("concurrency", "at_once"), [(None, 4), (2, 2), (100, 4)])
def test_many_texts_go_in_a_few_requests_at_once_and_no_more_than_the_limit(
    concurrency: int | None, at_once: int
) -> None:
    async def main() -> float:
        fake = Embedding()
        limits = CallLimits(concurrency=concurrency)
        model = GuardedModel(fake, name="m", limits=limits, batch_size=BatchSize(1))
        found = await model.embed(TEN)
        assert found.vectors == tuple(Vector.of([float(at)]) for at in range(10))
        assert found.usage is not None
        assert found.usage.input_tokens == 10
        assert fake.most == at_once
        assert model.state().load.running == 0
        return trio.current_time()

    assert virtual(main) == -(-10 // at_once)


def test_a_sum_in_which_the_usage_of_a_request_is_missing_is_not_exact() -> None:
    class Forgetful(Embedding):
        async def embed(self, request: EmbedRequest) -> Embeddings:
            found = await super().embed(request)
            return attrs.evolve(found, usage=None) if request.texts[0] in self.fails_at else found

    async def main() -> None:
        for silent, certainty in (("", Certainty.EXACT), ("35", Certainty.PARTIAL)):
            fake = Forgetful(fails_at=silent)
            found = await GuardedModel(fake, name="m", batch_size=BatchSize(1)).embed(TEN)
            assert found.usage is not None
            assert found.usage.input_tokens == 10 - len(silent)
            assert found.usage.certainty is certainty

    virtual(main)


def test_one_request_that_fails_ends_the_others_with_an_error_that_is_no_group() -> None:
    async def main() -> None:
        fake = Embedding(fails_at="2")
        model = GuardedModel(fake, name="m", batch_size=BatchSize(1))
        with pytest.raises(OverloadedError, match="not 2"):
            await model.embed(TEN)
        assert fake.running == model.state().load.running == 0
        assert len(fake.sent) < 10

    virtual(main)


def test_a_model_that_has_to_show_that_it_is_well_again_is_asked_one_by_one() -> None:
    async def main() -> None:
        fake = Embedding(fails_at="0")
        rule = BreakerRule(calls_min=1, probes=1)
        model = GuardedModel(fake, name="m", breaker=rule, batch_size=BatchSize(1))
        with pytest.raises(OverloadedError):
            await model.embed(EmbedRequest(("0",)))
        await trio.sleep(rule.open_s * 2)
        fake.fails_at, fake.most = "", 0
        assert len((await model.embed(TEN)).vectors) == 10
        assert fake.most == 1

    virtual(main)


def test_without_a_breaker_and_a_word_it_is_the_model_itself() -> None:
    class Plain(Model):
        def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
            raise CapabilityError("it cannot")

    async def main() -> None:
        model = GuardedModel(Plain(), name="m")
        for ask in ASKS:
            with pytest.raises(CapabilityError):
                await ask(model)  # type: ignore[operator]
        assert model.state() == GuardState(None, Load(0, 0))

    virtual(main)


@pytest.mark.parametrize("ask", [complete, embed])
def test_an_answer_that_is_none_is_an_error_and_everything_is_given_back(
    ask: Callable[[Model], Awaitable[object]],
) -> None:
    """As of a class of a project's own that forgets to return what it has made."""

    class Forgetful(Fake):
        async def complete(self, request: ChatRequest) -> Completion:
            return None  # type: ignore[return-value]

        async def embed(self, request: EmbedRequest) -> Embeddings:
            return None  # type: ignore[return-value]

    async def main() -> GuardState:
        model = guarded(Forgetful(), BreakerRule(calls_min=9), concurrency=1, wait_max_s=0)
        for _ in range(2):
            with pytest.raises(AttributeError):
                await ask(model)
        return model.state()

    assert virtual(main) == GuardState(Closed(2, 2, 0), Load(0, 0))


@pytest.mark.parametrize("ask", ASKS)
def test_an_error_has_the_name_of_its_model_and_keeps_the_one_that_it_has(
    ask: Callable[[Model], Awaitable[object]],
) -> None:
    error = ProviderServerError("broken", provider="openai", model="gpt")
    inner = guarded(Fake(fault=lambda _: error))
    for model in (inner, GuardedModel(inner, name="outer")):
        with pytest.raises(ProviderServerError) as caught:
            virtual(partial(ask, model))
        assert caught.value.name == inner.name
