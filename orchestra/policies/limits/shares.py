"""Shares: places that are used for long, of which one tenant never has all.

Threads and processes cannot be interrupted, so a first tenant could keep all others waiting.
Here a tenant that has its share waits in its own line, so no more of its tasks than its share
wait for the places themselves.

Rules of the file: a tenant has a line as long as one of its tasks is in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio


@attrs.define(eq=False)
class _Share:
    """The share of one tenant, and the number of its tasks that have it or wait for it."""

    places: trio.CapacityLimiter
    tasks: int = 0


class Shares:
    """`most` places, of which each tenant may take `each`."""

    def __init__(self, most: int, each: int) -> None:
        self.places = trio.CapacityLimiter(most)
        self._each = each
        self._shares: dict[str, _Share] = {}

    @classmethod
    def of_threads(cls) -> Shares:
        """As many places as Trio has threads; one tenant with stuck threads leaves others some."""
        return cls(40, 30)

    def __len__(self) -> int:
        """The number of tenants."""
        return len(self._shares)

    @asynccontextmanager
    async def share(self, tenant: str) -> AsyncIterator[trio.CapacityLimiter]:
        """Wait for the tenant's share; inside the context, wait for the place itself.

        Tasks are served in order. Cancelled, nothing is taken.
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
    """Shares of their own for each run of Trio, made on first use."""

    def __init__(self, name: str, make: Callable[[], Shares]) -> None:
        self._made: trio.lowlevel.RunVar[Shares] = trio.lowlevel.RunVar(name)
        self._make = make

    def get(self) -> Shares:
        """The shares of this run of Trio."""
        try:
            return self._made.get()
        except LookupError:
            made = self._make()
            self._made.set(made)
            return made
