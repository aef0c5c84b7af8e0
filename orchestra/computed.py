"""Pure work whose size a client decides: large work is done in a thread.

While one step of the event loop lasts, every other run of the process waits for it. A megabyte of
JSON may be 65,000 messages, which take 0.1 s to read.

Rules of the file: in one run of Trio, one piece of work at a time is in a thread. Python runs one
thread at a time, so several would end no sooner, and the event loop would wait for each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")

LARGE_BYTES = 64 * 1024
"""A body beyond this is large: reading one of this size takes up to 8 ms."""


async def computed(work: Callable[[], T], *, large: bool) -> T:
    """What `work` returns or raises: done at once, without a checkpoint, or in a thread if `large`.

    If it is cancelled, the thread ends later, and its result is dropped.
    """
    if not large:
        return work()
    turn = _TURN.get()
    if turn is None:
        _TURN.set(turn := trio.CapacityLimiter(1))
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=turn)


_TURN: trio.lowlevel.RunVar[trio.CapacityLimiter | None] = trio.lowlevel.RunVar(
    "orchestra.computed", None
)
