"""Ends of calls that a state has not taken: they are told it again, when it is back.

Rules of the file: a state that is away is not asked for it; who has just had an answer of it, asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial

from orchestra.policies.allowance import ENCODING, Ask, Owner, settle
from orchestra.policies.giving_back import given_back
from orchestra.protocols import State

LATE_MAX = 1_000
"""Ends that are kept while the state is away; beyond that the oldest leases end by themselves."""
LATE_AT_ONCE = 8
"""Of those, how many a call tells that begins."""


class LateEnds:
    """The ends of the calls of one process, in the state that knows of their beginnings."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._late: deque[tuple[Sequence[Owner], Ask, tuple[int, int]]] = deque(maxlen=LATE_MAX)

    def __len__(self) -> int:
        """How many are late."""
        return len(self._late)

    async def tell(self, owners: Sequence[Owner], ask: Ask, really: tuple[int, int]) -> None:
        """Tell the end of a call, which has really taken so many requests and tokens, now or later.

        Never raises but `Cancelled`; shielded, and bounded.
        """
        if not await self._told(owners, ask, really):
            # The state may have taken it. Twice is no harm, but for what is over the estimate.
            requests, tokens = really
            self._late.append((owners, ask, (requests, min(tokens, ask.tokens))))

    async def tell_late(self) -> tuple[str, ...]:
        """Tell some of those that are late, and under which keys that was. As of `tell`."""
        told: list[str] = []
        for _ in range(min(len(self._late), LATE_AT_ONCE)):
            if not self._late:  # others tell them, too
                break
            late = self._late.popleft()
            if not await self._told(*late):
                self._late.appendleft(late)
                break
            told += _keys(late[0])
        return tuple(dict.fromkeys(told))

    async def _told(self, owners: Sequence[Owner], ask: Ask, really: tuple[int, int]) -> bool:
        revise, ended = self._state.revise, partial(settle, owners, ask, really)
        return await given_back(self._state, revise, _keys(owners), ended, ENCODING)


def _keys(owners: Sequence[Owner]) -> list[str]:
    return [owner.key for owner in owners]
