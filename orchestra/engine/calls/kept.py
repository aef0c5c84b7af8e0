"""Objects that steps keep open between runs, such as a client or a pool: one per engine.

Rules of the file: an object is opened in a task of the engine's own, and closed there, since a
cancel scope in it has to be left in the task that entered it. Until it is open it can be cancelled;
from then on it is shielded, so that it is closed after the last run, within a bounded time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar, cast

import trio

from orchestra.errors import DefinitionError, LimitExceededError
from orchestra.graph.calls.raised import message_of
from orchestra.groups import abandon_nurseries, parted

log = logging.getLogger("orchestra.engine")

T = TypeVar("T")
Opened = Callable[[], AbstractAsyncContextManager[T]]

KEPT_MAX = 1000
"""Objects open at once. Code that needs more usually makes a new function for each run."""
CLOSE_S = 0.5
"""How long closing all of them may take: a server has three seconds to shut down."""


class Kept:
    """The objects kept open in one engine. `nursery` is the engine's."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._variables = copy_context()
        self._open: dict[object, _Holding] = {}
        self._closing = trio.Event()
        self.instead: Mapping[Opened[Any], Opened[Any]] = {}
        """What is opened in place of what a step asks for, in a test."""

    async def get(self, opened: Opened[T]) -> T:
        """The value of the context manager `opened()`, which is opened on first use.

        Later callers wait until it is open. If opening fails, all of them get the same error.
        The next caller after a failure, at opening or later, opens it again.

        Raises:
            DefinitionError: `opened()` does not return an async context manager.
            LimitExceededError: `KEPT_MAX` others are open.
            Exception: whatever opening it raises.
        """
        opened = self.instead.get(opened, opened)
        found = self._open.get(opened)
        if found is None:
            if len(self._open) >= KEPT_MAX:
                raise LimitExceededError(
                    f"kept({opened!r:.200}): {KEPT_MAX} objects are kept open, which is the limit; "
                    "they are identified by the function that opens them, so pass a function of a "
                    "module, and not a new one in each call",
                    limit="kept_max",
                )
            name, found = repr(opened), _Holding()  # `repr` may raise, so it comes first
            self._open[opened] = found
            hold = partial(self._hold, opened, found)
            self._variables.run(partial(self._nursery.start_soon, hold, name=name))
        await found.ready.wait()
        if found.error is not None:
            raise found.error
        return cast("T", found.value)

    def close(self) -> None:
        """Close all of them; called after the last run."""
        self._closing.set()

    async def wait_closed(self) -> None:
        """Wait until none is open; called after `close`."""
        while self._open:
            await next(iter(self._open.values())).gone.wait()

    async def _hold(self, opened: Opened[Any], holding: _Holding) -> None:
        name = f"the object kept open by {opened!r:.200}"
        try:
            with trio.CancelScope() as scope:
                async with _manager(opened) as holding.value:
                    scope.shield = True
                    holding.ready.set()
                    await self._closing.wait()
                    scope.deadline = trio.current_time() + CLOSE_S
        except BaseException as error:  # noqa: ASYNC103 - `onward` is re-raised
            holding.error, onward = parted(error)
            if holding.error is not None and holding.ready.is_set():  # no caller gets the error
                log.exception("%s failed: %s", name, message_of(holding.error))
            if onward is not None:
                raise onward from onward.__cause__  # noqa: ASYNC104 - as above
        finally:
            del self._open[opened]
            if not holding.ready.is_set() and holding.error is None:
                holding.error = trio.ClosedResourceError(
                    f"{name} was not open when the engine closed"
                )
            holding.ready.set()
            holding.gone.set()
            abandon_nurseries()


def _manager(opened: Opened[T]) -> AbstractAsyncContextManager[T]:
    """The context manager that `opened()` returns. Raises DefinitionError for anything else."""
    found: object = opened()
    if hasattr(type(found), "__aenter__"):
        return cast("AbstractAsyncContextManager[T]", found)
    if isinstance(found, Coroutine):
        found.close()
    raise DefinitionError(
        f"context.kept({opened!r:.200}): it returned {found!r:.200}, which `async with` cannot "
        "open; write a function with one `yield` under @asynccontextmanager of contextlib, or a "
        "class such as httpx.AsyncClient"
    )


class _Holding:
    """One kept object: opening, open, or failed."""

    __slots__ = ("error", "gone", "ready", "value")

    def __init__(self) -> None:
        self.ready = trio.Event()
        self.gone = trio.Event()
        self.value: object = None
        self.error: Exception | None = None
