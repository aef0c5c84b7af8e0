"""Right pipelines: both type checkers must accept every line, and know every type."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Literal, TypedDict, assert_type

import attrs

import orchestra
from orchestra import (
    Context,
    Failed,
    Policy,
    Retry,
    Stream,
    best_of,
    chars,
    chunks,
    collect,
    complete,
    each,
    fallback,
    injected,
    open_engine,
    pipeline,
    prompt,
    quorum,
    race,
    route,
    step,
)
from orchestra.engine.run import Run
from orchestra.errors import ModelError
from orchestra.events import Event, ToolFailed
from orchestra.steps import classify, embed, generate, judge, retrieve, tool
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.world import World
from orchestra.transcripts import Refused, Reply, last_turns, open_calls
from orchestra.values import Label, Message, Passage, Vector


@step
async def value(x: int, *, factor: int = 2) -> str:
    """An async function gives one value."""
    return str(x * factor)


@step
async def stream(x: int) -> AsyncIterator[str]:
    """An async generator gives a stream."""
    yield str(x)


@step
async def numbers(x: int) -> AsyncGenerator[int, None]:
    """So does one annotated as a generator."""
    yield x


@step
async def through(chunks: Stream[str]) -> AsyncIterator[bytes]:
    """A stream may be read as it comes."""
    async for chunk in chunks:
        yield chunk.encode()


@step
def plain(text: str) -> int:
    """A plain function."""
    return len(text)


def longest(answers: list[str]) -> int:
    """A plain judge."""
    return answers.index(max(answers, key=len))


@step
async def expert(answers: list[str], *, wants: str = "") -> int:
    """A judge that is a step."""
    return answers.index(wants)


@step(thread=True)
def blocking(text: str) -> bytes:
    """A blocking one."""
    return text.encode()


@step(policy=None)
async def without_policy(x: int) -> int:
    """No policy of its own."""
    return x


@step(policy=Policy(timeout_s=1), name="named")
async def with_arguments(x: int, context: Context = injected) -> float:
    """A decorator with arguments keeps the type; the context need not be given."""
    return float(x) if context.run_id else 0.0


@attrs.frozen
class Bill:
    """What a model fills in."""

    lines: list[str]
    total: float | None = None


class Pair(TypedDict):
    """So may this be."""

    a: int
    b: int


async def look(word: Annotated[str, "one word"], most: int = 3) -> list[str]:
    """A tool is a typed function."""
    return [word] * most


@tool
def count(text: str, context: Context = injected) -> int:
    """It may be decorated, and stays what it was."""
    return len(text + context.run_id)


@tool(name="wait", thread=True, timeout_s=3)
def blocks(seconds: float) -> None:
    """With arguments too."""


@pipeline
def inner(x: int) -> str:
    """One value."""
    return value(x, factor=3)


@pipeline
def streamed(x: int, *, loud: bool = False) -> Stream[str]:
    """A stream."""
    return route(loud, {True: stream(x), False: stream(x)})


@pipeline(deadline_s=3)
def counted(x: int) -> Stream[int]:
    """A stream of something else."""
    return numbers(x)


@pipeline
def everything(x: int, names: list[int]) -> int:  # noqa: PLR0915 - a statement for each word
    """Every word of the language."""
    assert_type(value(x), str)
    assert_type(stream(x), Stream[str])
    assert_type(numbers(x), Stream[int])
    assert_type(through(stream(x)), Stream[bytes])
    assert_type(plain("text"), int)
    assert_type(blocking("text"), bytes)
    assert_type(with_arguments(x), float)
    assert_type(value.using(Policy(timeout_s=1))(x), str)
    assert_type(without_policy.using(None)(x), int)
    assert_type(collect(stream(x)), str)
    assert_type(collect(through(stream(x))), bytes)
    assert_type(collect(numbers(x)), list[int])
    assert_type(race(stream(x), stream(x), stagger_s=0.1), Stream[str])
    assert_type(race(stream(x), stream(x), commit=chunks(3), stagger_s=0.1), Stream[str])
    assert_type(race(stream(x), stream(x), hedge_at="p95"), Stream[str])
    assert_type(race(value(x), value(x), hedge_at=0.9, hedge_share=0.2, stagger_s=1), str)
    assert_type(race(stream(x), stream(x), hedge_at=None, stagger_s=None), Stream[str])
    assert_type(race(value(x), value(x), hedge_at=None, hedge_share=None, stagger_s=None), str)
    assert_type(race(numbers(x), hedge_at=None), Stream[int])
    assert_type(race(through(stream(x)), stagger_s=None), Stream[bytes])
    assert_type(fallback(stream(x), stream(x), commit=chars(80)), Stream[str])
    assert_type(fallback(value(x), value(x), commit=complete()), str)
    assert_type(race(stream(x), stream(x), validate=lambda said: said.isupper()), Stream[str])
    assert_type(race(numbers(x), validate=lambda said: said[0] > 1), Stream[int])
    assert_type(race(value(x), validate=str.isupper), str)
    assert_type(fallback(stream(x), validate=str.isupper, on=TimeoutError), Stream[str])
    assert_type(fallback(value(x), value(x), on=(ModelError, TimeoutError)), str)
    assert_type(fallback(stream(x), stream(x), restart=True), Stream[str])
    assert_type(fallback(value(x), value(x)), str)
    assert_type(quorum(2, value(x), value(x), value(x)), str)
    assert_type(quorum(1, value(x), value(x), stagger_s=0.5), str)
    assert_type(quorum(1, plain("a"), plain("b"), agree=lambda a, b: abs(a - b) < 2), int)
    assert_type(best_of(value(x), collect(stream(x)), judge=longest), str)
    assert_type(best_of(value(x), value(x), judge=lambda said: said.index("a"), least=2), str)
    assert_type(best_of(value(x), value(x), judge=expert), str)
    assert_type(best_of(value(x), value(x), judge=judge), str)
    asked = partial(judge, question=value(x), model="smart")
    assert_type(best_of(plain("a"), plain("b"), judge=asked), int)
    assert_type(best_of(value(x), value(x), judge=partial(expert, wants=value(x))), str)
    assert_type(route(value(x), {"a": plain("b")}, default=plain("c")), int)
    assert_type(each(names, value, at_once=2), list[str])
    assert_type(each(numbers(x), value, at_once=2), Stream[str])
    assert_type(each(names, lambda n: value(n, factor=4), at_once=2), list[str])
    assert_type(each(names, inner, at_once=2), list[str])
    assert_type(
        each(stream(x), lambda chunk: plain(chunk + chunk), at_once=2, ordered=False), Stream[int]
    )
    assert_type(collect(each(stream(x), lambda chunk: chunk, at_once=2)), str)
    assert_type(each(names, value, at_once=2, failures_max=3), list[str | Failed[int]])
    assert_type(each(numbers(x), value, at_once=2, failures_max=3), Stream[str | Failed[int]])
    assert_type(race(inner(x), collect(streamed(x))), str)
    assert_type(fallback(streamed(x), stream(x)), Stream[str])
    assert_type(inner(x), str)
    assert_type(streamed(x), Stream[str])
    assert_type(prompt("{a}", a=x), str)
    assert_type(orchestra.prompt("{a}", a=x), str)
    assert_type(embed("text"), Vector)
    assert_type(retrieve(embed("text"), store="docs"), list[Passage])
    assert_type(classify("text", labels=("a", "b")), Label)
    assert_type(generate("text", policy=Policy(idle_s=1)), Stream[str])
    retry = Retry(attempts_max=3, on=(ValueError, KeyError))
    assert_type(generate("text", policy=Policy(retry=retry)), Stream[str])
    assert_type(generate("text", tools=[look, count, value], temperature=0.5), Stream[str])
    assert_type(generate(inner(x), returns=None, stop=["a"], seed=x), Stream[str])
    assert_type(generate("text", returns=Bill), Bill)
    assert_type(generate("text", returns=Bill, tools=[look], tool_rounds_max=2).lines, list[str])
    assert_type(generate("text", returns=Pair)["a"], int)
    assert_type(generate("text", returns=list[Bill])[0].lines, list[str])
    assert_type(generate("text", returns=bool), bool)
    chosen: Literal["a", "b"] = generate("text", returns=Literal["a", "b"])
    assert_type(plain(chosen), int)
    perhaps: Bill | None = generate("text", returns=Bill | None)
    assert_type(perhaps.lines if perhaps else [], list[str])
    assert_type(generate.using(Policy(timeout_s=1))("text", returns=Bill), Bill)
    assert_type(each([inner(x)], generate, at_once=2), list[Stream[str]])
    assert_type(each([inner(x)], lambda line: generate(line, returns=Bill), at_once=2), list[Bill])
    assert_type(fallback(generate("a", returns=Bill), generate("b", returns=Bill)), Bill)
    assert_type(count("text"), int)
    assert_type(blocks(1.0), None)
    return plain(inner(x))


async def runs() -> None:
    """The result of a run: what its pipeline gives, a stream collected."""
    async with open_engine() as engine:
        assert_type(await engine.run(inner, 1), str)
        assert_type(await engine.run(inner, x=1), str)
        assert_type(await engine.run(streamed, x=1, loud=True), str)
        assert_type(await engine.run(counted, x=1), list[int])
        run = engine.start(inner, {"x": 1}, deadline_s=3)
        assert_type(run, Run[str])
        assert_type(await run.result(), str)
        assert_type(await engine.start(streamed, {"x": 1}).result(), str)
        assert_type(await engine.start(counted, {"x": 1}).result(), list[int])
        assert_type(await engine.start(engine.plan(inner), {"x": 1}).result(), Any)
        assert_type(await engine.run(engine.plan(inner), 1), Any)
        assert_type(await value.call(1, factor=3), str)
        assert_type(await value.using(None).call(1), str)
        assert_type(await with_arguments.call(1), float)
        assert_type(plain.call("text"), int)
        assert_type(blocking.call("text"), bytes)
        assert_type([chunk async for chunk in numbers.call(1)], list[int])
    assert_type(orchestra.run(inner, x=1), str)
    assert_type(orchestra.run(streamed, 1), str)
    assert_type(orchestra.run(counted, 1), list[int])


async def replies(asked: list[Message], decided: dict[str, bool], *, context: Context) -> None:
    """What a step reads of a model that it calls itself."""
    decisions: dict[str, bool | Refused] = {"2": Refused("too much"), **decided}
    reply = generate.call(asked, approved=decisions, context=context)
    assert_type(reply, Reply)
    async with aclosing(reply):
        assert_type([chunk async for chunk in reply], list[str])
    assert_type(reply.messages, tuple[Message, ...])
    assert_type(last_turns(reply.messages, 10), list[Message])
    assert_type([each.name for each in open_calls(reply.messages)], list[str])
    assert_type(await generate.call(asked, approved=decided, returns=Bill, context=context), Bill)


def simulations(world: World) -> None:
    """The result of a simulated run, which there may be none of."""
    assert_type(simulate(inner, world, x=1), Simulation[str])
    assert_type(simulate(inner, x=1).value, str | None)
    assert_type(simulate(inner, world, 1).result(), str)
    assert_type(simulate(streamed, world, x=1, loud=True).result(), str)
    assert_type(simulate(counted, x=1).result(), list[int])


def events_by_type(simulation: Simulation[str]) -> None:
    """The `type` of an event tells its class, and so its fields."""
    assert_type([e.what for e in simulation.events if e.type == "step.told"], list[str])
    for event in simulation.events:
        if event.type == "tool.failed":
            assert_type(event, ToolFailed)


async def any_of_them(run: Run, simulation: Simulation) -> None:
    """What a run gives need not be said."""
    assert_type(await run.result(), object)
    assert_type(simulation.result(), object)


async def through_a_portal() -> None:
    """A portal knows the same types, for threads and for asyncio."""
    with orchestra.open_portal() as portal:
        assert_type(portal.run(inner, 1), str)
        assert_type(portal.run(streamed, x=1, loud=True), str)
        assert_type(portal.run(counted, x=1), list[int])
        assert_type(await portal.arun(inner, x=1), str)
        assert_type(await portal.arun(counted, x=1), list[int])
        assert_type(portal.using(deadline_s=5).run(inner, 1), str)
        with portal.stream(counted, x=1) as chunks:
            assert_type(next(chunks), int)
        async with portal.events(inner, x=1) as events:
            assert_type(await anext(events), Event)
