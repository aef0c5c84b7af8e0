"""What steps keep open from one run to the next, such as a client or a pool: once in an engine.

Rules of the file: it is opened in a task of the engine's own, and closed there, since a cancel
scope in it has to be left in the task that has entered it. Until it is open it can be cancelled;
from then on it is shielded, so that it closes behind the last run, in a time that is bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar, cast

import trio

from orchestra.errors import DefinitionError, LimitExceededError
from orchestra.graph.calls.raised import message_of
from orchestra.groups import parted

log = logging.getLogger("orchestra.engine")

T = TypeVar("T")
Opened = Callable[[], AbstractAsyncContextManager[T]]

KEPT_MAX = 1000
"""Things that are open at once. Who has so many makes a new function for each run."""
CLOSE_S = 0.5
"""How long the closing of all of them may take: a server has three seconds for its whole end."""


class Kept:
    """What is kept open in one engine. `nursery` is the engine's."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._variables = copy_context()
        self._open: dict[object, _Holding] = {}
        self._closing = trio.Event()

    async def get(self, opened: Opened[T]) -> T:
        """What the context manager gives that `opened()` is; opened for the first who asks.

        Whoever asks meanwhile waits for that, and is raised the same error where it fails; the
        next who asks after that opens it anew, as where it has ended by itself.

        Raises:
            DefinitionError: it gives no async context manager.
            LimitExceededError: `KEPT_MAX` others are open.
            Exception: whatever it raises while it opens.
        """
        found = self._open.get(opened)
        if found is None:
            if len(self._open) >= KEPT_MAX:
                raise LimitExceededError(
                    f"{KEPT_MAX} things are kept open, and {opened!r:.200} would be one more: they "
                    "are told apart by the function that opens them; give a function of a module",
                    limit="kept_max",
                )
            found = self._open[opened] = _Holding()
            hold = partial(self._hold, opened, found)
            self._variables.run(partial(self._nursery.start_soon, hold, name=repr(opened)))
        await found.ready.wait()
        if found.error is not None:
            raise found.error
        return cast("T", found.value)

    def close(self) -> None:
        """Close all of them: behind the last run."""
        self._closing.set()

    async def wait_closed(self) -> None:
        """Wait until none is open: behind `close`."""
        while self._open:
            await next(iter(self._open.values())).gone.wait()

    async def _hold(self, opened: Opened[Any], holding: _Holding) -> None:
        name = f"what {opened!r:.200} keeps open"
        try:
            with trio.CancelScope() as scope:
                async with _manager(opened) as holding.value:
                    scope.shield = True
                    holding.ready.set()
                    await self._closing.wait()
                    scope.deadline = trio.current_time() + CLOSE_S
        except BaseException as error:  # noqa: ASYNC103 - what is onward is raised
            holding.error, onward = parted(error)
            if holding.error is not None and holding.ready.is_set():  # nobody else is told of it
                log.exception("%s failed: %s", name, message_of(holding.error))
            if onward is not None:
                raise onward from onward.__cause__  # noqa: ASYNC104 - as above
        finally:
            del self._open[opened]
            if not holding.ready.is_set() and holding.error is None:
                holding.error = trio.ClosedResourceError(f"{name} was not open yet at the end")
            holding.ready.set()
            holding.gone.set()


def _manager(opened: Opened[T]) -> AbstractAsyncContextManager[T]:
    """The context manager that it gives. Raises DefinitionError where it is none."""
    found: object = opened()
    if hasattr(type(found), "__aenter__"):
        return cast("AbstractAsyncContextManager[T]", found)
    if isinstance(found, Coroutine):
        found.close()
    raise DefinitionError(
        f"context.kept({opened!r:.200}): it gives {found!r:.200}, which `async with` cannot open; "
        "write a function with one `yield` under @asynccontextmanager of contextlib, or a class "
        "such as httpx.AsyncClient"
    )


class _Holding:
    """One of them: opening, open, or failed."""

    __slots__ = ("error", "gone", "ready", "value")

    def __init__(self) -> None:
        self.ready = trio.Event()
        self.gone = trio.Event()
        self.value: object = None
        self.error: Exception | None = None
