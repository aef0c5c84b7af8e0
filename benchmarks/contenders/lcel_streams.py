"""LangChain LCEL: `RunnableGenerator`s piped together and read with `astream`.

Its generators pull one from the other in one task: there is no channel and nothing
runs at the same time, so this is the price of less.
"""

# The peers are installed for a benchmark only; where they are not, mypy has nothing to read.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableGenerator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def _source(sizes: AsyncIterator[int]) -> AsyncIterator[int]:
    async for size in sizes:
        for chunk in range(size):
            yield chunk


async def _passes(chunks: AsyncIterator[int]) -> AsyncIterator[int]:
    async for chunk in chunks:
        yield chunk


def relay(chunks: int) -> float:
    """Seconds for the chunks to cross four edges: three between steps, one to the reader."""
    piped: Any = RunnableGenerator(_source)
    for _ in range(3):
        piped = piped | RunnableGenerator(_passes)
    return asyncio.run(_seconds(piped, chunks))


def output(chunks: int) -> float:
    """Seconds for the chunks to reach a reader from the step that makes them."""
    return asyncio.run(_seconds(RunnableGenerator(_source), chunks))


async def _seconds(runnable: Any, chunks: int) -> float:
    began = perf_counter()
    found = 0
    async for _ in runnable.astream(chunks):
        found += 1
    if found != chunks:
        raise AssertionError(f"{found} chunks arrived, not {chunks}")
    return perf_counter() - began
