"""What every contender is asked to do with a provider, on Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import trio

from benchmarks.stopwatch import Stopwatch, Taken

QUESTION = "What is the meaning of this?"
LIMIT_S = 60.0
Ask: TypeAlias = Callable[[], Awaitable[int]]
"""Asks, reads the whole stream, and tells how many pieces of text came."""
Asking: TypeAlias = Callable[[str], AbstractAsyncContextManager[Ask]]


def taken(asking: Asking, base_url: str, streams: int, texts: int) -> Taken:
    """The time for so many streams at once, of so many pieces of text each.

    Raises:
        trio.TooSlowError: it took over a minute.
    """
    return trio.run(_taken, asking, base_url, streams, texts)


async def _taken(asking: Asking, base_url: str, streams: int, texts: int) -> Taken:
    async def one() -> None:
        found = await ask()
        if found != texts:
            raise AssertionError(f"{found} pieces of text arrived, not {texts}")

    with trio.fail_after(LIMIT_S):
        async with asking(base_url) as ask:
            watch = Stopwatch()
            async with trio.open_nursery() as nursery:
                for _ in range(streams):
                    nursery.start_soon(one)
            return watch.taken()
    raise AssertionError("fail_after has not failed")
