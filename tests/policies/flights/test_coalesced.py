"""Coalesced models: who shares a call with whom, what each of them hears, and what each pays."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from types import FrameType

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Stream, pipeline
from orchestra.accounts import Caller, Usage
from orchestra.answers import Completion
from orchestra.engine.engine import open_engine
from orchestra.errors import (
    BindingError,
    ContentFilterError,
    InvalidRequestError,
    LimitReachedError,
    ModelConnectionError,
    ModelError,
    ModelsFailedError,
    ModelTimeoutError,
    ProviderServerError,
    StateError,
)
from orchestra.events import RunFinished, StepCached, StepCoalesced
from orchestra.policies.account import NOBODY, PRESENT, Account, left_s
from orchestra.policies.flights.coalesce import CoalesceRule
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.policies.flights.flight import Flight
from orchestra.policies.guard import GuardedModel
from orchestra.policies.limits.limit import CallLimits
from orchestra.protocols import Embedder, ModelReply
from orchestra.steps.generate import generate
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    Purpose,
    Stopped,
    StopReason,
    Vector,
)
from tests.policies.waiters import (
    ACME,
    ASKED,
    Fake,
    Heard,
    Payer,
    Visit,
    as_,
    ask,
    read,
    run,
    saying,
    together,
    visit,
)


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


def test_a_stream_that_joins_a_completion_has_all_of_it_at_once() -> None:
    async def main(engine: trio.Nursery) -> None:
        model = Fake(saying(2))
        shared = CoalescedModel(model, name="m")
        payers = [Payer(engine, str(at)) for at in range(3)]
        answers: list[Completion] = []

        async def whole(payer: Payer) -> None:
            as_(payer)
            answers.append(await shared.complete(ASKED))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(whole, payers[0])
            await trio.sleep(0.5)
            nursery.start_soon(whole, payers[1])
            as_(payers[2])
            (batch,) = await read(shared)
            assert trio.current_time() == 6
        assert Completion.of(batch) == answers[0] == Completion.of(saying(2))
        assert answers[0] is answers[1]
        assert model.asked == 1
        assert all(answer.usage is not None and answer.usage.settled for answer in answers)
        costs = [payer.usage.cost_nanodollars for payer in payers if payer.usage]
        assert sorted(costs) == [335, 336, 336]

    run(main)


def test_a_completion_that_joins_a_stream_folds_it() -> None:
    async def main(engine: trio.Nursery) -> None:
        model = Fake(saying(2))
        shared = CoalescedModel(model, name="m")

        async def late() -> None:
            as_(Payer(engine, "late"))
            await trio.sleep(2.5)
            assert await shared.complete(ASKED) == Completion.of(saying(2))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            as_(Payer(engine, "first"))
            await read(shared)
        assert model.asked == 1

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
        error.add_note("at the source")
        found: list[BaseException] = []

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
            assert all(len(each.__notes__) == 2 for each in found)
            assert all(vars(each).keys() >= vars(error).keys() for each in found)


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
            await read(CoalescedModel(Fake(), name="m"), wrong)

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
    gives: int | None = None
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
        return [Vector.of(known[text[:2]]) for text in texts][: self.gives]


def test_questions_that_are_alike_share_a_call() -> None:
    async def main(engine: trio.Nursery) -> None:
        payers = [Payer(engine, str(at)) for at in range(5)]
        texts = ("sky?", "Sky!", "xx", "sky?", "Sky")
        asked = list(zip(payers, map(ask, texts), strict=True))
        model, letters = Fake(), Letters()
        rule = CoalesceRule(similarity=0.95, paraphrases=True)
        await together(CoalescedModel(model, name="m", rule=rule, embedder=letters), *asked)
        assert model.asked == 2
        assert letters.texts == 2 + 1 + 2, "each flight once, no exact hit"
        assert [len(payer.notes) for payer in payers] == [0, 1, 0, 1, 1]
        assert [payers[3].notes, payers[0].notes] == [[(StepCoalesced, "m", 1.0)], []]
        assert payers[1].notes == [(StepCoalesced, "m", pytest.approx(0.96))]
        plain = CoalesceRule(similarity=0.95)
        model = Fake()
        await together(CoalescedModel(model, name="m", rule=plain, embedder=letters), *asked[:3])
        assert (model.asked, letters.texts) == (2, 5 + 2), "a plain word is another question"

    run(main)


@pytest.mark.parametrize(
    ("embedder", "says"),
    [
        (Letters(takes_s=100), "it did not answer within 1 s"),
        (Letters(gives=1), "it returned 1 vectors for 2 texts"),
        (Letters(error=ProviderServerError("it broke")), "it broke"),
        (Letters(error=StateError("its budget cannot be read")), "its budget cannot be read"),
        (Letters(error=BindingError("there is none")), "there is none"),
        (Letters(error=ValueError("a bug")), "a bug"),
    ],
)
def test_without_vectors_each_question_is_a_call_of_its_own(
    embedder: Letters, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever an embedder does, which may be the project's own; and it is told, but once."""

    async def main(engine: trio.Nursery) -> None:
        model, rule = Fake(), CoalesceRule(similarity=0.95, paraphrases=True)
        payers = [Payer(engine, str(at)) for at in range(3)]
        asked = zip(payers, map(ask, ("sky?", "Sky!", "sky! ")), strict=True)
        await together(CoalescedModel(model, name="m", rule=rule, embedder=embedder), *asked)
        assert model.asked == 3

    run(main)
    (told,) = [each.message for each in caplog.records if each.name == "orchestra.policies"]
    assert told.startswith("coalescing of calls of m works without its embedder: ")
    assert says in told


