"""Calls from another thread into a portal's Trio.

The caller, a thread or a task of asyncio's, may be interrupted while it waits: by Ctrl-C, or by a
cancellation. Then the call is cancelled, and the caller waits until it has ended.
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
    from orchestra.portal.portal import TrioSide

T = TypeVar("T")


class CrossThreadCall(Generic[T]):
    """A call of `work`, an async function, in a portal's Trio."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._scope = trio.CancelScope()
        self._done: Future[T] = Future()

    async def perform(self) -> None:
        """Call `work` and keep its outcome; in Trio."""
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
        """Fail the call, since the portal is closed."""
        self._done.set_exception(closed())

    def wait(self, trio_side: TrioSide) -> T:
        """What `work` returns, for which this thread waits.

        Raises:
            RunError: the portal was closed.
            KeyboardInterrupt: Ctrl-C, once the call has ended; a second Ctrl-C does not wait.
            BaseException: what `work` raised.
        """
        try:
            trio_side.begin(self)
            wait([self._done])
        except BaseException:
            trio_side.call_soon(self._scope.cancel)
            wait([self._done])
            raise
        return self._done.result()

    async def wait_async(self, trio_side: TrioSide) -> T:
        """As `wait`, in a task of asyncio's, without blocking its event loop.

        Raises:
            asyncio.CancelledError: the task was cancelled, and the call has ended; a second
                cancellation does not wait.
        """
        trio_side.begin(self)
        try:
            await future_in_loop(self._done)
        except asyncio.CancelledError:
            trio_side.call_soon(self._scope.cancel)
            await future_in_loop(self._done)  # noqa: ASYNC102 - asyncio's: another cancellation ends it
            raise
        return self._done.result()


def future_in_loop(done: Future[Any]) -> asyncio.Future[None]:
    """A future of the running loop that is done when `done` is."""
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
    """The error of a call to a portal that is closed."""
    return RunError(
        "the portal is closed: ask it within `with orchestra.open_portal() as portal:`, which goes "
        "around the program's whole life"
    )
