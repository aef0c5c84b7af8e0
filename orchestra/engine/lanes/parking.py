"""Parking: doing something in the moment before a task waits, whenever it does.

The theory: a coroutine that waits yields to whoever drives it, and in Trio that is nobody but the
run loop, through all that awaits it. So whoever stands in between sees each yield before the run
loop does, and may do what is best done now: what has come without waiting is still together, and
no other task has to be woken to do it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


@coroutine
def parking(awaited: Awaitable[T], before: Callable[[], None]) -> Generator[Any, Any, T]:
    """Awaits something, and calls `before` whenever it is about to wait; never, if it does not.

    In all else it is as if that was awaited itself. `before` must not raise, nor wait.
    """
    inner: Any = awaited.__await__()
    try:
        trap = inner.send(None)
        while True:  # `yield from`, but for one line
            before()
            try:
                answer = yield trap
            except BaseException as error:  # noqa: ASYNC103, BLE001 - it is for the one inside
                trap = inner.throw(error)
            else:
                trap = inner.send(answer)
    except StopIteration as done:
        found: T = done.value
        return found
