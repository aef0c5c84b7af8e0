"""The task of every contender with a provider, on Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import trio

from benchmarks.stopwatch import Stopwatch, Taken

QUESTION = "What is the meaning of this?"
LIMIT_S = 60.0
Ask: TypeAlias = Callable[[Callable[[], None]], Awaitable[int]]
"""Sends a request, reads the whole stream, and returns the number of text pieces; calls its
argument at the first.
"""
Asking: TypeAlias = Callable[[str], AbstractAsyncContextManager[Ask]]
"""Makes such a function for a base URL."""


def taken(
    asking: Asking, base_url: str, streams: int, texts: int, *, opened: bool = False
) -> Taken:
    """The time for so many streams at once, of so many pieces of text each.

    With `opened`, the time from when the last of them has begun.

    Raises:
        trio.TooSlowError: it took over a minute.
    """
    return trio.run(_taken, asking, base_url, streams, texts, opened)


async def _taken(asking: Asking, base_url: str, streams: int, texts: int, opened: bool) -> Taken:
    silent, watch = streams, Stopwatch()

    async def one() -> None:
        found = await ask(began)
        if found != texts:
            raise AssertionError(f"{found} pieces of text arrived, not {texts}")

    def began() -> None:
        nonlocal silent, watch
        silent -= 1
        if opened and not silent:
            watch = Stopwatch()

    with trio.fail_after(LIMIT_S):
        async with asking(base_url) as ask:
            watch = Stopwatch()
            async with trio.open_nursery() as nursery:
                for _ in range(streams):
                    nursery.start_soon(one)
            return watch.taken()
    raise AssertionError("fail_after has not failed")
