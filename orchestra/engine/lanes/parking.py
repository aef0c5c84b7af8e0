"""Parking: calls a function just before the task waits, each time.

The theory: a coroutine that waits yields through all its callers to the run loop of Trio. A
caller in between sees each yield before the run loop does, and can act at that moment: chunks
that came without waiting are still together, and no other task has to be woken for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


@coroutine
def parking(awaited: Awaitable[T], before: Callable[[], None]) -> Generator[Any, Any, T]:
    """Await something, and call `before` each time the task is about to wait.

    Otherwise this is like awaiting directly. `before` must not raise, wait, or wake this task,
    which does not wait yet.
    """
    inner: Any = awaited.__await__()
    try:
        trap = inner.send(None)
        while True:  # `yield from`, with the call of `before`
            before()
            try:
                answer = yield trap
            except BaseException as error:  # noqa: ASYNC103, BLE001 - for the inner coroutine
                trap = inner.throw(error)
            else:
                trap = inner.send(answer)
    except StopIteration as done:
        found: T = done.value
        return found
    finally:
        answer = None  # an outcome may hold a Cancelled, whose traceback holds this frame
