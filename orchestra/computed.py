"""CPU work whose size the client controls; large work runs in a worker thread.

Work in the event loop blocks every other run of the process. A megabyte of JSON may hold 65,000
messages, which take 0.1 s to read.

Rules of the file: in one run of Trio, at most one piece of large work runs in a thread, and beside
it at most one that calls the pipelines' own code: that code may take any time, so other work must
not queue behind it. Python runs one thread at a time, so more threads would finish no sooner, and
would slow down the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")

LARGE_BYTES = 64 * 1024
"""A longer body counts as large. Reading one of this size takes up to 8 ms; but up to 40 ms if it
is of classes whose `__init__` has to be called, and wrong."""


async def computed(work: Callable[[], T], *, large: bool, pipeline_code: bool = False) -> T:
    """Run `work` and return its result: at once, without a checkpoint, or in a thread if `large`.

    `pipeline_code` says that `work` calls the pipelines' own code, which may be slow. If this is
    cancelled, it returns at once; the thread ends later, and its result is dropped.
    """
    if not large:
        return work()
    turns = _TURNS.get()
    if turns is None:
        _TURNS.set(turns := (trio.CapacityLimiter(1), trio.CapacityLimiter(1)))
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=turns[pipeline_code])


_TURNS: trio.lowlevel.RunVar[tuple[trio.CapacityLimiter, ...] | None] = trio.lowlevel.RunVar(
    "orchestra.computed", None
)