@pytest.mark.parametrize(("runs", "calls"), [("rr", 2), ("rs", 1)])
def test_what_one_run_asks_in_other_words_is_a_call_of_its_own(runs: str, calls: int) -> None:
    """It wants several answers, as where it asks the same twice."""

    async def main(engine: trio.Nursery) -> None:
        model, rule = Fake(), CoalesceRule(similarity=0.95, paraphrases=True)
        payers = [Payer(engine, run_id) for run_id in runs]
        asked = zip(payers, map(ask, ("sky?", "Sky!")), strict=True)
        await together(CoalescedModel(model, name="m", rule=rule, embedder=Letters()), *asked)
        assert model.asked == calls

    run(main)


@pytest.mark.parametrize("compared_max", [1, 2])
def test_a_question_is_compared_with_the_youngest_only(compared_max: int) -> None:
    async def main(engine: trio.Nursery) -> None:
        model = Fake()
        rule = CoalesceRule(similarity=0.95, paraphrases=True, compared_max=compared_max)
        shared = CoalescedModel(model, name="m", rule=rule, embedder=Letters())
        payers = [Payer(engine, str(at)) for at in range(3)]
        asked = zip(payers, map(ask, ("sky?", "xx", "Sky!")), strict=True)
        await together(shared, *asked)
        assert model.asked == (2 if compared_max == 2 else 3)

    run(main)


def test_a_question_looks_at_as_many_calls_as_it_is_compared_with_of_however_many() -> None:
    asked = vars(Flight)["open"].fget.__code__

    async def looked_at(count: int) -> int:
        """How often one more question asks a call whether it is open."""
        rule = CoalesceRule(similarity=0.95)
        shared = CoalescedModel(Fake(), name="m", rule=rule, embedder=Letters())
        looks = 0

        def look(frame: FrameType, event: str, _: object) -> None:
            nonlocal looks
            looks += event == "call" and frame.f_code is asked

        async def one(engine: trio.Nursery, at: int) -> None:
            as_(Payer(engine, str(at)))
            async with shared.stream(ask(f"xx {at}")) as reply:
                await reply.receive()

        async with trio.open_nursery() as engine, trio.open_nursery() as nursery:
            for at in range(count):
                nursery.start_soon(one, engine, at)
            await trio.sleep(0.5)
            assert shared.flights == count
            as_(Payer(engine, "last"))
            answer = shared.stream(ask("xx last"))
            sys.setprofile(look)
            await answer.__aenter__()
            sys.setprofile(None)
            await answer.__aexit__(None, None, None)
            assert shared.flights == count
            nursery.cancel_scope.cancel()
        return looks

    most = CoalesceRule().compared_max + 1  # it joins its own
    assert virtual(partial(looked_at, 100)) == virtual(partial(looked_at, 300)) == most


def test_what_begins_or_ends_while_it_is_compared_is_seen() -> None:
    async def main(engine: trio.Nursery) -> None:
        payers = [Payer(engine, str(at)) for at in range(3)]
        rule = CoalesceRule(similarity=0.95, paraphrases=True)
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


