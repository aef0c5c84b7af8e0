"""The lane against a deque: what is put is received, in order, and never too much of it waits."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.engine.lanes.lane import Lane
from orchestra.errors import RunError
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual

bounds = st.integers(1, 4)
ticks = st.integers(0, 3)
paces = st.lists(ticks, max_size=12)


def nothing() -> None:
    """Nobody minds that the reader leaves."""


def in_time(writes_s: Sequence[int], reads_s: Sequence[int], bound: int) -> list[int]:
    """When each chunk is taken: its writer waits for room, its reader for the chunk."""
    taken: list[int] = []
    put_s = take_s = 0
    for number, (write_s, read_s) in enumerate(zip(writes_s, reads_s, strict=True)):
        put_s += write_s
        if number >= bound:
            put_s = max(put_s, taken[number - bound])
        take_s = max(take_s + read_s, put_s)
        taken.append(take_s)
    return taken


@settings(max_examples=200)
@given(st.lists(st.tuples(ticks, ticks), max_size=12), bounds, schedules())
def test_the_writer_waits_for_room_and_the_reader_for_chunks_and_neither_longer(
    paces: list[tuple[int, int]], bound: int, schedule: int
) -> None:
    writes_s, reads_s = [w for w, _ in paces], [r for _, r in paces]
    lane: Lane[int] = Lane(bound, nothing)
    taken: list[tuple[int, float]] = []

    async def write() -> None:
        for number, write_s in enumerate(writes_s):
            await trio.sleep(write_s)
            await lane.put(number)
            assert lane.held <= bound
        lane.close()

    async def read() -> None:
        for read_s in reads_s:
            await trio.sleep(read_s)
            taken.append((await anext(lane), trio.current_time()))
        assert await lane.receive() == ()
        with pytest.raises(StopAsyncIteration):
            await anext(lane)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            nursery.start_soon(read)

    virtual(main, schedule=schedule)
    assert taken == list(enumerate(in_time(writes_s, reads_s, bound)))
    assert lane.peak <= bound


@settings(max_examples=200)
@given(paces, paces, paces, bounds, schedules())
def test_whoever_gives_up_waiting_and_comes_back_loses_and_doubles_nothing(
    writes_s: list[int], patience_s: list[int], reads_s: list[int], bound: int, schedule: int
) -> None:
    """A put that is cancelled has put nothing; a receive that is cancelled has taken nothing."""
    lane: Lane[int] = Lane(bound, nothing)
    put: list[int] = []
    received: list[int] = []

    async def write() -> None:
        for number, write_s in enumerate(writes_s):
            await trio.sleep(write_s)
            with trio.move_on_after(patience_s[number % len(patience_s)] if patience_s else 9):
                await lane.put(number)
                put.append(number)
        lane.close()

    async def read() -> None:
        for read_s in [*reads_s, *[99] * len(writes_s)]:
            with trio.move_on_after(read_s):
                received.extend(await lane.receive())
                assert lane.held == 0
            await trio.sleep(read_s)
        while batch := await lane.receive():
            received.extend(batch)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            nursery.start_soon(read)

    virtual(main, schedule=schedule)
    assert received == put
    assert lane.peak <= bound


@settings(max_examples=200)
@given(paces, st.integers(0, 12), bounds, st.booleans(), schedules())
def test_a_reader_that_leaves_frees_the_writer_and_says_so_once(
    writes_s: list[int], most: int, bound: int, close: bool, schedule: int
) -> None:
    """Unless the last chunk had been put: then there is nothing left to stop."""
    told: list[float] = []
    closed_s: list[float] = []
    lane: Lane[int] = Lane(bound, lambda: told.append(trio.current_time()))

    async def write() -> None:
        for number, write_s in enumerate(writes_s):
            await trio.sleep(write_s)
            await lane.put(number)
        if close:
            closed_s.append(trio.current_time())
            lane.close()

    async def read() -> float:
        received: list[int] = []
        with trio.move_on_after(50):
            async for number in lane:
                received.append(number)
                if len(received) >= most:
                    break
        lane.leave()
        lane.leave()
        assert received == list(range(len(received)))
        assert lane.held == 0
        return trio.current_time()

    async def main() -> float:
        left_s: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            left_s.append(await read())
        return left_s[0]

    left_s = virtual(main, schedule=schedule)
    assert lane.left
    assert lane.held == 0, "what is put for nobody is dropped"
    if told:
        assert told == [left_s]
        assert not closed_s or closed_s[0] >= left_s
    else:
        assert closed_s
        assert closed_s[0] <= left_s


@settings(max_examples=200)
@given(paces, paces, bounds, st.booleans(), schedules())
def test_who_reads_behind_the_reader_that_has_left_is_told_so(
    writes_s: list[int], stays_s: list[int], bound: int, batches: bool, schedule: int
) -> None:
    """Whether chunks come, have come, or will never come: and not that the stream has ended."""
    lane: Lane[int] = Lane(bound, nothing)

    async def write() -> None:
        for number, write_s in enumerate(writes_s):
            await trio.sleep(write_s)
            await lane.put(number)
        lane.close()

    async def read() -> None:
        for stay_s in stays_s:
            await trio.sleep(stay_s)
            await lane.receive()
        lane.leave("answer")
        with pytest.raises(trio.ClosedResourceError, match="was passed to 'answer', which has en"):
            await (lane.receive() if batches else anext(lane))

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError, match="'answer'"):
            await anext(other)

    other: Lane[int] = Lane(bound, nothing)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            nursery.start_soon(read)
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            other.leave("answer")

    virtual(main, schedule=schedule)


def test_what_is_ready_together_is_received_together() -> None:
    async def main() -> None:
        lane: Lane[int] = Lane(3, nothing)
        for number in range(3):
            await lane.put(number)
        assert lane.held == 3
        assert await lane.receive() == (0, 1, 2)
        await lane.put(3)
        assert await anext(aiter(lane)) == 3

    virtual(main)


def test_two_tasks_that_wait_on_one_lane_are_told_rather_than_forgotten() -> None:
    """A second waiter would take the place of the first, which would then wait for ever."""

    async def main() -> None:
        lane: Lane[int] = Lane(1, nothing)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lane.receive)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="two tasks of a step read one"):
                await lane.receive()
            with pytest.raises(trio.BusyResourceError):
                await anext(lane)
            await lane.put(1)

    virtual(main)


def test_a_full_lane_wakes_its_writer_once_for_each_chunk_that_is_taken() -> None:
    async def main() -> list[int]:
        lane: Lane[int] = Lane(1, nothing)
        sizes = []
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                for number in range(3):
                    await lane.put(number)

            nursery.start_soon(write)
            for _ in range(3):
                await trio.testing.wait_all_tasks_blocked()
                sizes.append(lane.held)
                await anext(lane)
        return sizes

    assert virtual(main) == [1, 1, 1]


def in_a_task(read: Callable[[Any], Awaitable[object]]) -> Callable[[Any], object]:
    return lambda stream: trio.run(read, stream)


async def awaited(stream: Any) -> object:
    return await stream


async def entered(stream: Any) -> object:
    async with stream as chunks:
        return chunks


@pytest.mark.parametrize(
    "read",
    [
        *(list, "".join, sum, sorted, next, len, bool, str, bytes, Path, operator.not_),
        *("{}".format, "said: %s".__mod__, partial(operator.add, "said: ")),
        *(operator.itemgetter(0), operator.itemgetter(slice(3)), lambda stream: "a" in stream),
        *(in_a_task(awaited), in_a_task(entered)),
    ],
)
def test_a_stream_that_is_read_at_once_says_how_to_read_it(read: Callable[[Any], object]) -> None:
    """`"".join` and others say something of their own where `iter` raises a `TypeError`.

    What Python answers by itself is worse: a `len` of what is here just now, or a prompt that has
    `<Lane object at 0x...>` in it.
    """
    with pytest.raises(RunError, match=r"write `async for chunk in stream` in an `async def` step"):
        read(Lane[str](1, nothing))


def test_a_stream_has_a_form_for_whoever_looks_for_a_fault() -> None:
    assert "Lane" in repr(Lane[str](1, nothing))
