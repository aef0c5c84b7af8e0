"""A waiter for a flight, which is a running call.

It lives as long as its reader reads. As long as it has received nothing, it may be moved from one
flight to another, even if it opened a flight that was overtaken.
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
"""How long the last to leave waits for the call to be closed."""
REFUSED = (BudgetExceededError, LimitReachedError, UnknownPriceError, StateError)
"""Errors that are only for the caller of the call, and for no other waiter."""
_CUT = (
    "the shared call was stopped by the limits or budget of the caller who started it, and the "
    "answer is not complete; ask again"
)


class Waiter(Generic[Item]):
    """A waiter for a flight; for none before it has joined one."""

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
        """Its deadline at the time when it came."""
        self.in_one_piece = in_one_piece
        """Whether it takes a complete answer as one item."""
        self.read = 0
        """The number of items that it has read."""
        self.error: Exception | None = None
        """The error if it was dropped for being too slow."""
        self.turned_away = False
        """Whether it was turned away, since the flight queues for its opener's limits."""
        self.asks_anew: Callable[[Waiter[Item]], Awaitable[None]] | None = None
        """Joins another flight, in place of one that was refused to its opener."""
        self._parked: trio.lowlevel.Task | None = None

    async def receive(self) -> tuple[Item, ...]:
        """Wait for items and return those since the last call; empty at the end.

        One task at a time.

        Raises:
            ModelError: the call failed; or this waiter was too slow; or the call was stopped for
                another caller's budget after a part of the answer (`TruncatedStreamError`).
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
        """Whether it may ask again: the error was for another caller, the flight's opener."""
        return not self.flight.opened_by(self.account) and _refused(error)

    @property
    def ended(self) -> bool:
        """Whether it has read everything, so that `receive` has no more items."""
        return self.flight.ended(self)

    def wake(self) -> None:
        """Wake it, if it waits."""
        parked = self._parked
        if parked is not None:
            self._parked = None
            trio.lowlevel.reschedule(parked)

    def _left(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def leave(self) -> None:
        """Stop waiting. The last to leave cancels the call, and waits until it is closed."""
        if self.flight.left(self):
            with trio.move_on_after(CLOSE_S, shield=True):
                await self.flight.wait_over()


def _refused(error: Exception) -> bool:
    """Whether a call failed for a reason of its caller's; for a route, if any of its models did.

    A model with another failure may have been asked in place of a refused one.
    """
    if isinstance(error, ModelsFailedError):
        return any(map(_refused, error.errors.values()))
    return isinstance(error, REFUSED)
