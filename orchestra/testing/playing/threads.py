"""Threads in virtual time: a function runs in a thread while the whole run stands still.

A thread beside other tasks would end at a moment that no schedule determines. While this one
runs, nothing else does, so a run with threads is repeated exactly. This file uses private parts
of Trio, as `virtual` does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import wraps
from queue import SimpleQueue
from typing import Any, cast

import trio
from trio import _threads  # noqa: ASYNC106 - it is not public

_HERE = cast("Any", _threads.PARENT_TASK_DATA)  # read by `trio.from_thread`


class _NoWayBack:
    """Replaces the run that `trio.from_thread` would call back into."""

    def run_sync_soon(self, *_: object) -> None:
        raise RuntimeError(
            "a thread cannot call back into a simulated run with trio.from_thread.run or run_sync: "
            "the run stands still until the thread has ended; make the step `async def`, or "
            "script it. trio.from_thread.check_cancelled() works"
        )


def standing_still(call: Callable[..., object]) -> Callable[..., object]:
    """Wrap a function so that it runs in a thread, for which the caller waits without yielding.

    The thread has the context variables of the caller, and may run its own event loop, Trio's or
    asyncio's. `trio.from_thread.check_cancelled` never raises: nothing can cancel meanwhile.
    """

    @wraps(call)  # which also keeps its signature
    def called(*args: object, **kwargs: object) -> object:
        variables, done = copy_context(), SimpleQueue[Any]()

        def work() -> object:
            _HERE.token, _HERE.abandon_on_cancel = _NoWayBack(), True  # so that the token is used
            _HERE.cancel_register = [None]  # not cancelled
            try:
                return variables.run(call, *args, **kwargs)
            finally:
                del _HERE.token, _HERE.abandon_on_cancel, _HERE.cancel_register

        trio.lowlevel.start_thread_soon(work, done.put)
        return done.get().unwrap()

    return called
