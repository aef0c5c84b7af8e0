"""The common base of states that perform calls in batches: those in a file, and in Redis."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from orchestra.closing import Closing
from orchestra.protocols import Change, State
from orchestra.stores.state.grouping import Call, Deciding, Group, Outcomes, Recalling, Remembering

T = TypeVar("T")


class GroupedState(State, Closing):
    """A `State` that performs concurrent calls in one batch; errors call the state `place`.

    Belongs to one `trio.run` at a time; close it, or use it in a `with` statement.
    """

    def __init__(self, place: str, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._group = Group(place, self._perform, timeout_s)

    def log_no_outage(self) -> None:
        """Do not log outages of this state; its callers do."""
        self._group.outage = None

    async def change(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        """Change what is kept under some keys, in one batch with other calls."""
        result: T = await self._group.do(Deciding(tuple(keys), decide))
        return result

    async def recall(self, key: str) -> bytes | None:
        found: bytes | None = await self._group.do(Recalling(key))
        return found

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        await self._group.do(Remembering(key, bytes(data), ttl_s))

    @abstractmethod
    def close(self) -> None:
        """Close what it has opened, without waiting; later calls raise StateError."""

    @abstractmethod
    async def _perform(self, calls: Sequence[Call]) -> Outcomes:
        """Perform a batch of calls, and return their outcomes in order: see `Group`."""
