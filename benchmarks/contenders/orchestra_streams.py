"""orchestra: stream steps, their edges, and the run's output through its journal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import perf_counter

import trio

from orchestra import Stream, open_engine, pipeline, step
from orchestra.events import Delta


@step
async def source(chunks: int) -> AsyncIterator[int]:
    """So many chunks."""
    for chunk in range(chunks):
        yield chunk


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
def streamed(chunks: int) -> Stream[int]:
    """A stream that leaves the run."""
    return source(chunks)


def relay(chunks: int) -> float:
    """Seconds for the chunks to cross four edges."""
    return trio.run(_relay, chunks)


def output(chunks: int) -> float:
    """Seconds for the chunks to reach a reader of the journal from the step that makes them."""
    return trio.run(_output, chunks)


async def _relay(chunks: int) -> float:
    async with open_engine() as engine:
        engine.plan(four_edges)
        began = perf_counter()
        if (found := await engine.run(four_edges, chunks=chunks)) != chunks:
            raise AssertionError(f"{found} chunks arrived, not {chunks}")
        return perf_counter() - began


async def _output(chunks: int) -> float:
    async with open_engine() as engine:
        engine.plan(streamed)
        began = perf_counter()
        found = seq = 0
        with engine.start(streamed, {"chunks": chunks}).journal.attach() as reader:
            while batch := await reader.after(seq):
                seq = batch[-1].seq
                found += sum(isinstance(event, Delta) for event in batch)
        if found != chunks:
            raise AssertionError(f"{found} chunks arrived, not {chunks}")
        return perf_counter() - began
