"""One of those who wait for a call that is under way: a flight.

It is its reader's for as long as they read, and may be moved from one flight to another as long as
it has heard nothing: also one who has opened a flight, and was overtaken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from orchestra.errors import (
    BudgetExceededError,
    LimitReachedError,
    ModelsFailedError,
    StateError,
    TruncatedStreamError,
    UnknownPriceError,
)
from orchestra.policies.account import Account

if TYPE_CHECKING:
    from orchestra.policies.flights.flight import Flight

Item = TypeVar("Item")

CLOSE_S = 5.0
"""The last to leave waits as long for the call to be closed."""
REFUSED = (BudgetExceededError, LimitReachedError, UnknownPriceError, StateError)
"""What may be told to the caller on whose behalf a call is made, and to no other."""
_CUT = (
    "the call that it shared was stopped for what the caller who asked first may use, and this is "
    "not all of the answer; ask again"
)


class Waiter(Generic[Item]):
    """One who waits for a flight: for none, before it has joined one."""

    __slots__ = (
        "_parked",
        "account",
        "asks_anew",
        "error",
        "flight",
        "in_one_piece",
        "read",
        "turned_away",
        "until_s",
    )

    flight: Flight[Item]

    def __init__(self, account: Account, until_s: float, *, in_one_piece: bool = False) -> None:
        self.account = account
        self.until_s = until_s
        """Its deadline, as it was when it came."""
        self.in_one_piece = in_one_piece
        """Whether it is told an answer in one piece, where there is one."""
        self.read = 0
        """How many items it has taken."""
        self.error: Exception | None = None
        """Why it was left behind, if it was."""
        self.turned_away = False
        """Whether it was, because a flight waits for what only its opener has to wait for."""
        self.asks_anew: Callable[[Waiter[Item]], Awaitable[None]] | None = None
        """Has it join another flight, in place of one that was refused to its opener."""
        self._parked: trio.lowlevel.Task | None = None

    async def receive(self) -> tuple[Item, ...]:
        """What was said since the last call, waiting for something; empty at the end.

        One task at a time.

        Raises:
            ModelError: the call failed, or this waiter was left behind, or has heard a part of what
                was stopped for another caller's budget (`TruncatedStreamError`).
        """
        while True:
            try:
                while (found := self.flight.heard(self)) is None:
                    self._parked = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._left)
            except Exception as error:
                if self.asks_anew is None or not self.refused(error):
                    raise
                if self.read:
                    raise TruncatedStreamError(_CUT, code="coalesce") from error
            else:
                return found
            await self.leave()
            await self.asks_anew(self)

    def refused(self, error: Exception) -> bool:
        """Whether it may ask anew: this was refused to another, who has opened the flight."""
        return not self.flight.opened_by(self.account) and _refused(error)

    @property
    def ended(self) -> bool:
        """Whether it has heard all that there is; then `receive` has no more to give."""
        return self.flight.ended(self)

    def wake(self) -> None:
        """Let it look again, if it waits."""
        parked = self._parked
        if parked is not None:
            self._parked = None
            trio.lowlevel.reschedule(parked)

    def _left(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def leave(self) -> None:
        """Wait for it no longer. The last to leave cancels the call, and sees it closed."""
        if self.flight.left(self):
            with trio.move_on_after(CLOSE_S, shield=True):
                await self.flight.wait_over()


def _refused(error: Exception) -> bool:
    """Whether a call has failed for what is its caller's: also one of all that a route has asked.

    What failed for another reason may have been asked in place of what was refused.
    """
    if isinstance(error, ModelsFailedError):
        return any(map(_refused, error.errors.values()))
    return isinstance(error, REFUSED)
