"""`relay`: what a model says reaches whoever asked, whole, in any order, and cut where it is cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.engine.engine import open_engine
from orchestra.errors import (
    CapabilityError,
    InvalidRequestError,
    ModelError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.events import Delta, RunFailed, RunFinished
from orchestra.graph.nodes import Call
from orchestra.graph.pipelines import Pipeline
from orchestra.logprobs import Logprobs, TokenLogprob
from orchestra.policies.caching.cache import CacheRule
from orchestra.policies.caching.cached import CachedModel
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.protocols import Embedder, Model, ModelReply
from orchestra.server.runs.relay import RELAYS, relay, relay_vectors, relay_whole
from orchestra.steps.relay import ChoiceEvents
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    FilePart,
    Message,
    ModelEvent,
    ReasoningDelta,
    Stopped,
    StopReason,
    TextDelta,
    Tool,
    ToolCallDelta,
    UsageReport,
    Vector,
)

ASKED = ChatRequest((Message("user", "Hi"),))
END = Stopped(StopReason.END)
Script = tuple[tuple[float, ModelEvent], ...]
delays = st.sampled_from([0.0, 0.1, 0.2])
pieces: st.SearchStrategy[ModelEvent] = st.sampled_from(
    [TextDelta("a"), TextDelta(""), ReasoningDelta("b"), TextDelta("c")]
)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    said: list[ModelEvent] = draw(st.lists(pieces, max_size=4))
    usage = UsageReport(Usage(draw(st.integers(0, 9)), draw(st.integers(0, 9))))
    return tuple((draw(delays), event) for event in (*said, usage, END))


class Turns(Model):
    """A model whose calls are answered by one script after the other; it counts those left."""

    def __init__(self, turns: Sequence[ScriptedModel], can: Capabilities | None = None) -> None:
        self._turns = iter(turns)
        self._can = can or Capabilities()
        self.open = 0

    @property
    def capabilities(self) -> Capabilities:
        return self._can

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        self.open += 1
        try:
            async with next(self._turns).stream(request) as reply:
                yield reply
        finally:
            self.open -= 1


def ask(
    model: Model,
    choices: int,
    pipeline: Pipeline[..., Any] = relay,
    schedule: int = 0,
    request: ChatRequest = ASKED,
) -> tuple[list[Any], RunFinished]:
    """The chunks of a run, and its last event. Raises what it failed with."""

    async def main() -> tuple[list[Any], RunFinished]:
        async with open_engine(World(models={"m": model})) as engine:
            inputs = {"request": request, "model": "m", "choices": choices}
            run = engine.start(pipeline, inputs)
            await run.result()
            last = run.journal.kept[-1]
            assert isinstance(last, RunFinished)
            return [e.chunk for e in run.journal.kept if isinstance(e, Delta)], last

    return virtual(main, schedule=schedule)


def by_choice(chunks: Sequence[ChoiceEvents]) -> Mapping[int, list[ModelEvent]]:
    found: dict[int, list[ModelEvent]] = {}
    for said in chunks:
        found.setdefault(said.choice, []).extend(said.events)
    return found


@given(st.lists(scripts(), min_size=1, max_size=4), st.integers(0, 99))
def test_each_of_several_answers_is_what_it_would_be_alone(
    answers: list[Script], schedule: int
) -> None:
    """In whatever order they come; and all that they consumed is in the account, once."""
    alone = [[event for _, event in script] for script in answers]
    model = Turns([ScriptedModel(script) for script in answers])
    chunks, last = ask(model, len(answers), schedule=schedule)
    heard = by_choice(chunks)
    assert sorted(map(repr, heard.values())) == sorted(map(repr, alone))
    assert sorted(heard) == list(range(len(answers)))
    spent = [event.usage for events in alone for event in events if isinstance(event, UsageReport)]
    assert last.usage == sum(spent[1:], spent[0])
    whole, last = ask(Turns([*map(ScriptedModel, answers)]), len(answers), relay_whole, schedule)
    assert whole == []
    assert sorted(map(repr, last.result)) == sorted(repr(Completion.of(each)) for each in alone)
    assert last.usage == sum(spent[1:], spent[0])


class Numbered(Model):
    """A model that says another number each time that it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        del request
        self.asked += 1
        script = ((0.1, TextDelta(f"answer {self.asked}")), (0.0, END))
        async with ScriptedModel(script).stream(ASKED) as reply:
            yield reply


def texts(chunks: Sequence[ChoiceEvents]) -> list[str]:
    heard = sorted(by_choice(chunks).items())
    return ["".join(e.text for e in events if isinstance(e, TextDelta)) for _, events in heard]


