# pyright: strict
"""A user's project under Pyright's strictest mode: pipelines, a program and tests of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, assert_type

import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import (
    Context,
    Engine,
    Failed,
    Limits,
    Pipeline,
    Policy,
    Retry,
    Step,
    Stream,
    each,
    fallback,
    injected,
    open_engine,
    pipeline,
    prompt,
    race,
    route,
    step,
)
from orchestra.accounts import Caller, Usage
from orchestra.answers import Completion
from orchestra.batch.batch import Batch, BatchRules, Progress
from orchestra.batch.ledger import Row
from orchestra.compiler.check import check
from orchestra.compiler.plan import Plan, plan
from orchestra.config import LocalBindings, default_bindings
from orchestra.documents import Document
from orchestra.engine.run import Run
from orchestra.errors import CheckError, ModelError
from orchestra.events import Delta, Event, RunFinished, StepTold
from orchestra.problem import Problem
from orchestra.protocols import Embedder, Model, ModelReply, VectorStore
from orchestra.steps import (
    classify,
    cut,
    embed,
    embed_all,
    generate,
    nearest,
    pages,
    retrieve,
    text_of,
    tool,
)
from orchestra.steps.ingest import ingest
from orchestra.stores.memory import MemoryStore
from orchestra.testing.contracts import check_model, check_store
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Answers, Attempts, Fails, Gives, Hangs, Streams
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import moments, narrow_limits, schedules, worlds
from orchestra.testing.together import Start, simulate_all
from orchestra.testing.turns import ScriptedAnswers, ScriptedTurns
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    ChatRequest,
    Label,
    Message,
    Passage,
    Scalar,
    Stopped,
    StopReason,
    TextDelta,
    ToolCall,
    Vector,
)

# --- pipelines ------------------------------------------------------------------------------------


@dataclass
class Ticket:
    """What a model fills in."""

    kind: Literal["bug", "question"]
    lines: list[str]


@step
def cite(passages: list[Passage], *, most: int) -> str:
    """The passages as numbered sources."""
    return "\n".join(f"[{i}] {p.text}" for i, p in enumerate(passages[:most], 1))


@step(policy=Policy(timeout_s=2, retry=Retry(attempts_max=3)))
async def look_up(word: str, *, context: Context = injected) -> dict[str, int]:
    """A step that asks the run."""
    context.tell("looking", {"word": word})
    completion = await context.model("fast").complete(ChatRequest((Message("user", word),)))
    assert_type(completion, Completion)
    context.used(completion.usage)
    assert_type(await context.run(answer, word), str)
    assert_type(await context.run(found, document=Document("a", b""), question=word), list[Passage])
    async with context.stream(answer, word) as chunks:
        async for chunk in chunks:
            assert_type(chunk, str)
    client = await context.kept(opened)
    assert_type(client, list[int])
    return {completion.text: len(client)}


@asynccontextmanager
async def opened() -> AsyncGenerator[list[int]]:
    """A client."""
    yield [1]


@step
async def shout(chunks: Stream[str]) -> AsyncIterator[str]:
    """A stream that reads a stream."""
    while batch := await chunks.receive():
        assert_type(batch, tuple[str, ...])
        for chunk in batch:
            yield chunk.upper()


@tool(timeout_s=3)
async def orders(user: str, newest: int = 3) -> list[str]:
    """A tool."""
    return [user] * newest


@pipeline
def answer(question: str) -> Stream[str]:
    """The pipeline of the README."""
    sources = cite(retrieve(embed(question), store="handbook", top=8), most=5)
    intent = classify(question, labels=("how-to", "other"))
    assert_type(intent, Label)
    asked = prompt(
        "{intent}: {question}\n\n{sources}", intent=intent, question=question, sources=sources
    )
    return race(
        generate(asked, model="fast", tools=[partial(orders, user=question)]),
        shout(generate(asked, model="smart", policy=Policy(first_chunk_s=4))),
        stagger_s=0.4,
    )


@pipeline(deadline_s=5)
def sorted_out(question: str, urgent: bool) -> Ticket:
    """A value that a model fills in."""
    ticket = fallback(
        generate(question, model="fast", returns=Ticket),
        generate(question, model="smart", returns=Ticket),
        on=(ModelError, TimeoutError),
    )
    assert_type(ticket.lines, list[str])
    return route(urgent, {True: ticket, False: ticket})


@pipeline
def scanned(files: list[Document]) -> list[str | Failed[Document]]:
    """Many items, of which some may fail."""
    return each(files, one_file, at_once=4, failures_max=3)


@pipeline
def one_file(file: Document) -> str:
    """A part of the other."""
    return text_of(file)


@pipeline
def found(document: Document, question: str) -> list[Passage]:
    """Retrieval in what was handed in."""
    passages = cut(pages(document), size_chars=800)
    assert_type(embed_all([question]), list[Vector])
    return nearest(passages, question, top=3)


# --- a program ------------------------------------------------------------------------------------


async def program(folder: Path) -> None:
    """What a program asks of the library."""
    with default_bindings() as bindings:
        assert_type(bindings, LocalBindings)
        async with open_engine(bindings, limits=Limits(runs=10)) as engine:
            assert_type(engine, Engine)
            assert_type(await engine.run(answer, "Why?"), str)
            assert_type(await engine.run(sorted_out, "Why?", urgent=True), Ticket)
            run = engine.start(scanned, {"files": []}, caller=Caller("o", "u"))
            assert_type(run, Run[list[str | Failed[Document]]])
            assert_type(run.usage, Usage | None)
            assert_type(run.error, Exception | None)
            assert_type(await followed(run), list[str])
            batch = Batch(engine, sorted_out, rows(), folder, rules=BatchRules(at_once=3))
            assert_type(await batch.run(), Progress)
            for each_one in await run.result():
                text = each_one.message if isinstance(each_one, Failed) else each_one
                assert_type(text, str)
            assert_type(engine.plan(answer), Plan)
    try:
        assert_type(plan(answer).explain(), str)
    except CheckError as error:
        assert_type(error.problems, tuple[Problem, ...])
    assert_type(check(answer), tuple[Problem, ...])


def rows() -> list[Row]:
    """Rows of a batch."""
    return [Row("1", {"question": "Why?", "urgent": False})]


async def followed(run: Run[object]) -> list[str]:
    """The text of a run, and what its steps tell."""
    said: list[str] = []
    seq = 0
    with run.journal.attach() as reader:
        while events := await reader.after(seq):
            assert_type(events, tuple[Event, ...])
            seq = events[-1].seq
            for event in events:
                match event:
                    case Delta(chunk=str(chunk)):
                        said.append(chunk)
                    case StepTold(what=what):
                        said.append(what)
                    case RunFinished(timings_s=timings_s):
                        said.append(str(sum(timings_s.values())))
                    case _:
                        pass
    return said


class Echo(Model):
    """A model of one's own."""

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncGenerator[ModelReply]:
        """An answer."""
        yield EchoReply(request.messages[-1].text)


