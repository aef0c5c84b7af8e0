"""Cached models, in virtual time: a hit is the first answer, and what is broken is never one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Stream, pipeline
from orchestra.accounts import Caller, Usage
from orchestra.answers import Completion
from orchestra.engine.engine import open_engine
from orchestra.errors import InvalidRequestError, MalformedStreamError, ModelError, StateError
from orchestra.events import Event, RunFinished, StepCached
from orchestra.policies.account import NOBODY, PRESENT
from orchestra.policies.caching.cache import CacheRule
from orchestra.policies.caching.cached import CachedModel
from orchestra.policies.caching.store import STATE_WAIT_S
from orchestra.protocols import Change, Model, ModelReply, State
from orchestra.steps.generate import generate
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import moments, schedules
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Message,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
    Vector,
)
from tests.policies.drawn_answers import broken_answers, whole_answers

T = TypeVar("T")
HELLO = ChatRequest((Message("user", "hello"),))
ANSWER = (
    TextDelta("hel"),
    TextDelta("lo"),
    UsageReport(Usage(7, 2, cost_nanodollars=50)),
    Stopped(StopReason.END),
)


@attrs.define(eq=False)
class Says(Model):
    """Says these events, a second after each other; fails after some of them, if it is to."""

    events: tuple[ModelEvent, ...]
    error: ModelError | None = None
    fails_after: int = 10**6
    asked: list[ChatRequest | EmbedRequest] = attrs.field(factory=list)
    running: int = 0

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        self.asked.append(request)
        self.running += 1
        try:
            yield SaysReply(self, list(self.events))
        finally:
            self.running -= 1

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.asked.append(request)
        await trio.sleep(1)
        vectors = (Vector.of([float(len(text)), 0.5]) for text in request.texts)
        return Embeddings(tuple(vectors), Usage(len(request.texts)), "small")


@attrs.define(eq=False)
class SaysReply:
    model: Says
    left: list[ModelEvent]

    async def receive(self) -> tuple[ModelEvent, ...]:
        await trio.sleep(1)
        said = len(self.model.events) - len(self.left)
        if self.model.error is not None and said >= self.model.fails_after:
            raise self.model.error.with_traceback(None)
        return (self.left.pop(0),) if self.left else ()


def in_mode(word: str, request: ChatRequest = HELLO) -> ChatRequest:
    return attrs.evolve(request, extras={"orchestra": {"cache": word}})


def memory() -> MemoryState:
    return MemoryState(now_s=trio.current_time)


def cached(model: Model, state: State | None = None, **rule: Any) -> CachedModel:
    return CachedModel(
        model, state or memory(), CacheRule(**rule), name="fast", identity="provider/model"
    )


async def heard(model: Model, request: ChatRequest = HELLO) -> list[ModelEvent]:
    events: list[ModelEvent] = []
    async with model.stream(request) as reply:
        while batch := await reply.receive():
            events += batch
    return events


@attrs.define
class Notes:
    """An account of a tenant that keeps what is recorded."""

    caller: Caller = attrs.field(factory=Caller)
    run_id: str = ""
    run_key: object = None
    step: str = ""
    notes: list[tuple[object, ...]] = attrs.field(factory=list)

    used = NOBODY.used
    spawn = NOBODY.spawn

    def record(self, note: type[object], *fields: object) -> None:
        self.notes.append((note, *fields))


@given(whole_answers(), st.booleans(), st.booleans())
def test_a_hit_is_what_the_first_caller_got(
    said: tuple[ModelEvent, ...], streams_first: bool, streams_then: bool
) -> None:
    """Streamed or not, whichever came first; at once, and at no cost."""

    async def ask(model: Model, streams: bool) -> Completion:
        return Completion.of(await heard(model)) if streams else await model.complete(HELLO)

    async def main() -> None:
        fake = Says(said)
        model = cached(fake)
        first = await ask(model, streams_first)
        assert first == Completion.of(said)
        now_s = trio.current_time()
        again = await ask(model, streams_then)
        assert again == attrs.evolve(first, usage=Usage())
        assert trio.current_time() == now_s
        assert len(fake.asked) == 1

    virtual(main)


@given(whole_answers() | broken_answers(), st.data(), schedules(), st.booleans())
def test_only_a_whole_answer_is_ever_kept(
    said: tuple[ModelEvent, ...], data: st.DataObject, schedule: int, streams: bool
) -> None:
    """Broken by an error anywhere, cancelled anywhere, or left anywhere, it is no answer."""
    fault = data.draw(st.sampled_from(["error", "cancelled", "left", "none"]))
    after = data.draw(st.integers(0, len(said)))
    cancel_s = data.draw(moments(len(said) + 1.0))

    async def ask(model: Model) -> None:
        if not streams:
            await model.complete(HELLO)
            return
        async with model.stream(HELLO) as reply:
            for _ in range(after if fault == "left" else len(said) + 1):
                await reply.receive()

    async def main() -> None:
        state = memory()
        fake = Says(said, ModelError("it broke") if fault == "error" else None, after)
        model = cached(fake, state)
        with suppress(ModelError), trio.move_on_after(cancel_s if fault == "cancelled" else 1e9):
            await ask(model)
        assert fake.running == 0
        for bytes_, _ in state._remembered.values():  # whatever is there is the whole answer
            assert bytes_
        healthy = Says(ANSWER)
        again = Completion.of(await heard(cached(healthy, state)))
        if not healthy.asked:
            assert fault != "error"
            assert again == attrs.evolve(Completion.of(said), usage=Usage())
            assert again.stopped.reason not in (StopReason.LENGTH, StopReason.CONTENT_FILTER)
            assert not again.refusal
            assert fault == "none" or not streams or fault == "cancelled"

    virtual(main, schedule=schedule)


@pytest.mark.parametrize("error", [None, ModelError("it broke")])
def test_an_end_that_was_not_told_is_none(error: ModelError | None) -> None:
    """Left, or broken, between the model's last word and the end of its stream."""

    async def main() -> None:
        fake = Says(ANSWER, error, len(ANSWER))
        model = cached(fake)
        with suppress(ModelError):
            async with model.stream(HELLO) as reply:
                for _ in range(len(ANSWER) + (error is not None)):
                    await reply.receive()
        fake.error = None
        await model.complete(HELLO)
        assert len(fake.asked) == 2

    virtual(main)


