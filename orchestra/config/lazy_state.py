"""A state that is opened when it is first used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from orchestra.protocols import Change, State
from orchestra.records import Encoding, Revision

T = TypeVar("T")
D = TypeVar("D")


class LazyState(State):
    """The state that `opened` gives, when it is first needed.

    For policies that are there in case a caller comes with limits of their own: where none does,
    no client of Redis is imported, and no variable with its password looked for.
    """

    def __init__(self, opened: Callable[[], State]) -> None:
        self._opened = opened

    @property
    def at_once(self) -> bool:  # type: ignore[override] # read only, which is all that is done
        """Whether it never waits and never fails."""
        return self._opened().at_once

    async def change(
        self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
    ) -> T:
        """Change what is kept under some keys, all at once. Raises BindingError, too."""
        return await self._opened().change(keys, decide)

    async def revise(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[D | None], float], Revision[T, D]],
        encoding: Encoding[D],
    ) -> T:
        """Change records, as the state keeps them. Raises BindingError, too."""
        return await self._opened().revise(keys, decide, encoding)

    async def look(
        self,
        keys: Sequence[str],
        see: Callable[[Sequence[D | None], float], T],
        encoding: Encoding[D],
    ) -> T:
        """What is seen in records. Raises BindingError, too."""
        return await self._opened().look(keys, see, encoding)

    async def recall(self, key: str) -> bytes | None:
        """What was remembered under a key. Raises BindingError, too."""
        return await self._opened().recall(key)

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        """Keep this for as many seconds, if there is room. Raises BindingError, too."""
        await self._opened().remember(key, data, ttl_s=ttl_s)
