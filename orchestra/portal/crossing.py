"""Crossing: one thing that is done in a portal's Trio, and waited for in another thread.

Whoever waits, in a thread or in a task of asyncio's, is stopped as they are everywhere: by Ctrl-C,
or by a cancellation. What they wait for is then cancelled, and they wait until it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from orchestra.errors import RunCancelledError, RunError

if TYPE_CHECKING:
    from orchestra.portal.portal import Inside

T = TypeVar("T")


class Crossing(Generic[T]):
    """What is done is `work`, an async function of Trio's."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._scope = trio.CancelScope()
        self._done: Future[T] = Future()

    async def perform(self) -> None:
        """Do it; in Trio."""
        try:
            with self._scope:
                self._done.set_result(await self._work())
        except trio.Cancelled:
            self._done.set_exception(closed())
            raise
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._done.set_exception(error)
        else:
            if self._scope.cancelled_caught:
                self._done.set_exception(RunCancelledError("nobody waits for it any more"))

    def refuse(self) -> None:
        """It is not done, since the portal is closed."""
        self._done.set_exception(closed())

    def wait(self, inside: Inside) -> T:
        """Have it done, and wait in this thread: what came of it.

        Raises:
            RunError: the portal was closed.
            KeyboardInterrupt: Ctrl-C, once it has ended; another Ctrl-C does not wait for that.
            BaseException: what was raised in it.
        """
        try:
            inside.begin(self)
            wait([self._done])
        except BaseException:
            inside.soon(self._scope.cancel)
            wait([self._done])
            raise
        return self._done.result()

    async def arrive(self, inside: Inside) -> T:
        """As `wait`, in a task of asyncio's, of which nothing else is held up.

        Raises:
            asyncio.CancelledError: the task was cancelled, and it has ended; another does not wait.
        """
        inside.begin(self)
        try:
            await future_in_loop(self._done)
        except asyncio.CancelledError:
            inside.soon(self._scope.cancel)
            await future_in_loop(self._done)  # noqa: ASYNC102 - asyncio's: another cancellation ends it
            raise
        return self._done.result()


def future_in_loop(done: Future[Any]) -> asyncio.Future[None]:
    """What is done, in the running loop, when this is."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def arrived() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def tell(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop was closed, and nobody waits
            loop.call_soon_threadsafe(arrived)

    done.add_done_callback(tell)
    return waiter


def closed() -> RunError:
    """What those hear who ask a portal that is closed."""
    return RunError(
        "the portal is closed: ask it within `with orchestra.open_portal() as portal:`, which goes "
        "around the program's whole life"
    )