def test_several_answers_of_a_cache_are_several() -> None:
    """The cache knows each by its number: asked for again, they are the same, in their order."""
    model, state = Numbered(), MemoryState()
    cached = CachedModel(model, state, CacheRule(ttl_s=9.0), name="m", identity="m")
    (alone,) = texts(ask(cached, 1)[0])
    three = texts(ask(cached, 3)[0])
    assert three[0] == alone
    assert (len(set(three)), model.asked) == (3, 3)
    assert texts(ask(cached, 3)[0]) == three
    whole = ask(cached, 2, relay_whole)[1].result
    assert [answer.text for answer in whole] == three[:2]
    off = attrs.evolve(ASKED, extras={"orchestra": {"cache": "off"}})
    assert not set(texts(ask(cached, 2, request=off)[0])) & set(three)


def test_equal_requests_for_several_answers_share_them_one_by_one() -> None:
    model = Numbered()
    shared = CoalescedModel(model, name="m")

    async def main() -> list[list[str]]:
        async with open_engine(World(models={"m": shared})) as engine:
            inputs = {"request": ASKED, "model": "m", "choices": 3}
            runs = [engine.start(relay, inputs) for _ in range(2)]
            for run in runs:
                await run.result()
            kept = [run.journal.kept for run in runs]
            return [texts([e.chunk for e in each if isinstance(e, Delta)]) for each in kept]

    one, other = virtual(main)
    assert one == other
    assert (len(set(one)), model.asked) == (3, 3)


@given(scripts(), st.data(), st.integers(2, 3), st.integers(0, 99))
def test_one_that_fails_is_the_error_of_all_and_the_others_are_left(
    script: Script, data: st.DataObject, choices: int, schedule: int
) -> None:
    cut = script[: data.draw(st.integers(0, len(script) - 1))]
    error = data.draw(st.sampled_from([RateLimitError("slow down"), None]))
    waits = ScriptedModel(((9.0, TextDelta("late")), (0.0, END)))
    for pipeline in (relay, relay_whole):
        model = Turns([ScriptedModel(cut, error), *[waits] * (choices - 1)])
        with pytest.raises(ModelError) as caught:
            ask(model, choices, pipeline, schedule)
        assert type(caught.value) is (RateLimitError if error else TruncatedStreamError)
        assert model.open == 0


@given(st.integers(0, 99))
def test_what_came_before_an_error_of_another_is_passed_on_and_paid(schedule: int) -> None:
    """Also where both came in the same moment."""
    came: list[int] = []

    async def whole() -> tuple[ModelEvent, ...]:
        if 0 in came:
            return ()
        await trio.sleep(0.1)
        came.append(0)
        return TextDelta("a"), UsageReport(Usage(1, 2)), END

    async def fails() -> tuple[ModelEvent, ...]:
        await trio.sleep(0.1)
        came.append(1)
        raise RateLimitError("slow down")

    @attrs.frozen
    class Reply:
        receive: Callable[[], Awaitable[tuple[ModelEvent, ...]]]

    class Two(Model):
        @asynccontextmanager
        async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
            yield Reply(fails if request.extras else whole)  # type: ignore[misc]

    async def main() -> RunFailed:
        async with open_engine(World(models={"m": Two()})) as engine:
            run = engine.start(relay, {"request": ASKED, "model": "m", "choices": 2})
            await run.wait_ended()
            last = run.journal.last
            assert isinstance(last, RunFailed)
            said = any(isinstance(event, Delta) for event in run.journal.kept)
            assert said == (came == [0, 1])
            return last

    last = virtual(main, schedule=schedule)
    assert last.error == "RateLimitError"
    assert last.usage == (Usage(1, 2) if came == [0, 1] else None)


@pytest.mark.parametrize("relaying", RELAYS)
def test_the_place_of_a_relay_is_its_own_line(relaying: Pipeline[..., Any]) -> None:
    """And not a line of whatever has imported it, such as of the server that got a request."""
    (node,) = (each for each in relaying.nodes if isinstance(each, Call))
    code = relaying.function.__code__
    assert node.origin.filename == code.co_filename
    assert node.origin.line in {line for _, _, line in code.co_lines()}


class Unscoped(Turns):
    """It leaves a cancel scope open, as one around a `yield` of a generator that nobody ends."""

    async def complete(self, request: ChatRequest) -> Completion:
        trio.CancelScope(shield=True).__enter__()
        return await super().complete(request)


def test_a_scope_that_a_model_leaves_open_is_its_steps_own() -> None:
    """The task of the run does more after the step, which it must not do within that scope."""
    assert ask(Unscoped([ScriptedModel.saying("a")]), 1, relay_whole)


class Curt(Model):
    """It ends without saying why, and says nothing of it."""

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        yield self

    async def receive(self) -> tuple[ModelEvent, ...]:
        return ()


@pytest.mark.parametrize("choices", [1, 2])
def test_an_answer_that_just_ends_was_cut(choices: int) -> None:
    with pytest.raises(TruncatedStreamError, match="'m' ended its answer without a stop reason"):
        ask(Curt(), choices)


def test_what_arrives_together_is_one_chunk() -> None:
    class Together(Curt):
        def __init__(self) -> None:
            self.left: list[tuple[ModelEvent, ...]] = [(TextDelta("a"), TextDelta("b")), (END,)]

        async def receive(self) -> tuple[ModelEvent, ...]:
            return self.left.pop(0) if self.left else ()

    chunks, _ = ask(Together(), 1)
    assert chunks == [ChoiceEvents(0, (TextDelta("a"), TextDelta("b"))), ChoiceEvents(0, (END,))]