class EchoReply:
    """An answer that arrives."""

    def __init__(self, text: str) -> None:
        self._left: list[TextDelta | Stopped] = [Stopped(StopReason.END), TextDelta(text)]

    async def receive(self) -> tuple[TextDelta | Stopped, ...]:
        """The next event."""
        await trio.lowlevel.checkpoint()
        return (self._left.pop(),) if self._left else ()


class Letters:
    """An embedder of one's own."""

    dimensions = 2

    async def embed(self, texts: Sequence[str], *, purpose: object = None) -> list[Vector]:
        """Vectors."""
        return [Vector.of([1.0, 0.0]) for _ in texts]


async def stored(embedder: Embedder, store: VectorStore) -> list[Passage]:
    """What is in a store of one's own."""
    (vector,) = await embedder.embed(["a"])
    where: dict[str, Scalar] = {"kind": "x"}
    return await store.search(vector, top=3, where=where)


# --- tests ----------------------------------------------------------------------------------------

MODELS: dict[str, Model | None] = {
    "fast": ScriptedModel.saying("At ", "nine.", every_s=0.5),
    "smart": ScriptedTurns.saying([ToolCall("1", "orders", "{}")], "At nine."),
}
STEPS = {
    "cite": st.just(Gives("[1]")) | st.just(Fails(ModelError("away"))),
    "look_up": st.just(Attempts((Fails(ModelError("away")), Gives({})))),
    "shout": st.just(Streams(((0.1, "A"),))) | st.builds(Hangs),
}


@given(worlds(world=World(models=MODELS), steps=STEPS, limits=narrow_limits(), cancels=moments(9)))
def test_a_law(world: World) -> None:
    """As the tutorial writes one."""
    run = simulate(answer, world, question="When?")
    assert_type(run, Simulation[str])
    check_laws(run)
    assert run.value is None or run.value.startswith("At")
    assert_type(
        simulate(sorted_out, world, "Why?", urgent=True).result().kind, Literal["bug", "question"]
    )


@given(schedules())
def test_several(schedule: int) -> None:
    """Several runs at once."""
    starts = [Start(answer, {"question": "When?"}, Caller("o", "u"), at_s=1.0)]
    model = ScriptedAnswers(lambda request: request.messages[-1].text)
    for run in simulate_all(starts, World(schedule=schedule, models={"fast": model})):
        check_laws(run)
    world = World(steps={"look_up": Answers(counted)})
    assert simulate(sorted_out, world, "Why?", urgent=False).error


def counted(word: str) -> Gives:
    """A script that depends on the argument."""
    return Gives({word: 1})


def test_contracts() -> None:
    """Of one's own classes."""
    virtual(partial(check_model, Echo()))
    trio.run(check_store, MemoryStore("mine"))
    assert_type(virtual(partial(stored, Letters(), MemoryStore("mine"))), list[Passage])
    assert_type(trio.run(ingested, Path()), int)


async def ingested(folder: Path) -> int:
    """A folder that is searched."""
    return (await ingest(folder, MemoryStore("mine"), Letters())).passages


def named(what: Step[..., object] | Pipeline[..., object]) -> str:
    """Of a step or a pipeline."""
    return what.name