def test_a_flight_calls_on_behalf_of_its_opener_and_all_note_what_happens() -> None:
    async def main(engine: trio.Nursery) -> None:
        seen: list[Account] = []

        class Noting(Fake):
            @asynccontextmanager
            async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
                account = PRESENT.get()
                seen.append(account)
                async with super().stream(request) as reply:
                    yield reply
                account.record(StepCached, "inner", 1.0)

        bob = Caller("acme", "bob")
        payers = [Payer(engine, "1"), Payer(engine, "2", bob)]
        inner = CoalescedModel(Noting(), name="inner")
        outer = CoalescedModel(inner, name="outer")
        await together(outer, *((payer, ASKED) for payer in payers))
        (account,) = seen
        assert account.caller == ACME
        assert account.run_id == "1"
        note = (StepCached, "inner", 1.0)
        assert [payer.notes for payer in payers] == [
            [note],
            [(StepCoalesced, "outer", 1.0), note],
        ]
        paid = [payer.usage for payer in payers]
        assert [each and each.cost_nanodollars for each in paid] == [507, 507]
        account.used(Usage(1, cost_nanodollars=3))  # a count that comes late
        assert sum(p.usage.cost_nanodollars for p in payers if p.usage) == 1017

    run(main)


def test_a_waiters_deadline_ends_its_own_wait() -> None:
    async def main(engine: trio.Nursery) -> None:
        shared = CoalescedModel(Fake(), name="m")
        heard = [Heard(Payer(engine, str(at))) for at in range(2)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit, shared, Visit(0, cancelled_s=1.5), heard[0])
            nursery.start_soon(visit, shared, Visit(1), heard[1])
        assert [each.ended for each in heard] == [False, True]

    run(main)


@given(
    schedules(),
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9) | st.none()), min_size=1, max_size=5),
)
def test_a_call_knows_until_when_it_is_waited_for(
    schedule: int, visits: list[tuple[int, int | None]]
) -> None:
    """Of all who wait now, the last deadline; it is asked at halves of seconds."""
    looks: dict[float, float] = {}

    class Looking(Fake):
        async def complete(self, request: ChatRequest) -> Completion:
            await trio.sleep(0.5)
            while True:
                looks[trio.current_time()] = trio.current_time() + left_s()
                await trio.sleep(1)

    shared = CoalescedModel(Looking(), name="m")

    async def one(engine: trio.Nursery, at: int, after_s: int, for_s: int | None) -> None:
        as_(Payer(engine, str(at)))
        await trio.sleep(after_s)
        with trio.move_on_after(20 if for_s is None else for_s):
            await shared.complete(ASKED)

    async def main() -> None:
        async with trio.open_nursery() as engine, trio.open_nursery() as nursery:
            for at, (after_s, for_s) in enumerate(visits):
                nursery.start_soon(one, engine, at, after_s, for_s)

    virtual(main, schedule=schedule)
    there = [(after_s, after_s + (for_s or 20)) for after_s, for_s in visits]
    assert looks == {
        at_s: max(until_s for since_s, until_s in there if since_s < at_s < until_s)
        for at_s in (tick + 0.5 for tick in range(30))
        if any(since_s < at_s < until_s for since_s, until_s in there)
    }


def test_a_wait_in_vain_is_not_begun_inside_of_a_shared_call_either() -> None:
    async def main(engine: trio.Nursery) -> None:
        limits = CallLimits(requests_per_minute=1, wait_max_s=None)
        shared = CoalescedModel(GuardedModel(Fake(), name="m", limits=limits), name="m")
        as_(Payer(engine, "1"))
        await read(shared)
        before_s = trio.current_time()
        as_(Payer(engine, "2"))
        with trio.fail_after(20), pytest.raises(LimitReachedError, match="its deadline in 20 s"):
            await read(shared)
        assert trio.current_time() == before_s

    run(main)


def test_a_deadline_that_moves_with_what_is_said_does_not_end_a_shared_call() -> None:
    """A limit on the first chunk, as of `Policy(first_chunk_s=...)`, is none on all of it."""

    async def main(engine: trio.Nursery) -> None:
        as_(Payer(engine))
        said = list[ModelEvent]()
        with trio.CancelScope(deadline=trio.current_time() + 1.5) as first:
            async with CoalescedModel(Fake(), name="m").stream(ASKED) as reply:
                while batch := await reply.receive():
                    first.deadline = inf
                    said += batch
        assert tuple(said) == Fake().events

    run(main)
