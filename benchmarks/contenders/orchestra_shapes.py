"""orchestra: a pipeline, planned once, run by an open engine; with its journal, as always."""

from __future__ import annotations

import trio

from benchmarks.stopwatch import Stopwatch, Taken
from orchestra import Pipeline, open_engine, pipeline, step

WIDTH = 8


@step
async def increment(x: int) -> int:
    """One more."""
    return x + 1


@step
async def total(xs: list[int]) -> int:
    """The sum."""
    return sum(xs)


@pipeline
def one_eight_one(x: int) -> int:
    """A diamond of ten steps."""
    head = increment(x)
    return total([increment(head) for _ in range(WIDTH)])


@pipeline
def ten(x: int) -> int:
    """A chain of ten steps."""
    for _ in range(10):
        x = increment(x)
    return x


def diamond(runs: int) -> Taken:
    """The time for so many diamonds."""
    return trio.run(_seconds, one_eight_one, runs, 24)


def chain(runs: int) -> Taken:
    """The time for so many chains."""
    return trio.run(_seconds, ten, runs, 11)


async def _seconds(shape: Pipeline[[int], int], runs: int, expected: int) -> Taken:
    async with open_engine() as engine:
        # The first run also plans it; the plan is kept, as the peers keep what they compiled.
        if (found := await engine.run(shape, 1)) != expected:
            raise AssertionError(f"the shape gave {found}, not {expected}")
        watch = Stopwatch()
        for _ in range(runs):
            await engine.run(shape, 1)
        return watch.taken()
