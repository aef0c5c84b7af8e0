"""Coalesced models: one call for all who ask the same, whoever comes, goes, or reads slowly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Stream, pipeline
from orchestra.accounts import Caller, Usage
from orchestra.engine.engine import open_engine
from orchestra.errors import (
    ContentFilterError,
    InvalidRequestError,
    ModelConnectionError,
    ModelError,
    ModelsFailedError,
    ModelTimeoutError,
    ProviderServerError,
)
from orchestra.events import Note, RunFinished, StepCoalesced
from orchestra.policies.account import NOBODY, PRESENT
from orchestra.policies.coalesce import CoalesceRule
from orchestra.policies.coalesced import EVENT_BYTES, CoalescedModel
from orchestra.protocols import Account, Embedder, Model, ModelReply
from orchestra.steps.generate import generate
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Message,
    ModelEvent,
    Purpose,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
    Vector,
)

ASKED = ChatRequest((Message("user", "Why is the sky blue?"),))
ACME = Caller("acme", "ada")


def saying(count: int) -> tuple[ModelEvent, ...]:
    """Texts, the usage so far after each, and the end."""
    said: list[ModelEvent] = []
    for at in range(count):
        used = Usage(100, at + 1, cost_nanodollars=1000 + 7 * at)
        said += [TextDelta(f"{at} "), UsageReport(used)]
    return (*said, Stopped(StopReason.END))


@attrs.define(eq=False)
class Fake(Model):
    """Says its events a second after each other, then fails if it has an error."""

    events: tuple[ModelEvent, ...] = saying(3)
    error: Exception | None = None
    settles: bool = False
    """Whether it writes its usage down by itself when it is left, as a budget does."""
    asked: int = 0
    running: int = 0
    said: int = 0
    reported: list[Usage] = attrs.field(factory=list)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(tools=True)

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        self.asked += 1
        self.running += 1
        self.reported.append(Usage())
        account, number = PRESENT.get(), self.asked - 1
        try:
            yield FakeReply(self, list(self.events), number)
        finally:
            self.running -= 1
            if self.settles:
                account.used(self.reported[number])

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.asked += 1
        await trio.sleep(1)
        self.reported.append(Usage(7))
        return Embeddings(tuple(Vector.of([len(each)]) for each in request.texts), Usage(7))


@attrs.define(eq=False)
class FakeReply:
    model: Fake
    left: list[ModelEvent]
    number: int

    async def receive(self) -> tuple[ModelEvent, ...]:
        await trio.sleep(1)
        if not self.left:
            if self.model.error is not None:
                raise self.model.error
            return ()
        event = self.left.pop(0)
        self.model.said += 1
        if isinstance(event, UsageReport):
            self.model.reported[self.number] = event.usage
            if self.model.settles:
                event = UsageReport(attrs.evolve(event.usage, settled=True))
        return (event,)


@attrs.define(eq=False)
class Payer:
    """An account in a nursery; what it is told, it keeps."""

    nursery: trio.Nursery
    run_id: str = "r"
    caller: Caller = ACME
    usage: Usage | None = None
    notes: list[tuple[object, ...]] = attrs.field(factory=list)

    def used(self, usage: Usage) -> None:
        if not usage.settled:
            self.usage = usage if self.usage is None else self.usage + usage

    def record(self, note: type[Note], *fields: object) -> None:
        self.notes.append((note, *fields))

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        self.nursery.start_soon(task, name=name)


@attrs.frozen
class Visit:
    """One who asks at a time, reads with pauses, and leaves after so many batches, or at a time."""

    at_s: float
    pause_s: float = 0.0
    batches: int = 1000
    cancelled_s: float = 1e5
    whole: bool = False
    """It asks for a completion."""


visits = st.builds(
    Visit,
    st.integers(0, 10).map(float),
    st.sampled_from([0.0, 0.0, 0.5, 3.0]),
    st.sampled_from([0, 1, 2, 1000, 1000]),
    st.sampled_from([0.0, 1.0, 2.5, 6.0, 1e5, 1e5]),
    st.booleans(),
)


@attrs.define(eq=False)
class Heard:
    payer: Payer
    events: list[ModelEvent] = attrs.field(factory=list)
    ended: bool = False
    error: ModelError | None = None


async def visit(shared: CoalescedModel, visit: Visit, heard: Heard) -> None:
    PRESENT.set(heard.payer)
    await trio.sleep(visit.at_s)
    with trio.move_on_after(visit.cancelled_s):
        try:
            if visit.whole:
                await shared.complete(ASKED)
                heard.ended = True
                return
            async with shared.stream(ASKED) as reply:
                for _ in range(visit.batches):
                    if not (batch := await reply.receive()):
                        heard.ended = True
                        break
                    heard.events += batch
                    await trio.sleep(visit.pause_s)
        except ModelError as error:
            heard.error = error


async def all_of(shared: CoalescedModel, drawn: Sequence[Visit]) -> list[Heard]:
    """What each of them heard, each in a run of its own."""
    async with trio.open_nursery() as engine:
        heard = [Heard(Payer(engine, f"r{at}")) for at in range(len(drawn))]
        async with trio.open_nursery() as nursery:
            for each, one in zip(drawn, heard, strict=True):
                nursery.start_soon(visit, shared, each, one)
        await trio.testing.wait_all_tasks_blocked()
        assert not engine.child_tasks, "a flight outlives its waiters"
    assert shared.flights == 0
    return heard


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
    heard = virtual(lambda: all_of(shared, drawn), schedule=schedule)
    assert model.running == 0
    assert model.asked == sum(
        (StepCoalesced, "m", 1.0) not in one.payer.notes
        for one, each in zip(heard, drawn, strict=True)
        if each.cancelled_s > 0  # or it never asked
    )
    for one, each in zip(heard, drawn, strict=True):
        assert tuple(one.events) == model.events[: len(one.events)]
        if one.ended and not each.whole:
            assert tuple(one.events) == model.events
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


@given(schedules(), st.integers(1, 40))
def test_a_slow_reader_holds_others_back_only_so_long(schedule: int, count: int) -> None:
    rule = CoalesceRule(held_bytes=3 * EVENT_BYTES, lag_s=20)
    shared = CoalescedModel(Fake(saying(count)), name="m", rule=rule)
    ended: list[float] = []

    async def main() -> None:
        async with trio.open_nursery() as engine, trio.open_nursery() as nursery:
            slow, fast = Heard(Payer(engine, "slow")), Heard(Payer(engine, "fast"))
            nursery.start_soon(visit, shared, Visit(0, pause_s=1000), slow)
            await visit(shared, Visit(0), fast)
            assert fast.ended
            ended.append(trio.current_time())

    virtual(main, schedule=schedule)
    assert ended[0] <= len(saying(count)) + 1 + 20


def run(main: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async def within() -> None:
        async with trio.open_nursery() as engine:
            await main(engine)

    virtual(within)


def as_(account: Account) -> None:
    PRESENT.set(account)


async def read(model: Model, request: ChatRequest = ASKED) -> list[tuple[ModelEvent, ...]]:
    batches = []
    async with model.stream(request) as reply:
        while batch := await reply.receive():
            batches.append(batch)
    return batches


def test_a_late_joiner_has_what_was_said_in_one_batch() -> None:
    async def main(engine: trio.Nursery) -> None:
        shared = CoalescedModel(Fake(saying(2)), name="m")
        first, second = Payer(engine, "first"), Payer(engine, "second")

        async def late() -> None:
            as_(second)
            await trio.sleep(3.5)
            batches = await read(shared)
            assert [len(batch) for batch in batches] == [3, 1, 1]
            assert trio.current_time() == 6

        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            as_(first)
            await read(shared)
        assert first.notes == []
        assert second.notes == [(StepCoalesced, "m", 1.0)]
        assert first.usage == Usage(50, 1, cost_nanodollars=504)
        assert second.usage == Usage(50, 1, cost_nanodollars=503)
        assert shared.capabilities == Capabilities(tools=True)

    run(main)


def test_who_leaves_pays_for_what_was_used_until_then() -> None:
    async def main(engine: trio.Nursery) -> None:
        shared = CoalescedModel(Fake(saying(2)), name="m")
        heard = [Heard(Payer(engine, name)) for name in "ab"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit, shared, Visit(0, cancelled_s=2.5), heard[0])
            nursery.start_soon(visit, shared, Visit(0), heard[1])
        paid = [each.payer.usage for each in heard]
        assert [each and each.cost_nanodollars for each in paid] == [500, 507]
        assert [each and each.input_tokens for each in paid] == [50, 50]

    run(main)


def test_an_error_is_each_waiters_own_and_nobody_joins_it() -> None:
    cause = ValueError("inside")
    for error in (
        ProviderServerError("it broke", status=500),
        ContentFilterError("no"),
        ModelTimeoutError("slow", code="idle_s"),
        ModelsFailedError("all", {"a": ProviderServerError("x")}),
        ValueError("a bug"),
    ):
        error.__cause__ = cause
        found: list[Exception] = []

        async def main(engine: trio.Nursery) -> None:
            model = Fake((), error)
            shared = CoalescedModel(model, name="m")

            async def ask(name: str) -> None:
                as_(Payer(engine, name))
                with pytest.raises(type(error)) as caught:
                    await read(shared)
                caught.value.add_note(name)
                found.append(caught.value)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, "a")
                nursery.start_soon(ask, "b")
            assert model.asked == 1
            await ask("c")
            assert model.asked == 2

        run(main)
        assert all(str(each) == str(error) for each in found)
        assert all(each.__cause__ is cause for each in found)
        if isinstance(error, ModelError):
            assert all(len(each.__notes__) == 1 for each in found)
            assert all(vars(each).keys() >= vars(error).keys() for each in found)


async def together(shared: Model, *asked: tuple[Account, ChatRequest]) -> None:
    async def ask(account: Account, request: ChatRequest) -> None:
        as_(account)
        await read(shared, request)

    async with trio.open_nursery() as nursery:
        for each in asked:
            nursery.start_soon(ask, *each)
            await trio.sleep(0.1)


def test_who_shares_with_whom() -> None:
    def saying_(coalesce: bool) -> ChatRequest:
        return attrs.evolve(ASKED, extras={"orchestra": {"coalesce": coalesce}})

    async def main(engine: trio.Nursery) -> None:
        async def calls(*asked: tuple[Account, ChatRequest]) -> int:
            model = Fake()
            await together(CoalescedModel(model, name="m"), *asked)
            assert model.running == 0
            return model.asked

        one, two = Payer(engine, "1"), Payer(engine, "2")
        other = Payer(engine, "3", Caller("other"))
        assert await calls((one, ASKED), (two, ASKED)) == 1
        assert await calls((one, ASKED), (other, ASKED)) == 2
        assert await calls((one, ASKED), (one, ASKED)) == 2
        assert await calls((one, ASKED), (one, ASKED), (two, ASKED), (two, ASKED)) == 2
        assert await calls((one, ASKED), (one, saying_(True))) == 1
        assert await calls((one, ASKED), (two, saying_(False))) == 2
        assert await calls((one, saying_(False)), (two, ASKED)) == 2
        assert await calls((NOBODY, ASKED), (NOBODY, ASKED)) == 2
        odd = attrs.evolve(ASKED, extras={"openai": {"x": object()}})
        assert await calls((one, odd), (two, odd)) == 2
        wrong = attrs.evolve(ASKED, extras={"orchestra": {"coalesce": 1}})
        with pytest.raises(InvalidRequestError):
            CoalescedModel(Fake(), name="m").stream(wrong)

    run(main)


def test_beyond_its_bounds_a_call_is_not_shared() -> None:
    async def main(engine: trio.Nursery) -> None:
        payers = [Payer(engine, str(at)) for at in range(4)]
        model = Fake()
        shared = CoalescedModel(model, name="m", rule=CoalesceRule(waiters_max=2))
        await together(shared, *((payer, ASKED) for payer in payers))
        assert model.asked == 2
        model = Fake()
        shared = CoalescedModel(model, name="m", rule=CoalesceRule(waiters_max=1, flights_max=1))
        await together(shared, *((payer, ASKED) for payer in payers))
        assert model.asked == 4
        model = Fake()
        shared = CoalescedModel(model, name="m", rule=CoalesceRule(flights_max=0))
        as_(payers[0])
        assert len(await read(shared)) == 7
        found = await shared.embed(EmbedRequest(("a",)))
        assert found.vectors == (Vector.of([1]),)
        own = attrs.evolve(ASKED, extras={"orchestra": {"coalesce": False}})
        assert (await shared.complete(own)).text == "0 1 2 "

    run(main)


def test_vectors_are_shared_too() -> None:
    async def main(engine: trio.Nursery) -> None:
        model = Fake()
        shared = CoalescedModel(model, name="m")
        payers = [Payer(engine, str(at)) for at in range(2)]
        found: list[Embeddings] = []

        async def ask(payer: Payer) -> None:
            as_(payer)
            found.append(await shared.embed(EmbedRequest(("a", "bcd"))))

        async with trio.open_nursery() as nursery:
            for payer in payers:
                nursery.start_soon(ask, payer)
        assert model.asked == 1
        assert [each.vectors for each in found] == [(Vector.of([1]), Vector.of([3]))] * 2
        assert all(each.usage is not None and each.usage.settled for each in found)
        assert sorted(p.usage.input_tokens for p in payers if p.usage) == [3, 4]
        as_(NOBODY)
        alone = await shared.embed(EmbedRequest(("a",)))
        assert alone.usage is not None
        assert not alone.usage.settled

    run(main)


def test_where_the_engine_is_closed_those_of_another_are_told() -> None:
    async def main(other: trio.Nursery) -> None:
        shared = CoalescedModel(Fake(), name="m")

        async def stays() -> None:
            as_(Payer(other, "stays"))
            await trio.sleep(1)
            with pytest.raises(ModelConnectionError, match="engine"):
                await read(shared)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stays)
            async with trio.open_nursery() as engine:
                with trio.move_on_after(2):
                    as_(Payer(engine, "goes"))
                    await read(shared)
                engine.cancel_scope.cancel()

    run(main)


def test_a_flight_that_cannot_begin_is_forgotten() -> None:
    async def main(engine: trio.Nursery) -> None:
        @attrs.define(eq=False)
        class Closed(Payer):
            def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
                raise RuntimeError(f"no {name}")

        shared = CoalescedModel(Fake(), name="m")
        as_(Closed(engine))
        with pytest.raises(RuntimeError, match="no a shared call of 'm'"):
            await read(shared)
        assert shared.flights == 0

    run(main)


@attrs.define(eq=False)
class Letters(Embedder):
    """Texts are as alike as their first two letters say."""

    takes_s: float = 0.0
    error: Exception | None = None
    texts: int = 0

    @property
    def dimensions(self) -> int:
        return 2

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        await trio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        self.texts += len(texts)
        known = {"sk": (1.0, 0.0), "Sk": (0.96, 0.28), "xx": (0.0, 1.0)}
        return [Vector.of(known[text[:2]]) for text in texts]


def ask(text: str) -> ChatRequest:
    return ChatRequest((Message("user", text),))


def test_questions_that_are_alike_share_a_call() -> None:
    async def main(engine: trio.Nursery) -> None:
        payers = [Payer(engine, str(at)) for at in range(5)]
        texts = ("sky?", "Sky!", "xx", "sky?", "Sky")
        asked = list(zip(payers, map(ask, texts), strict=True))
        model, letters = Fake(), Letters()
        rule = CoalesceRule(similarity=0.95)
        await together(CoalescedModel(model, name="m", rule=rule, embedder=letters), *asked)
        assert model.asked == 2
        assert letters.texts == 2 + 1 + 2, "each flight once, no exact hit"
        assert [len(payer.notes) for payer in payers] == [0, 1, 0, 1, 1]
        assert [payers[3].notes, payers[0].notes] == [[(StepCoalesced, "m", 1.0)], []]
        assert payers[1].notes == [(StepCoalesced, "m", pytest.approx(0.96))]
        for embedder in (Letters(takes_s=100), Letters(error=ProviderServerError("it broke"))):
            model = Fake()
            shared = CoalescedModel(model, name="m", rule=rule, embedder=embedder)
            await together(shared, *asked[:2])
            assert model.asked == 2, "it goes on without"

    run(main)


def test_what_begins_or_ends_while_it_is_compared_is_seen() -> None:
    async def main(engine: trio.Nursery) -> None:
        payers = [Payer(engine, str(at)) for at in range(3)]
        rule = CoalesceRule(similarity=0.95)
        model = Fake()
        shared = CoalescedModel(model, name="m", rule=rule, embedder=Letters(takes_s=0.5))
        two = [(payers[1], ask("xx")), (payers[2], ask("xx"))]
        await together(shared, (payers[0], ask("sky?")), *two)
        assert model.asked == 2
        model = Fake((Stopped(StopReason.END),))  # for 2 s
        shared = CoalescedModel(model, name="m", rule=rule, embedder=Letters(takes_s=0.9))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(together, shared, (payers[0], ask("sky?")))
            await trio.sleep(1.5)
            await together(shared, (payers[1], ask("Sky?")))
        assert model.asked == 2

    run(main)


@pipeline
def answer(question: str) -> Stream[str]:
    return generate(question, model="m")


def test_two_runs_of_an_engine_share_a_call_and_its_cost() -> None:
    async def main() -> None:
        model = Fake(saying(3))
        world = World(models={"m": CoalescedModel(model, name="m")})
        async with open_engine(world) as engine:
            runs = [
                engine.start(answer, {"question": "Why?"}, caller=Caller("acme", name))
                for name in ("ada", "bob", "eve")
            ]
            await trio.sleep(2.5)
            runs[0].cancel("it has gone")  # the one that asked first, perhaps
            assert [await each.result() for each in runs[1:]] == ["0 1 2 "] * 2
            ends = [each.journal.kept[-1] for each in runs]
            paid = [each.usage for each in ends]  # type: ignore[union-attr]
            assert sum(each.cost_nanodollars for each in paid if each) == 1014
            assert all(each is not None for each in paid)
            assert isinstance(ends[1], RunFinished)
            notes = [e for each in runs for e in each.journal.kept if isinstance(e, StepCoalesced)]
            assert len(notes) == 2
        assert model.asked == 1

    virtual(main)
