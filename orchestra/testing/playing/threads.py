"""Threads in virtual time: a function in a thread of its own, while the whole run stands still.

A thread that ran beside the others would end at a moment that no schedule decides. As long as
this one works nothing else does, and so a run with threads is repeated exactly. With
`virtual`, this is where we touch what is private in Trio.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import wraps
from queue import SimpleQueue
from typing import Any, cast

import trio
from trio import _threads  # noqa: ASYNC106 - it is not public

_HERE = cast("Any", _threads.PARENT_TASK_DATA)  # what `trio.from_thread` asks


class _NoWayBack:
    """What `trio.from_thread` takes for the run that a thread belongs to."""

    def run_sync_soon(self, *_: object) -> None:
        raise RuntimeError(
            "a thread cannot call back into a simulated run with trio.from_thread.run or run_sync: "
            "the run stands still until the thread has ended; make the step `async def`, or "
            "script it. trio.from_thread.check_cancelled() works"
        )


def standing_still(call: Callable[..., object]) -> Callable[..., object]:
    """The function, called in a thread of its own and waited for where it is called.

    The thread sees the context variables of the caller, and may run a loop of its own: Trio's or
    asyncio's. `trio.from_thread.check_cancelled` passes, since nobody can cancel meanwhile.
    """

    @wraps(call)  # which also keeps its signature
    def called(*args: object, **kwargs: object) -> object:
        variables, done = copy_context(), SimpleQueue[Any]()

        def work() -> object:
            _HERE.token, _HERE.abandon_on_cancel = _NoWayBack(), True  # so that it asks the token
            _HERE.cancel_register = [None]  # nobody has cancelled
            try:
                return variables.run(call, *args, **kwargs)
            finally:
                del _HERE.token, _HERE.abandon_on_cancel, _HERE.cancel_register

        trio.lowlevel.start_thread_soon(work, done.put)
        return done.get().unwrap()

    return called
