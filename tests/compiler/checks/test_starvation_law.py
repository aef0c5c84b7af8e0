"""The law of starved streams: what is found hangs, and nothing else does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from orchestra.compiler.blocks.layout import lay_out
from orchestra.compiler.check import check
from orchestra.compiler.checks.starvation import starved
from orchestra.compiler.draw import as_text
from orchestra.compiler.plan import Plan
from orchestra.compiler.regions import divide
from orchestra.engine.engine import open_engine
from orchestra.graph.control.constructs import collect
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.rules.policy import Limits
from orchestra.graph.steps import step
from orchestra.protocols import Stream
from tests.graph.written import written

CHUNKS = 60  # more than all lanes of a small graph hold together


@step
async def gen(value: Any) -> AsyncIterator[str]:
    for _ in range(CHUNKS):
        yield "x"


@step
async def up(chunks: Stream[str]) -> AsyncIterator[str]:
    async for chunk in chunks:
        yield chunk


@step
async def mix(chunks: Stream[str], value: Any) -> AsyncIterator[str]:
    async for chunk in chunks:
        yield chunk


@step
async def fold(chunks: Stream[str]) -> int:
    return len([chunk async for chunk in chunks])


@step
async def join(values: list[Any]) -> int:
    return len(values)


@st.composite
def stream_pipelines(draw: st.DrawFn) -> Pipeline[..., object]:
    """A pipeline of a few streams with several readers each, all of which are used."""

    def define(n: int) -> object:
        values: list[Any] = [n]
        streams: list[Any] = [gen(n)]

        def a(wires: list[Any]) -> Any:
            return wires[draw(st.integers(0, len(wires) - 1))]

        for _ in range(draw(st.integers(1, 6))):
            match draw(st.sampled_from(["gen", "up", "mix", "fold", "collect", "join"])):
                case "gen":
                    streams.append(gen(a(values)))
                case "up":
                    streams.append(up(a(streams)))
                case "mix":
                    streams.append(mix(a(streams), a(values)))
                case "fold":
                    values.append(fold(a(streams)))
                case "collect":
                    values.append(collect(a(streams)))
                case "join":
                    values.append(join([a(values), a(values)]))
        return join([*values, *(fold(stream) for stream in streams)])

    define.__annotations__ = {"n": int}
    return pipeline(name="drawn")(define)


def hangs(made: Pipeline[..., object]) -> bool:
    """Whether a run never ends, with the narrowest lanes there are."""

    async def main() -> bool:
        async with open_engine(limits=Limits(lane_chunks=1)) as engine:
            regions = divide(made.output)
            run = engine.start(
                Plan(made, regions, lay_out(regions, object), regions.order), {"n": 1}
            )
            with trio.move_on_after(1e6) as scope:
                await run.result()
            return scope.cancelled_caught

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pipeline
def crossed(n: int) -> int:
    """Two readers, each of which starts when the stream of the other has ended."""
    one, other = gen(n), gen(n)
    return join([fold(mix(other, fold(one))), fold(mix(one, fold(other)))])


@example(crossed)
@settings(max_examples=150)
@given(stream_pipelines())
def test_what_is_found_hangs_and_nothing_else_does(made: Pipeline[..., object]) -> None:
    note(as_text(made))
    codes = {problem.code for _, problem in starved(divide(made.output))}
    assert codes <= {"stream-waits-for-its-end"}
    assert bool(codes) == hangs(made)


STEPS = """
@step
async def gen(n: int) -> AsyncIterator[str]: yield ""
@step
async def up(chunks: Stream[str]) -> AsyncIterator[str]: yield ""
@step
async def mix(chunks: Stream[str], value: Any) -> AsyncIterator[str]: yield ""
@step
async def both(first: Stream[str], second: Stream[str]) -> str: return ""
"""


def accused(body: str) -> list[str]:
    module = written(f"{STEPS}\n@pipeline\ndef p(n: int):\n    said = gen(n)\n    return {body}")
    problems = check(module["p"])
    assert {problem.code for problem in problems} <= {"stream-waits-for-its-end"}
    return [problem.message.partition(" reads")[0] for problem in problems]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("both(said, up(said))", []),
        ("mix(said, collect(gen(n)))", []),
        ("mix(said, collect(said))", ["mix(chunks=...)"]),
        ("mix(up(said), collect(up(said)))", ["mix(chunks=...)"]),
        ("mix(up(up(said)), collect(said))", ["mix(chunks=...)"]),
        ("mix(race(up(said), said), collect(said))", ["mix(chunks=...)"]),
        ("up(mix(said, collect(said)))", ["mix(chunks=...)"]),
        ("race(up(said), mix(said, n))", []),
        ("route(collect(said), {'a': up(said)}, default=gen(n))", ["up(chunks=...)"]),
        ("route(collect(said), {'a': said}, default=gen(n))", ["route(arm a)"]),
        ("fallback(up(said), mix(said, n))", ["mix(chunks=...)"]),
        ("fallback(said, gen(n))", []),
        ("fallback(gen(n), said)", []),
        ("each(said, lambda chunk: (chunk, n), at_once=1)", []),
        ("each(said, lambda chunk: (chunk, collect(gen(n))), at_once=1)", []),
        ("each(said, lambda chunk: (chunk, collect(said)), at_once=1)", ["each(items)"]),
    ],
)
def test_only_the_first_reader_whose_start_waits_is_accused(body: str, expected: list[str]) -> None:
    assert accused(body) == expected


def test_the_stream_that_has_to_end_is_named() -> None:
    module = written(
        f"{STEPS}\n@pipeline\ndef p(n: int):\n"
        "    said = gen(n)\n    return mix(up(said), collect(said))  # HERE"
    )
    (problem,) = check(module["p"])
    assert str(problem) == (
        f"{module.where('HERE')}: mix(chunks=...) reads the stream up(...), but can start only "
        "when gen(...), which feeds it, has ended; its chunks would wait for ever "
        "[stream-waits-for-its-end]\n    fix: let it take the whole value, collect(up(...)), or "
        "make a second gen(...) for it"
    )


def test_without_streams_there_is_nothing_to_solve() -> None:
    module = written("@pipeline\ndef p(n): return race(n, n)")
    assert list(starved(divide(module["p"].output))) == []
