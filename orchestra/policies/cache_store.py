"""A state as a cache uses it: bounded in time, and when it is away, empty."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from orchestra.errors import ModelError, StateError
from orchestra.protocols import State

T = TypeVar("T")
STATE_WAIT_S = 0.05
"""For so long a call waits for the state, each time; then it goes on without."""

log = logging.getLogger("orchestra.cache")


class CacheStore:
    """Where the cache called `name` keeps its entries, each for `ttl_s` seconds."""

    def __init__(self, state: State, name: str, ttl_s: float) -> None:
        self.state = state
        self.name = name
        self.ttl_s = ttl_s
        self._away: set[str] = set()

    async def recall(self, key: str) -> bytes | None:
        """What is kept under a key; None also if the state cannot tell."""
        if self.state.at_once:
            return await self.state.recall(key)
        return await self.bounded(lambda: self.state.recall(key), None)

    async def remember(self, key: str, data: bytes) -> None:
        """Keep this, if the state can. Cancelled, it is kept as a whole or not at all."""
        if self.state.at_once:
            return await self.state.remember(key, data, ttl_s=self.ttl_s)
        return await self.bounded(lambda: self.state.remember(key, data, ttl_s=self.ttl_s), None)

    async def bounded(
        self,
        act: Callable[[], Awaitable[T]],
        otherwise: T,
        *,
        limit_s: float = STATE_WAIT_S,
        what: str = "state",
    ) -> T:
        """What this gives, within its time; of several failures in a row, the first is told."""
        reason = f"it did not answer within {limit_s:g} s"
        with trio.move_on_after(limit_s):
            try:
                found = await act()
            except (StateError, ModelError) as error:
                reason = str(error)
            else:
                self._away.discard(what)
                return found
        if what not in self._away:
            self._away.add(what)
            log.warning("the cache of %s goes on without its %s: %s", self.name, what, reason)
        return otherwise
