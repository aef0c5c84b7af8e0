"""LangChain LCEL: `RunnableLambda`s piped together, a `RunnableParallel` in the middle."""

# The peers are installed for a benchmark only; where they are not, mypy has nothing to read.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.runnables import RunnableLambda, RunnableParallel

from benchmarks.stopwatch import Stopwatch, Taken

WIDTH = 8


async def _increment(x: int) -> int:
    return x + 1


async def _total(found: dict[str, int]) -> int:
    return sum(found.values())


def _step() -> Any:
    return RunnableLambda(_increment)


def diamond(runs: int) -> Taken:
    """The time for so many diamonds."""
    middle: Any = RunnableParallel({f"arm{n}": _step() for n in range(WIDTH)})
    return asyncio.run(_seconds(_step() | middle | RunnableLambda(_total), runs, 24))


def chain(runs: int) -> Taken:
    """The time for so many chains."""
    piped = _step()
    for _ in range(9):
        piped = piped | _step()
    return asyncio.run(_seconds(piped, runs, 11))


async def _seconds(runnable: Any, runs: int, expected: int) -> Taken:
    if (found := await runnable.ainvoke(1)) != expected:
        raise AssertionError(f"the shape gave {found}, not {expected}")
    watch = Stopwatch()
    for _ in range(runs):
        await runnable.ainvoke(1)
    return watch.taken()
