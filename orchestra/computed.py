"""Pure work whose size a client decides: large work is done in a thread.

While one step of the event loop lasts, every other run of the process waits for it. A megabyte of
JSON may be 65,000 messages, which take 0.1 s to read.

Rules of the file: in one run of Trio, one piece of work at a time is in a thread, beside one that
calls the pipelines' own classes: they may take any time, and nothing else waits for them. Python
runs one thread at a time, so more would end no sooner, and hold up the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")

LARGE_BYTES = 64 * 1024
"""A body beyond this is large: reading one of this size takes up to 8 ms."""


async def computed(work: Callable[[], T], *, large: bool, theirs: bool = False) -> T:
    """What `work` returns or raises: done at once, without a checkpoint, or in a thread if `large`.

    `theirs` says that it calls classes of the pipelines, which may be slow. If it is cancelled, the
    thread ends later, and its result is dropped.
    """
    if not large:
        return work()
    turns = _TURNS.get()
    if turns is None:
        _TURNS.set(turns := (trio.CapacityLimiter(1), trio.CapacityLimiter(1)))
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=turns[theirs])


_TURNS: trio.lowlevel.RunVar[tuple[trio.CapacityLimiter, ...] | None] = trio.lowlevel.RunVar(
    "orchestra.computed", None
)
