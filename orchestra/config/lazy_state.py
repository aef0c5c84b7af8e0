"""A state that is opened on first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from orchestra.protocols import Change, State
from orchestra.records import Encoding, Revision

T = TypeVar("T")
D = TypeVar("D")


class LazyState(State):
    """A state that calls `opened` for the real state on each use, and not before.

    For policies that exist only in case the key of a caller has limits: until then, no Redis client
    is imported, and the variable with its password is not read.
    """

    def __init__(self, opened: Callable[[], State]) -> None:
        self._opened = opened

    @property
    def at_once(self) -> bool:  # type: ignore[override] # read-only, and nothing writes it
        """Whether it never waits and never fails."""
        return self._opened().at_once

    async def change(
        self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
    ) -> T:
        """Like `State.change`; may also raise BindingError."""
        return await self._opened().change(keys, decide)

    async def revise(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[D | None], float], Revision[T, D]],
        encoding: Encoding[D],
    ) -> T:
        """Like `State.revise`; may also raise BindingError."""
        return await self._opened().revise(keys, decide, encoding)

    async def look(
        self,
        keys: Sequence[str],
        see: Callable[[Sequence[D | None], float], T],
        encoding: Encoding[D],
    ) -> T:
        """Like `State.look`; may also raise BindingError."""
        return await self._opened().look(keys, see, encoding)

    async def recall(self, key: str) -> bytes | None:
        """Like `State.recall`; may also raise BindingError."""
        return await self._opened().recall(key)

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        """Like `State.remember`; may also raise BindingError."""
        await self._opened().remember(key, data, ttl_s=ttl_s)
