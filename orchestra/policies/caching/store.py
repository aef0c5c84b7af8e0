"""A state as the store of a cache: bounded in time, and empty while it cannot be reached."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from operator import call
from typing import TypeVar

from orchestra.errors import BindingError
from orchestra.groups import in_order
from orchestra.policies.outages import Outages
from orchestra.protocols import State

T = TypeVar("T")
STATE_WAIT_S = 0.05
"""The longest wait for the state, each time, unless its own `timeout_s` is longer.

After it, the call continues without the cache.
"""

AT_ONCE = 32
"""How many entries are read or written concurrently, within the time limit of one."""
MISSED_MAX = 2
"""After this many late or failed groups in a row, the remaining entries are skipped."""

log = logging.getLogger("orchestra.cache")


class CacheStore:
    """The entries of the cache `name`, each kept for `ttl_s` seconds."""

    def __init__(self, state: State, name: str, ttl_s: float) -> None:
        self.state = state
        self.name = name
        self.ttl_s = ttl_s
        self._outages = Outages(log, f"the cache of {name}")

    async def recall(self, key: str) -> bytes | None:
        """The entry of a key; None if there is none, or the state does not answer."""
        if self.state.at_once:
            return await self.state.recall(key)
        return await self.bounded(lambda: self.state.recall(key))

    async def remember(self, key: str, data: bytes) -> None:
        """Store an entry, if the state answers. If cancelled, it is stored as a whole or not."""
        if self.state.at_once:
            return await self.state.remember(key, data, ttl_s=self.ttl_s)
        return await self.bounded(lambda: self.state.remember(key, data, ttl_s=self.ttl_s))

    async def recall_all(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The entries of these keys, without those for which the state does not answer."""
        found: dict[str, bytes] = {}

        async def recall(key: str) -> None:
            data = await self.state.recall(key)
            if data is not None:
                found[key] = data

        await self._each([partial(recall, key) for key in keys])
        return found

    async def remember_all(self, entries: Mapping[str, bytes]) -> None:
        """Store as many of these entries as the state accepts in time."""
        remember = partial(self.state.remember, ttl_s=self.ttl_s)
        await self._each([partial(remember, key, data) for key, data in entries.items()])

    async def _each(self, acts: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Run all of these, `AT_ONCE` together; stop when the state cannot be reached."""
        if self.state.at_once:
            for act in acts:
                await act()
            return
        missed = 0
        for begin in range(0, len(acts), AT_ONCE):
            together = partial(in_order, call, acts[begin : begin + AT_ONCE], AT_ONCE)
            missed = missed + 1 if await self.bounded(together) is None else 0
            if missed == MISSED_MAX:
                return

    async def bounded(
        self,
        act: Callable[[], Awaitable[T]],
        *,
        limit_s: float | None = None,
        what: str = "state",
    ) -> T | None:
        """As `Outages.bounded`; by default, `act` waits for the state: see `STATE_WAIT_S`.

        Raises:
            BindingError: the configuration is wrong, so that waiting would not help.
        """
        if limit_s is None:
            limit_s = max(STATE_WAIT_S, self.state.timeout_s)
        return await self._outages.bounded(what, act, limit_s, raises=(BindingError,))