@given(whole_answers())
def test_an_answer_that_broke_off_is_asked_for_again(said: tuple[ModelEvent, ...]) -> None:
    """Each prefix of it, told as if it had ended, or cut off by an error."""

    async def main() -> None:
        state = memory()
        stop = next(at for at, event in enumerate(said) if isinstance(event, Stopped))
        for cut in range(stop + 1):
            for error in (None, ModelError("it broke")):
                fake = Says(said[:cut], error, cut)
                with suppress(ModelError):
                    await heard(cached(fake, state))
                assert len(fake.asked) == 1
        assert not state._remembered

    virtual(main)


@given(st.lists(st.sampled_from(["", "a", "b"]), min_size=2, max_size=6))
def test_no_tenant_is_given_what_another_was_answered(callers: list[str]) -> None:
    async def main() -> None:
        state = memory()
        seen: set[str] = set()
        for name in callers:
            PRESENT.set(Notes(Caller(organisation=name)))
            fake = Says((TextDelta(f"for {name}"), Stopped(StopReason.END)))
            said = await cached(fake, state).complete(HELLO)
            assert said.text == f"for {name}"
            assert bool(fake.asked) == (name not in seen)
            seen.add(name)

    virtual(main)


def test_an_answer_is_as_old_as_it_may_be() -> None:
    async def main() -> None:
        fake = Says(ANSWER)
        model = cached(fake, ttl_s=100.0)
        await model.complete(HELLO)
        await trio.sleep(99.9)
        await model.complete(HELLO)
        assert len(fake.asked) == 1
        await trio.sleep(0.1)
        await model.complete(HELLO)
        assert len(fake.asked) == 2

    virtual(main)


@pytest.mark.parametrize("streams", [True, False])
def test_a_refresh_replaces_and_off_touches_nothing(streams: bool) -> None:
    async def text(model: Model, request: ChatRequest) -> str:
        if streams:
            return Completion.of(await heard(model, request)).text
        return (await model.complete(request)).text

    async def main() -> None:
        fake = Says(ANSWER)
        model = cached(fake)
        assert await text(model, HELLO) == "hello"
        fake.events = (TextDelta("new"), Stopped(StopReason.END))
        assert await text(model, in_mode("off")) == "new"
        assert await text(model, HELLO) == "hello"
        assert await text(model, in_mode("refresh")) == "new"
        fake.events = ()
        assert await text(model, HELLO) == "new"
        assert fake.asked == [HELLO, in_mode("off"), in_mode("refresh")]
        with pytest.raises(InvalidRequestError):
            await text(model, in_mode("perhaps"))

    virtual(main)


def test_what_has_no_key_is_asked_and_not_kept() -> None:
    async def main() -> None:
        fake = Says(ANSWER)
        model = cached(fake, state := memory())
        odd = attrs.evolve(HELLO, extras={"x": {"y": object()}})
        assert Completion.of(await heard(model, odd)).text == "hello"
        assert (await model.complete(odd)).text == "hello"
        assert not state._remembered

    virtual(main)


@attrs.define(eq=False)
class Away(State):
    """A state that is gone, or does not answer."""

    hangs: bool = False
    asked: int = 0

    async def change(
        self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
    ) -> T:
        raise NotImplementedError("the cache does not change entries")

    async def recall(self, key: str) -> bytes | None:
        await self.fail()
        return None

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        await self.fail()

    async def fail(self) -> None:
        self.asked += 1
        if self.hangs:
            await trio.sleep_forever()
        raise StateError("the store is gone")


