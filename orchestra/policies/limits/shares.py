"""Shares: of places that are taken for long, one tenant never has all.

Threads and processes cannot be hurried, so whoever is there first could keep all others waiting.
Here a tenant who has its share waits in a line of its own, and those who wait for a place itself
are never more than their shares.

Rules of the file: a tenant has a line as long as one of its tasks is in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio


@attrs.define(eq=False)
class _Share:
    """What one tenant may take, and how many of its tasks have it or wait for it."""

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
        """As many as Trio's own for a whole process: whose threads are stuck leaves others some."""
        return cls(40, 30)

    def __len__(self) -> int:
        """How many tenants are there."""
        return len(self._shares)

    @asynccontextmanager
    async def share(self, tenant: str) -> AsyncIterator[trio.CapacityLimiter]:
        """Wait for one of a tenant's share; the places are to be waited for in it.

        Who waits is served in turn. Cancelled, nothing is taken.
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
    """Shares that each run of Trio has of its own, made when they are first asked for."""

    def __init__(self, name: str, make: Callable[[], Shares]) -> None:
        self._made: trio.lowlevel.RunVar[Shares] = trio.lowlevel.RunVar(name)
        self._make = make

    def get(self) -> Shares:
        """Those of this run."""
        try:
            return self._made.get()
        except LookupError:
            made = self._make()
            self._made.set(made)
            return made
