"""A waiter for a flight, which is a shared call.

A waiter lives as long as its reader reads. Until it has received something, it may be moved from
one flight to another, even if it opened the flight that was overtaken.
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
"""How long the last waiter to leave waits for the call to be closed."""
REFUSED = (BudgetExceededError, LimitReachedError, UnknownPriceError, StateError)
"""Errors that concern only the caller that started the call, and no other waiter."""
_CUT = (
    "the shared call was stopped by the limits or budget of the caller who started it, and the "
    "answer is not complete; ask again"
)


class Waiter(Generic[Item]):
    """A waiter for a flight; `flight` is not set before it joins one."""

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
        """The deadline of the waiting task, as of when the waiter was made."""
        self.in_one_piece = in_one_piece
        """Whether the waiter takes a complete answer as one item."""
        self.read = 0
        """The number of items that the waiter has read."""
        self.error: Exception | None = None
        """The error with which the flight dropped the waiter, if it did."""
        self.turned_away = False
        """Whether a flight turned the waiter away, because it queued for its opener's limits."""
        self.asks_anew: Callable[[Waiter[Item]], Awaitable[None]] | None = None
        """Moves the waiter to another flight, in place of one whose opener was refused."""
        self._parked: trio.lowlevel.Task | None = None

    async def receive(self) -> tuple[Item, ...]:
        """Wait for items and return those since the last call; empty at the end.

        Called by one task at a time.

        Raises:
            ModelError: the call failed, or this waiter was too slow; or, after a part of the
                answer, the call was stopped by another caller's budget (`TruncatedStreamError`).
        """
        while True:
            try:
                while (found := self.flight.unread(self)) is None:
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
        """Whether the waiter may ask again: another caller was refused, the flight's opener."""
        return not self.flight.opened_by(self.account) and _refused(error)

    @property
    def ended(self) -> bool:
        """Whether the call succeeded, and the waiter has read everything."""
        return self.flight.ended(self)

    def wake(self) -> None:
        """Wake the waiting task, if there is one."""
        parked = self._parked
        if parked is not None:
            self._parked = None
            trio.lowlevel.reschedule(parked)

    def _left(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def leave(self) -> None:
        """Stop waiting. The last waiter to leave cancels the call, and waits until it is closed.

        Shielded, and bounded by `CLOSE_S`.
        """
        if self.flight.left(self):
            with trio.move_on_after(CLOSE_S, shield=True):
                await self.flight.wait_over()


def _refused(error: Exception) -> bool:
    """Whether a call failed because its caller was refused; for a route, in any of its models.

    The models that failed in another way may have been asked only because one was refused.
    """
    if isinstance(error, ModelsFailedError):
        return any(map(_refused, error.errors.values()))
    return isinstance(error, REFUSED)
