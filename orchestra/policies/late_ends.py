"""Ends of calls that a state has not taken: it is told them again, until it has.

An end is told when its call ends, within `GIVE_BACK_S`. One that was not taken is late. It is told
again by a task beside the runs, which pauses for longer and longer; by the next call that has had
an answer of the state; and when no call will follow, by `flush`.

Rules of the file: what is late is bounded, and what is lost of it is said; an end says itself how
it is told again, since the state may have taken it; and one that raises then is lost, since it
would do so for ever, and those behind it would wait.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, Protocol, Self, TypeVar

import trio

from orchestra.errors import StateError
from orchestra.policies.account import PRESENT
from orchestra.protocols import State

LATE_MAX = 1_000
"""Ends that are kept while the state is away; then the oldest are lost."""
LATE_AT_ONCE = 8
"""Of those, how many a call tells that begins."""
GIVE_BACK_S = 0.05
"""How long the end of a call waits for the state."""
REST_S = 0.05
"""How long a state is left alone that has not answered; then twice as long, and so on."""
REST_MAX_S = 1.0

log = logging.getLogger("orchestra.policies")


class End(Protocol):
    """How a call has ended, as a state is told it."""

    def again(self) -> Self:
        """The same for a state that may have taken it."""


E = TypeVar("E", bound=End)


class LateEnds(Generic[E]):
    """Tells `state` the ends of the calls of one process: `take` has it take one.

    `lost` says what becomes of those that it never takes. Used in one `trio.run` at a time.
    """

    def __init__(self, state: State, take: Callable[[E], Awaitable[None]], lost: str) -> None:
        self._state = state
        self._take = take
        self._lost = lost
        self._loses = self._retries = False
        self._in_hand = 0
        self.late: deque[E] = deque()
        """Those that are to be told again, the oldest first; without those that are being told."""

    async def tell(self, end: E) -> None:
        """Tell the end of a call, now or later.

        Never raises but `Cancelled`; shielded, and for `GIVE_BACK_S` at the most.
        """
        if await self._taken(end, again=False):
            return
        self.late.append(end.again())
        self._trim()
        if not self._retries:
            with suppress(RuntimeError):  # no engine is open: the next call tells it, or `flush`
                PRESENT.get().spawn(self._retry, "telling a state again how calls have ended")
                self._retries = True

    async def tell_again(self) -> bool:
        """Tell some of those that are late, the oldest first; whether any was taken. As of `tell`.

        A state that is away is not asked for it: who has just had an answer of it, asks.
        """
        told = False
        for _ in range(LATE_AT_ONCE):
            if not self.late:
                break
            end = self.late.popleft()
            if not await self._taken(end, again=True):
                self.late.appendleft(end)
                self._trim()
                break
            told, self._loses = True, False
        return told

    async def flush(self, within_s: float) -> bool:
        """Tell all that are late, when no call will follow; whether none is late any more.

        Shielded, and for so long at the most.
        """
        with trio.move_on_after(within_s, shield=True):
            await self._tell_all(0.0)
        if self._untold:
            log.error("a state was not told how %d calls have ended: %s", self._untold, self._lost)
        return not self._untold

    async def _retry(self) -> None:
        try:
            await self._tell_all(REST_S)
        finally:
            self._retries = False

    async def _tell_all(self, rest_s: float) -> None:
        """Tell all that are late, after this pause; in vain, after twice as long."""
        while self._untold:
            await trio.sleep(rest_s)
            rest_s = 0.0 if await self.tell_again() else min(max(2 * rest_s, REST_S), REST_MAX_S)

    @property
    def _untold(self) -> int:
        """How many are late, or being told: one of those may yet be late, or late again."""
        return len(self.late) + self._in_hand

    async def _taken(self, end: E, *, again: bool) -> bool:
        """Whether nothing is left to tell of this: it is known to be taken, or it is lost.

        An error is not that of its call; told `again`, it is lost with it. A state that answers at
        once needs no scope, which would take longer than the change.
        """
        self._in_hand += 1
        try:
            if self._state.at_once:
                await self._take(end)
                return True
            with trio.move_on_after(GIVE_BACK_S, shield=True):
                await self._take(end)
                return True
        except StateError:
            return False
        except Exception:
            for_good = f" and is told no more: {self._lost}" if again else "; it is told again"
            log.exception("how a call has ended could not be told%s", for_good)
            return again
        finally:
            self._in_hand -= 1
        return False  # it was too slow

    def _trim(self) -> None:
        """Lose the oldest of those that are late, where they are too many."""
        while len(self.late) > LATE_MAX:
            self.late.popleft()
            if not self._loses:
                self._loses = True
                log.error(
                    "a state has not been told how %d calls have ended, and no more are kept: from "
                    "now on the oldest are lost, until it answers: %s",
                    LATE_MAX,
                    self._lost,
                )
