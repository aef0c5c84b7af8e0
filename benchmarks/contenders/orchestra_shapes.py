"""orchestra: a pipeline, planned once, run by an open engine; with its journal, as always."""

from __future__ import annotations

from time import perf_counter

import trio

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


def diamond(runs: int) -> float:
    """Seconds for so many diamonds."""
    return trio.run(_seconds, one_eight_one, runs, 24)


def chain(runs: int) -> float:
    """Seconds for so many chains."""
    return trio.run(_seconds, ten, runs, 11)


async def _seconds(shape: Pipeline[[int], int], runs: int, expected: int) -> float:
    async with open_engine() as engine:
        # The first run also plans it; the plan is kept, as the peers keep what they compiled.
        if (found := await engine.run(shape, x=1)) != expected:
            raise AssertionError(f"the shape gave {found}, not {expected}")
        began = perf_counter()
        for _ in range(runs):
            await engine.run(shape, x=1)
        return perf_counter() - began
