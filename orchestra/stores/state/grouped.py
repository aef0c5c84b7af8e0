"""The common part of states that do calls in batches: those in a file, and in Redis."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from orchestra.closing import Closing
from orchestra.protocols import Change, State
from orchestra.stores.state.grouping import Call, Deciding, Group, Outcomes, Recalling, Remembering

T = TypeVar("T")


class GroupedState(State, Closing):
    """A `State` whose calls that come together are one batch; `place` is what errors call it.

    Belongs to one `trio.run` at a time; close it, or use it in a `with` statement.
    """

    def __init__(self, place: str, timeout_s: float) -> None:
        self._group = Group(place, self._perform, timeout_s)

    def log_no_outage(self) -> None:
        """Leave it to the callers to log that this state is away."""
        self._group.outage = None

    async def change(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        """Change what is kept under some keys, with the changes that come together."""
        result: T = await self._group.do(Deciding(tuple(keys), decide))
        return result

    async def recall(self, key: str) -> bytes | None:
        found: bytes | None = await self._group.do(Recalling(key))
        return found

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        await self._group.do(Remembering(key, bytes(data), ttl_s))

    @abstractmethod
    def close(self) -> None:
        """Close what it has opened, without waiting; a call that comes later raises StateError."""

    @abstractmethod
    async def _perform(self, calls: Sequence[Call]) -> Outcomes:
        """The outcomes of a batch, in order: as `Group` asks for them."""
