"""LangChain LCEL: `RunnableGenerator`s piped together and read with `astream`.

Its generators pull one from the other in one task: there is no channel and nothing
runs at the same time, so this is the price of less.
"""

# The peers are installed for a benchmark only; where they are not, mypy has nothing to read.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableGenerator

from benchmarks.stopwatch import Stopwatch, Taken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def _source(sizes: AsyncIterator[int]) -> AsyncIterator[int]:
    async for size in sizes:
        for chunk in range(size):
            yield chunk


async def _trickle(sizes: AsyncIterator[int]) -> AsyncIterator[int]:
    async for size in sizes:
        for chunk in range(size):
            yield chunk
            await asyncio.sleep(0)


async def _passes(chunks: AsyncIterator[int]) -> AsyncIterator[int]:
    async for chunk in chunks:
        yield chunk


def relay(chunks: int) -> Taken:
    """The time for the chunks to cross four edges: three between steps, one to the reader."""
    return asyncio.run(_seconds(_four_edges(_source), chunks))


def alone(chunks: int) -> Taken:
    """The time for the chunks to cross four edges one by one."""
    return asyncio.run(_seconds(_four_edges(_trickle), chunks))


def _four_edges(source: Any) -> Any:
    piped: Any = RunnableGenerator(source)
    for _ in range(3):
        piped = piped | RunnableGenerator(_passes)
    return piped


def output(chunks: int) -> Taken:
    """The time for the chunks to reach a reader from the step that makes them."""
    return asyncio.run(_seconds(RunnableGenerator(_source), chunks))


async def _seconds(runnable: Any, chunks: int) -> Taken:
    watch = Stopwatch()
    found = 0
    async for _ in runnable.astream(chunks):
        found += 1
    if found != chunks:
        raise AssertionError(f"{found} chunks arrived, not {chunks}")
    return watch.taken()