@pytest.mark.parametrize("hangs", [True, False])
def test_a_state_that_is_away_is_a_miss(
    hangs: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At most its time is lost, each time that it is asked; and it is told once."""

    async def main() -> None:
        fake, state = Says(ANSWER), Away(hangs)
        model = cached(fake, state)
        for _ in range(2):
            assert Completion.of(await heard(model)) == Completion.of(ANSWER)
            assert (await model.complete(HELLO)).text == "hello"
            assert (await model.embed(EmbedRequest(("a",)))).vectors == (Vector.of([1.0, 0.5]),)
        assert state.asked == 12
        lost_s = 12 * STATE_WAIT_S if hangs else 0.0
        assert trio.current_time() == pytest.approx(2 * (2 * 5 + 1) + lost_s)

    with caplog.at_level(logging.WARNING, "orchestra.cache"):
        virtual(main)
    (told,) = caplog.messages
    assert ("did not answer within 0.05 s" if hangs else "the store is gone") in told


@given(st.binary() | st.just(b"\x02" + b"\0" * 20))
def test_any_bytes_in_the_state_are_a_miss(junk: bytes) -> None:
    async def main() -> None:
        state = memory()
        await cached(Says(ANSWER), state).complete(HELLO)
        await cached(Says(ANSWER), state).embed(EmbedRequest(("a",)))
        for key in [*state._remembered]:
            await state.remember(key, junk, ttl_s=60)
        fake = Says(ANSWER)
        assert (await cached(fake, state).complete(HELLO)).text == "hello"
        await cached(fake, state).embed(EmbedRequest(("a",)))
        assert len(fake.asked) == 2

    virtual(main)


@given(st.lists(st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=4), min_size=1, max_size=4))
def test_only_texts_that_are_new_are_embedded(batches: list[list[str]]) -> None:
    async def main() -> None:
        fake = Says(())
        model = cached(fake)
        seen: set[str] = set()
        for texts in batches:
            fake.asked.clear()
            found = await model.embed(EmbedRequest(tuple(texts)))
            assert found.vectors == tuple(Vector.of([float(len(text)), 0.5]) for text in texts)
            new = tuple(dict.fromkeys(text for text in texts if text not in seen))
            assert fake.asked == ([EmbedRequest(new)] if new else [])
            assert found.usage == Usage(len(new))
            seen |= {*texts}

    virtual(main)


def test_an_embedding_is_refreshed_and_left_alone() -> None:
    async def main() -> None:
        fake, notes = Says(()), Notes()
        PRESENT.set(notes)
        model = CachedModel(cached(fake), memory(), CacheRule(), name="route", identity="route")
        for word in ("use", "use", "off", "refresh"):
            request = EmbedRequest(("a",), extras={"orchestra": {"cache": word}})
            assert (await model.embed(request)).model == "small"
        assert [each.extras for each in fake.asked] == [
            {},
            {"orchestra": {"cache": "off"}},
            {"orchestra": {"cache": "refresh"}},
        ]
        assert notes.notes == [(StepCached, "route")]

    virtual(main)


class Short(Says):
    async def embed(self, request: EmbedRequest) -> Embeddings:
        return Embeddings(())


def test_too_few_vectors_are_an_error() -> None:
    async def main() -> None:
        with pytest.raises(MalformedStreamError, match="0 vectors for 1 texts"):
            await cached(Short(())).embed(EmbedRequest(("a",)))

    virtual(main)


@pipeline
def answer(question: str) -> Stream[str]:
    return generate(question, model="fast")


def test_a_hit_is_in_the_journal_and_costs_nothing() -> None:
    async def main() -> list[list[Event]]:
        world = World(models={"fast": cached(Says(ANSWER))})
        journals = []
        async with open_engine(world) as engine:
            for _ in range(2):
                run = engine.start(answer, {"question": "hello?"})
                assert await run.result() == "hello"
                journals.append(list(run.journal.kept))
        return journals

    first, second = virtual(main)
    assert not [event for event in first if isinstance(event, StepCached)]
    (hit,) = [event for event in second if isinstance(event, StepCached)]
    assert (hit.step, hit.model, hit.similarity) == ("generate", "fast", 1.0)
    usages = [event.usage for event in (first[-1], second[-1]) if isinstance(event, RunFinished)]
    assert usages == [Usage(7, 2, cost_nanodollars=50), Usage()]


def test_what_it_cost_once_is_told_beside() -> None:
    async def main() -> None:
        model = cached(Says(ANSWER))
        await heard(model)
        (report,) = [each for each in await heard(model) if isinstance(each, UsageReport)]
        once = {"input_tokens": 7, "output_tokens": 2, "cost_nanodollars": 50}
        assert report.usage == Usage()
        told = report.raw["cached"]
        assert {name: told[name] for name in once} == once
        assert model.capabilities == Capabilities()

    virtual(main)
