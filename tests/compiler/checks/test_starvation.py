"""Readers that could only start when the stream they read has ended, found before they hang."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orchestra import Stream, collect, each, fallback, pipeline, race, route, step
from orchestra.compiler.check import check
from orchestra.graph.pipelines import Pipeline


@step
async def source(n: int) -> AsyncIterator[str]:
    """A stream."""
    for number in range(n):
        yield str(number)


@step
async def through(chunks: Stream[str]) -> AsyncIterator[str]:
    """Chunk by chunk."""
    async for chunk in chunks:
        yield chunk


@step
async def count(chunks: Stream[str]) -> int:
    """To the end."""
    return sum([1 async for _ in chunks])


@step
async def first(chunks: Stream[str], n: int) -> str:
    """Reads a stream, and needs a number before it starts."""
    return [chunk async for chunk in chunks][n]


@step
async def join(one: str, other: str) -> str:
    """Both."""
    return one + other


@step
async def late(item: int, n: int) -> int:
    """Needs both."""
    return item + n


@step
async def total(numbers: list[int]) -> int:
    """The sum."""
    return sum(numbers)


@pipeline
def by_value(n: int) -> str:
    """The number is there when the stream has ended."""
    chunks = source(n)
    return first(chunks, count(chunks))


@pipeline
def by_a_longer_way(n: int) -> str:
    """So it is two steps further on."""
    chunks = source(n)
    return first(chunks, count(through(through(chunks))))


@pipeline
def by_route(n: int) -> Stream[str]:
    """The label is there when the stream has ended."""
    chunks = source(n)
    return route(count(chunks), {1: through(chunks)}, default=source(n))


@pipeline
def by_fallback(n: int) -> Stream[str]:
    """The second arm starts when the first has read the stream to its end."""
    chunks = source(n)
    return fallback(through(chunks), through(chunks))


@pipeline
def by_hedge(n: int) -> Stream[str]:
    """The second arm starts by time, but only where hedges have not used up their share."""
    chunks = source(n)
    return race(through(chunks), through(chunks), hedge_at="p95", stagger_s=1)


@pipeline
def by_race(n: int) -> Stream[str]:
    """The second arm is never started by time."""
    chunks = source(n)
    return race(through(chunks), through(chunks), stagger_s=float("inf"))


@pipeline
def by_each(n: int, items: list[int]) -> str:
    """Every body waits for the number."""
    chunks = source(n)
    numbers = each(items, lambda item: late(item, count(chunks)), at_once=1)
    return first(chunks, total(numbers))


@pipeline
def side_by_side(n: int) -> str:
    """Both read as it comes: nothing waits for the other."""
    chunks = source(n)
    return join(collect(through(chunks)), collect(chunks))


@pipeline
def raced(n: int) -> Stream[str]:
    """Both arms start by themselves."""
    chunks = source(n)
    return race(through(chunks), through(chunks), stagger_s=1)


@pipeline
def collected(n: int) -> Stream[str]:
    """The fix: the second arm is given the whole."""
    return fallback(through(source(n)), through(source(n)))


@pytest.mark.parametrize(
    "starving",
    [by_value, by_a_longer_way, by_route, by_fallback, by_hedge, by_race, by_each],
)
def test_a_reader_that_waits_for_the_end_of_its_stream_is_a_problem(
    starving: Pipeline[..., object],
) -> None:
    """The problem names the stream, and the fix is `collect`."""
    (problem,) = check(starving)
    assert problem.code == "stream-waits-for-its-end"
    assert "source(...)" in problem.message
    assert "collect(source(...))" in problem.fix


@pytest.mark.parametrize("flowing", [side_by_side, raced, collected])
def test_readers_that_start_by_themselves_are_none(flowing: Pipeline[..., object]) -> None:
    """A tee, a race and a fallback over streams of their own are right."""
    assert check(flowing) == ()
