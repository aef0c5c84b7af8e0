"""Calls from another thread into the Trio thread of a portal.

The caller, a thread or an asyncio task, may be interrupted while it waits: by Ctrl-C, or by
cancellation. The call is then cancelled, and the caller waits until the call has ended.
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
    from orchestra.portal.trio_side import TrioSide

T = TypeVar("T")


class CrossThreadCall(Generic[T]):
    """A call of the async function `work` in the Trio thread of a portal."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._scope = trio.CancelScope()
        self._done: Future[T] = Future()

    async def perform(self) -> None:
        """Call `work` and store its outcome; runs in the Trio thread."""
        try:
            with self._scope:
                self._done.set_result(await self._work())
        except trio.Cancelled:
            self._done.set_exception(closed())
            raise
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting caller
            self._done.set_exception(error)
        else:
            if self._scope.cancelled_caught:
                self._done.set_exception(RunCancelledError("its caller stopped waiting for it"))

    def refuse(self) -> None:
        """Fail the call, since the portal is closed."""
        self._done.set_exception(closed())

    def wait(self, trio_side: TrioSide) -> T:
        """Block this thread until the call has ended; return what `work` returned.

        Raises:
            RunError: the portal was closed; or this is the thread of a step that it runs.
            KeyboardInterrupt: on Ctrl-C, once the call has ended; a second Ctrl-C does not wait.
            BaseException: whatever `work` raised.
        """
        _refuse_lent_thread(trio_side.token)
        try:
            trio_side.begin(self)
            wait([self._done])
        except BaseException:
            trio_side.call_soon(self._scope.cancel)
            wait([self._done])
            raise
        return self._done.result()

    async def wait_async(self, trio_side: TrioSide) -> T:
        """Like `wait`, but for an asyncio task: does not block its event loop.

        Raises:
            RunError: as of `wait`.
            asyncio.CancelledError: the task was cancelled; raised once the call has ended, or
                at once on a second cancellation.
        """
        _refuse_lent_thread(trio_side.token)
        trio_side.begin(self)
        try:
            await future_in_loop(self._done)
        except asyncio.CancelledError:
            trio_side.call_soon(self._scope.cancel)
            await future_in_loop(self._done)  # noqa: ASYNC102 - asyncio's: another cancellation ends it
            raise
        return self._done.result()


def future_in_loop(done: Future[Any]) -> asyncio.Future[None]:
    """An asyncio future of the running event loop that completes when `done` does."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def arrived() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def tell(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # the event loop was closed: nobody is waiting
            loop.call_soon_threadsafe(arrived)

    done.add_done_callback(tell)
    return waiter


def closed() -> RunError:
    """The error of a call to a portal that is closed."""
    return RunError(
        "the portal is closed: use it inside `with orchestra.open_portal() as portal:`, and keep "
        "that block open for as long as the program runs"
    )


def _refuse_lent_thread(token: trio.lowlevel.TrioToken) -> None:
    """Refuse a call in a thread that works for a task of that run of Trio.

    Steps with `thread=True` that wait for other runs of the same engine hold their threads
    meanwhile; if enough of them wait, no thread is left for the runs that they wait for.

    Raises:
        RunError: this is such a thread.
    """
    try:
        here = trio.from_thread.run_sync(trio.lowlevel.current_trio_token)
    except RuntimeError:  # not a thread of Trio's, or its Trio has ended
        return
    if here is token:
        raise RunError(
            "a portal cannot be called in a step or tool that it runs, also with thread=True: they "
            "would hold all threads while they wait; write `trio.from_thread.run(partial("
            "context.run, pipeline, ...))`, which lends this thread to the pipeline"
        )