def test_a_chunk_counts_what_it_holds() -> None:
    assert ChoiceEvents(0, (TextDelta("a" * 10), END)).window_bytes == 2 * 64 + 10
    likely = Logprobs((TokenLogprob("a", -1.0),))
    assert ChoiceEvents(0, (likely,)).window_bytes > ChoiceEvents(0, (TextDelta("a"),)).window_bytes


@pytest.mark.parametrize(
    "event",
    [
        Logprobs((TokenLogprob("a", -1.0),) * 1000),
        Logprobs(refusal=(TokenLogprob("a", -1.0, top=(TokenLogprob("b", -2.0),) * 1000),)),
        Logprobs((TokenLogprob("a" * 9000, -1.0, (1,) * 1000),)),
        UsageReport(Usage(1, 1), {"x": "y" * 9000}),
        ReasoningDelta("", "y" * 9000),
        ToolCallDelta(0, signature="y" * 9000),
    ],
)
def test_what_is_no_text_counts_too(event: ModelEvent) -> None:
    """A provider that sends nothing else, for ever, comes to the bound of the output as well."""
    assert ChoiceEvents(0, (event,)).window_bytes > 8000


def test_a_record_of_usage_that_is_no_json_ends_no_answer() -> None:
    assert ChoiceEvents(0, (UsageReport(Usage(1, 1), {"x": object()}),)).window_bytes > 0


def test_leaving_a_run_leaves_all_calls() -> None:
    model = Turns([ScriptedModel(((9.0, END),))] * 3)

    async def main() -> None:
        async with open_engine(World(models={"m": model})) as engine:
            run = engine.start(relay, {"request": ASKED, "model": "m", "choices": 3})
            await trio.sleep(1)
            assert model.open == 3
            run.cancel("left")
            await run.wait_ended()
            assert model.open == 0

    virtual(main)


def test_what_a_model_cannot_do_is_refused_before_it_is_asked() -> None:
    model = Turns([], Capabilities(tools=False, context_tokens=1, output_tokens_max=1))
    request = ChatRequest(ASKED.messages, tools=(Tool("t", "", {}),), output_tokens_max=9)
    for pipeline in (relay, relay_whole):
        with pytest.raises(CapabilityError, match=r"tools=\.\.\. cannot be sent to the model"):
            ask(model, 1, pipeline, request=request)
    blind = Turns([], Capabilities(files=False))
    paper = ChatRequest((Message("user", (FilePart(b"%PDF-"),)),))
    with pytest.raises(CapabilityError, match=r"messages=.* 'm', which has no files; leave it out"):
        ask(blind, 1, relay, request=paper)
    small = Turns([ScriptedModel(((0.0, END),))], Capabilities(context_tokens=1))
    ask(small, 1)  # how much room a request needs is an estimate, which refuses nobody


def test_a_word_to_our_policies_that_none_reads_is_refused_before_the_model_is_asked() -> None:
    wrong = attrs.evolve(ASKED, extras={"orchestra": {"cache": "off", "coalesced": False}})
    for pipeline in (relay, relay_whole):
        with pytest.raises(InvalidRequestError, match="did you mean 'coalesce'"):
            ask(Turns([]), 1, pipeline, request=wrong)


class Vectors(Embedder, Turns):
    def __init__(self) -> None:
        super().__init__([])

    @property
    def dimensions(self) -> int:
        return 2

    async def embed(self, texts: Any, *, purpose: Any = None) -> Any:
        if isinstance(texts, EmbedRequest):
            assert texts.dimensions == 3
            return Embeddings((Vector.of([1, 2, 3]),), Usage(7))
        return [Vector.of([1, 2])] * len(texts)


def test_vectors_are_an_embedders_or_a_models() -> None:
    async def main() -> None:
        world = World(models={"m": Vectors()}, embedders={"m": Vectors()})
        async with open_engine(world) as engine:

            async def embed(dimensions: int | None, *, embedder: bool) -> tuple[Vector, ...]:
                request = EmbedRequest(("a",), dimensions=dimensions)
                found: Embeddings = await engine.run(relay_vectors, request, "m", embedder)
                return found.vectors

            assert await embed(3, embedder=False) == (Vector.of([1, 2, 3]),)
            for dimensions in (None, 2):
                assert await embed(dimensions, embedder=True) == (Vector.of([1, 2]),)
            with pytest.raises(CapabilityError, match="dimensions=3 cannot be sent to 'm'"):
                await embed(3, embedder=True)
            wrong = EmbedRequest(("a",), extras={"orchestra": {"x": 1}})
            with pytest.raises(InvalidRequestError, match="no 'x': it has cache, coalesce"):
                await engine.run(relay_vectors, wrong, "m", False)

    virtual(main)
