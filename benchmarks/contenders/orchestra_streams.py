"""orchestra: stream steps, their edges, and the run's output through its journal."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from benchmarks.stopwatch import Stopwatch, Taken
from orchestra import Pipeline, Stream, open_engine, pipeline, step
from orchestra.events import Delta


@step
async def source(chunks: int) -> AsyncIterator[int]:
    """So many chunks."""
    for chunk in range(chunks):
        yield chunk


@step
async def trickle(chunks: int) -> AsyncIterator[int]:
    """So many chunks, each when whoever waited for the one before has had a turn."""
    for chunk in range(chunks):
        yield chunk
        await trio.lowlevel.checkpoint()


@step
async def passes(chunks: Stream[int]) -> AsyncIterator[int]:
    """Every chunk again."""
    async for chunk in chunks:
        yield chunk


@step
async def counted(chunks: Stream[int]) -> int:
    """How many there were."""
    count = 0
    async for _ in chunks:
        count += 1
    return count


@pipeline
def four_edges(chunks: int) -> int:
    """A source, three steps that pass on, one that counts."""
    return counted(passes(passes(passes(source(chunks)))))


@pipeline
def four_edges_alone(chunks: int) -> int:
    """The same, with a source that never has two chunks ready."""
    return counted(passes(passes(passes(trickle(chunks)))))


@pipeline
def streamed(chunks: int) -> Stream[int]:
    """A stream that leaves the run."""
    return source(chunks)


def relay(chunks: int) -> Taken:
    """The time for the chunks to cross four edges."""
    return trio.run(_relay, four_edges, chunks)


def alone(chunks: int) -> Taken:
    """The time for the chunks to cross four edges one by one."""
    return trio.run(_relay, four_edges_alone, chunks)


def output(chunks: int) -> Taken:
    """The time for the chunks to reach a reader of the journal from the step that makes them."""
    return trio.run(_output, chunks)


async def _relay(shape: Pipeline[[int], int], chunks: int) -> Taken:
    async with open_engine() as engine:
        engine.plan(shape)
        watch = Stopwatch()
        if (found := await engine.run(shape, chunks)) != chunks:
            raise AssertionError(f"{found} chunks arrived, not {chunks}")
        return watch.taken()


async def _output(chunks: int) -> Taken:
    async with open_engine() as engine:
        engine.plan(streamed)
        watch = Stopwatch()
        found = seq = 0
        with engine.start(streamed, {"chunks": chunks}).journal.attach() as reader:
            while batch := await reader.after(seq):
                seq = batch[-1].seq
                found += sum(isinstance(event, Delta) for event in batch)
        if found != chunks:
            raise AssertionError(f"{found} chunks arrived, not {chunks}")
        return watch.taken()
