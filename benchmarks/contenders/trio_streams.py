"""Bare Trio: a task per step and a bounded memory channel per edge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from benchmarks.stopwatch import Stopwatch, Taken

Source: TypeAlias = Callable[[int, trio.MemorySendChannel[int]], Awaitable[None]]
BUFFER = 16
"""As many chunks as orchestra lets wait on an edge (`Limits.lane_chunks`)."""


async def _source(chunks: int, target: trio.MemorySendChannel[int]) -> None:
    async with target:
        for chunk in range(chunks):
            await target.send(chunk)


async def _trickle(chunks: int, target: trio.MemorySendChannel[int]) -> None:
    async with target:
        for chunk in range(chunks):
            await target.send(chunk)
            await trio.lowlevel.checkpoint()


async def _pass(
    source: trio.MemoryReceiveChannel[int], target: trio.MemorySendChannel[int]
) -> None:
    async with source, target:
        async for chunk in source:
            await target.send(chunk)


async def _count(source: trio.MemoryReceiveChannel[int]) -> int:
    count = 0
    async with source:
        async for _ in source:
            count += 1
    return count


def relay(chunks: int) -> Taken:
    """The time for the chunks to cross four edges."""
    return trio.run(_seconds, _source, chunks, 3)


def alone(chunks: int) -> Taken:
    """The time for the chunks to cross four edges one by one."""
    return trio.run(_seconds, _trickle, chunks, 3)


def output(chunks: int) -> Taken:
    """The time for the chunks to reach a reader from the step that makes them."""
    return trio.run(_seconds, _source, chunks, 0)


async def _seconds(source: Source, chunks: int, between: int) -> Taken:
    watch = Stopwatch()
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[int](BUFFER)
        nursery.start_soon(source, chunks, send)
        for _ in range(between):
            send, following = trio.open_memory_channel[int](BUFFER)
            nursery.start_soon(_pass, receive, send)
            receive = following
        found = await _count(receive)
    if found != chunks:
        raise AssertionError(f"{found} chunks arrived, not {chunks}")
    return watch.taken()
