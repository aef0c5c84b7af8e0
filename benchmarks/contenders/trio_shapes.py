"""Bare Trio: a nursery, a task per step, an event per value. The floor that we stand on."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import attrs
import trio

from benchmarks.stopwatch import Stopwatch, Taken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

WIDTH = 8


@attrs.define(eq=False)
class Slot:
    """A value that is not there yet."""

    ready: trio.Event = attrs.field(factory=trio.Event)
    value: int = 0

    async def get(self) -> int:
        """The value, waiting for it."""
        await self.ready.wait()
        return self.value

    def put(self, value: int) -> None:
        """Give the value to all who wait."""
        self.value = value
        self.ready.set()


async def increment(x: int) -> int:
    """One more."""
    return x + 1


async def total(xs: Sequence[int]) -> int:
    """The sum."""
    return sum(xs)


async def _one(source: Slot, target: Slot) -> None:
    target.put(await increment(await source.get()))


async def _join(sources: Sequence[Slot], target: Slot) -> None:
    target.put(await total([await source.get() for source in sources]))


async def _diamond(x: int) -> int:
    start, head, end = Slot(), Slot(), Slot()
    arms = [Slot() for _ in range(WIDTH)]
    start.put(x)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_one, start, head)
        for arm in arms:
            nursery.start_soon(_one, head, arm)
        nursery.start_soon(_join, arms, end)
    return end.value


async def _chain(x: int) -> int:
    slots = [Slot() for _ in range(11)]
    slots[0].put(x)
    async with trio.open_nursery() as nursery:
        for source, target in itertools.pairwise(slots):
            nursery.start_soon(_one, source, target)
    return slots[-1].value


def diamond(runs: int) -> Taken:
    """The time for so many diamonds."""
    return trio.run(_seconds, _diamond, runs, 24)


def chain(runs: int) -> Taken:
    """The time for so many chains."""
    return trio.run(_seconds, _chain, runs, 11)


async def _seconds(run: Callable[[int], Awaitable[int]], runs: int, expected: int) -> Taken:
    if (found := await run(1)) != expected:
        raise AssertionError(f"the shape gave {found}, not {expected}")
    watch = Stopwatch()
    for _ in range(runs):
        await run(1)
    return watch.taken()
