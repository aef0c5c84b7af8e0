"""A tee: every reader gets every chunk, and the slowest holds the writer back."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.engine.lanes.lane import Lane
from orchestra.engine.lanes.outflow import Outflow
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual

ticks = st.integers(0, 3)


def nothing() -> None:
    """Nobody minds that a reader leaves."""


def opened(bounds: list[int]) -> tuple[Outflow, list[Lane[object]]]:
    outflow = Outflow(trio.current_time)
    lanes: list[Lane[object]] = [Lane(bound, nothing) for bound in bounds]
    outflow.open(lanes)
    return outflow, lanes


def in_time(writes_s: list[int], reads_s: list[list[int]], bounds: list[int]) -> list[list[int]]:
    """When each reader takes each chunk: it goes into all lanes, once all have room."""
    put_s = 0
    taken: list[list[int]] = [[] for _ in bounds]
    for number, write_s in enumerate(writes_s):
        put_s += write_s
        for times, bound in zip(taken, bounds, strict=True):
            if number >= bound:
                put_s = max(put_s, times[number - bound])
        for times, paces in zip(taken, reads_s, strict=True):
            times.append(max((times[-1] if times else 0) + paces[number], put_s))
    return taken


@settings(max_examples=200)
@given(st.data(), st.lists(ticks, max_size=8), st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_every_reader_gets_every_chunk_and_the_slowest_holds_the_writer(
    data: st.DataObject, writes_s: list[int], bounds: list[int]
) -> None:
    pace = st.lists(ticks, min_size=len(writes_s), max_size=len(writes_s))
    reads_s = [data.draw(pace) for _ in bounds]
    taken: list[list[tuple[object, float]]] = [[] for _ in bounds]

    async def main() -> Outflow:
        outflow, lanes = opened(bounds)

        async def read(index: int) -> None:
            for read_s in reads_s[index]:
                await trio.sleep(read_s)
                taken[index].append((await anext(lanes[index]), trio.current_time()))
            assert await lanes[index].receive() == ()

        async with trio.open_nursery() as nursery:
            for index in range(len(bounds)):
                nursery.start_soon(read, index)
            for number, write_s in enumerate(writes_s):
                await trio.sleep(write_s)
                await outflow.put(number)
            outflow.close()
        return outflow

    outflow = virtual(main, schedule=data.draw(schedules()))
    foreseen = in_time(writes_s, reads_s, bounds)
    assert taken == [list(enumerate(times)) for times in foreseen]
    assert outflow.chunks == len(writes_s)
    assert outflow.first_s == (writes_s[0] if writes_s else None)
    assert outflow.peak <= max(bounds)


@settings(max_examples=100)
@given(st.data(), st.lists(ticks, max_size=8), st.integers(1, 3), schedules())
def test_a_chunk_that_is_given_up_has_reached_all_readers_or_none(
    data: st.DataObject, patience_s: list[int], count: int, schedule: int
) -> None:
    pace = st.lists(ticks, min_size=len(patience_s), max_size=len(patience_s))
    reads_s = [data.draw(pace) for _ in range(count)]
    taken: list[list[object]] = [[] for _ in range(count)]

    async def main() -> None:
        outflow, lanes = opened([1] * count)

        async def read(index: int) -> None:
            for read_s in [*reads_s[index], 99]:
                await trio.sleep(read_s)
                with suppress(StopAsyncIteration):
                    taken[index].append(await anext(lanes[index]))
            taken[index] += [chunk async for chunk in lanes[index]]

        async with trio.open_nursery() as nursery:
            for index in range(count):
                nursery.start_soon(read, index)
            for number, wait_s in enumerate(patience_s):
                with trio.move_on_after(wait_s):
                    await outflow.put(number)
            outflow.close()

    virtual(main, schedule=schedule)
    assert all(each == taken[0] for each in taken)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=3), st.integers(0, 9), schedules())
def test_readers_that_leave_hold_nobody(patience: list[int], chunks: int, schedule: int) -> None:
    """Each reader leaves after some chunks; what it has taken by then is a beginning."""
    taken: list[list[object]] = [[] for _ in patience]

    async def main() -> None:
        outflow, lanes = opened([1] * len(patience))

        async def read(index: int) -> None:
            while len(taken[index]) < patience[index]:
                try:
                    taken[index].append(await anext(lanes[index]))
                except StopAsyncIteration:
                    break
            lanes[index].leave()

        async with trio.open_nursery() as nursery:
            for index in range(len(patience)):
                nursery.start_soon(read, index)
            await outflow.put_all(range(chunks))
            outflow.close()

    virtual(main, schedule=schedule)
    assert taken == [list(range(min(most, chunks))) for most in patience]


def test_a_writer_whose_readers_have_all_left_hears_that_it_is_cancelled() -> None:
    """It never waits any more, so a generator without an end would otherwise never end."""

    async def main() -> None:
        outflow, (lane,) = opened([4])
        with trio.move_on_after(1) as scope:
            lane.leave()
            scope.cancel()
            await outflow.put("a")
        assert scope.cancelled_caught
        await outflow.put("b")  # not cancelled, it goes on

    virtual(main)


def test_a_chunk_that_is_put_by_a_cancelled_writer_with_room_is_there() -> None:
    async def main() -> None:
        outflow, (lane,) = opened([1])
        with trio.CancelScope() as scope:
            scope.cancel()
            await outflow.put("a")
            with pytest.raises(trio.Cancelled):
                await outflow.put("b")
        assert await lane.receive() == ("a",)

    virtual(main)
