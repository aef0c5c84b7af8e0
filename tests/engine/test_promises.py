"""Two promises, each by the shortest example: what is cut is not complete, who waits is not slow."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Limits, Policy, Stream, collect, pipeline, step
from orchestra.events import StepFinished
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Streams
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.world import World


@step
async def source(n: int) -> AsyncIterator[str]:
    """What a script replaces, or a chunk at once."""
    for number in range(n):
        yield str(number)


@step
async def slowly(chunks: Stream[str]) -> str:
    """Ten seconds for every chunk."""
    text = ""
    async for chunk in chunks:
        await trio.sleep(10)
        text += chunk
    return text


@pipeline
def whole(n: int) -> str:
    """A stream, collected."""
    return collect(source(n))


@pipeline
def patient(n: int) -> str:
    """A quick producer that may not be idle, and a slow reader."""
    return slowly(source.using(Policy(first_chunk_s=1, idle_s=1))(n))


@given(worlds(), st.lists(st.integers(0, 2), max_size=4))
def test_a_cut_stream_never_looks_complete(world: World, delays: list[int]) -> None:
    """Whatever had arrived, its reader never finishes with less."""
    cut = Streams(tuple((float(delay), "x") for delay in delays), error=ValueError("cut"))
    run = simulate(whole, World(schedule=world.schedule, steps={"source": cut}), n=1)
    check_laws(run)
    assert isinstance(run.error, ValueError)
    assert not [event for event in run.events if isinstance(event, StepFinished)]


@given(worlds(), st.integers(3, 6))
def test_a_slow_reader_is_not_taken_for_an_idle_producer(world: World, n: int) -> None:
    """The producer waits for room, ten times longer than it may be idle."""
    narrow = World(schedule=world.schedule, limits=Limits(lane_chunks=1))
    run = simulate(patient, narrow, n=n)
    check_laws(run)
    assert run.value == "".join(map(str, range(n)))
    assert run.lasted_s == 10 * n
