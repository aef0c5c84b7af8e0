"""Shares of places (threads, processes) that are held for long: no tenant can take all of them.

Threads and processes cannot be interrupted, so one tenant could keep all others waiting. Here, a
tenant that has its share waits in its own line, so the tasks of a tenant that hold a place, or
wait for one, are never more than its share.

Rules of the file: a tenant's line exists as long as one of its tasks uses it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

import attrs
import trio

T = TypeVar("T")

LENT: ContextVar[trio.CapacityLimiter | None] = ContextVar("orchestra_lent_thread", default=None)
"""The thread of a function that waits for the current task, in place of a share of threads.

A pipeline that a function runs from its thread may have functions in threads, too. Were all threads
held by functions that wait for pipelines, none of those would get another.
"""


@attrs.define(eq=False)
class _Share:
    """The share of one tenant, and the number of its tasks that hold a part or wait for one."""

    places: trio.CapacityLimiter
    tasks: int = 0


class Shares:
    """`most` places, of which each tenant may take at most `each`."""

    def __init__(self, most: int, each: int) -> None:
        self.places = trio.CapacityLimiter(most)
        self._each = each
        self._shares: dict[str, _Share] = {}

    @classmethod
    def of_threads(cls) -> Shares:
        """As many places as Trio has worker threads; a tenant with stuck threads leaves some."""
        return cls(40, 30)

    def __len__(self) -> int:
        """The number of tenants that hold places, or wait for them."""
        return len(self._shares)

    @asynccontextmanager
    async def share(self, tenant: str) -> AsyncIterator[trio.CapacityLimiter]:
        """Wait for the tenant's share; inside the context, acquire a place from the limiter.

        The tasks of a tenant are served in order. If cancelled while waiting, nothing is taken.
        """
        share = self._shares.get(tenant)
        if share is None:
            share = self._shares[tenant] = _Share(trio.CapacityLimiter(self._each))
        share.tasks += 1
        try:
            async with share.places:
                yield self.places
        finally:
            share.tasks -= 1
            if not share.tasks:
                del self._shares[tenant]


class OwnShares:
    """`Shares` for each `trio.run`, made on first use."""

    def __init__(self, name: str, make: Callable[[], Shares]) -> None:
        self._made: trio.lowlevel.RunVar[Shares] = trio.lowlevel.RunVar(name)
        self._make = make

    def get(self) -> Shares:
        """The shares of this `trio.run`."""
        try:
            return self._made.get()
        except LookupError:
            made = self._make()
            self._made.set(made)
            return made


async def in_thread(shares: Shares, tenant: str, function: Callable[[], T]) -> T:
    """Call a function in a thread: in a place of the tenant's share or, if there is one, in `LENT`.

    Raises:
        Exception: whatever the function raises.
    """
    lent = LENT.get()
    if lent is not None:
        return await trio.to_thread.run_sync(partial(_lending, function), limiter=lent)
    async with shares.share(tenant) as places:
        return await trio.to_thread.run_sync(partial(_lending, function), limiter=places)


def _lending(function: Callable[[], T]) -> T:
    """Call a function that lends its thread; in that thread's copy of the context variables."""
    LENT.set(trio.CapacityLimiter(1))
    return function()
