"""An outbox for the ends of calls: an end is sent to a state until the state accepts it.

An end is sent when its call ends, within `GIVE_BACK_S`. If it was not accepted, it is retried:
by a task beside the runs, with exponential backoff; by the next call that got an answer from the
state; and by `flush`, if no further call is expected.

Rules of the file: the number of undelivered ends is bounded, and losses are logged. The state may
have accepted an end that it did not confirm, so each end defines how it is sent `again`. An end
that raises an unexpected error in a retry is lost: it would always raise, and block the ends
behind it.
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

UNDELIVERED_MAX = 1_000
"""Ends kept while the state cannot be reached; beyond that, the oldest are lost."""
RESENT_AT_ONCE = 8
"""How many undelivered ends a new call sends."""
GIVE_BACK_S = 0.05
"""How long the end of a call waits for the state."""
REST_S = 0.05
"""The first pause after the state did not answer; it doubles each time."""
REST_MAX_S = 1.0

log = logging.getLogger("orchestra.policies")


class End(Protocol):
    """The end of a call, as it is sent to a state."""

    def again(self) -> Self:
        """The end as it is sent to a state that may have accepted it already."""


E = TypeVar("E", bound=End)


class Outbox(Generic[E]):
    """Sends the ends of one process's calls to `state`, each with `take`.

    `lost` describes the effect of a lost end, for log messages. Used in one `trio.run` at a time.
    """

    def __init__(self, state: State, take: Callable[[E], Awaitable[None]], lost: str) -> None:
        self._state = state
        self._take = take
        self._lost = lost
        self._loses = self._retries = False
        self._in_hand = 0
        self.undelivered: deque[E] = deque()
        """Ends to send again, the oldest first; an end that is being sent is not among them."""

    async def send(self, end: E) -> None:
        """Send the end of a call, now or later.

        Never raises anything but `Cancelled`; shielded, and bounded by `GIVE_BACK_S`.
        """
        if await self._taken(end, again=False):
            return
        self.undelivered.append(end.again())
        self._trim()
        if not self._retries:
            with suppress(RuntimeError):  # no engine is open: the next call sends it, or `flush`
                PRESENT.get().spawn(self._retry, "reporting to a state again how calls have ended")
                self._retries = True

    async def resend(self) -> bool:
        """Send some ends again, the oldest first; return whether any was accepted.

        Never raises anything but `Cancelled`. Called only after the state has just answered, so as
        not to wait for a state that cannot be reached.
        """
        sent = False
        for _ in range(RESENT_AT_ONCE):
            if not self.undelivered:
                break
            end = self.undelivered.popleft()
            if not await self._taken(end, again=True):
                self.undelivered.appendleft(end)
                self._trim()
                break
            sent, self._loses = True, False
        return sent

    async def flush(self, within_s: float) -> bool:
        """Send all undelivered ends; return whether none is left.

        For when no further call is expected. Not shielded; if it is cancelled, ends may be left.
        """
        with trio.move_on_after(within_s):
            await self._resend_all(0.0)
        if self._pending:
            log.error(
                "the ends of %d calls could not be reported to a state: %s",
                self._pending,
                self._lost,
            )
        return not self._pending

    async def _retry(self) -> None:
        try:
            await self._resend_all(REST_S)
        finally:
            self._retries = False

    async def _resend_all(self, rest_s: float) -> None:
        """Send all undelivered ends, after this pause; the pause doubles after each failure."""
        while self._pending:
            await trio.sleep(rest_s)
            rest_s = 0.0 if await self.resend() else min(max(2 * rest_s, REST_S), REST_MAX_S)

    @property
    def _pending(self) -> int:
        """The number of ends that are undelivered or being sent."""
        return len(self.undelivered) + self._in_hand

    async def _taken(self, end: E, *, again: bool) -> bool:
        """Send the end; return whether it is done with: accepted, or lost.

        An error here does not fail the call. An unexpected error loses an end that was sent
        `again`. A state that answers at once needs no cancel scope, which would cost more than the
        change itself.
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
            lost = f", and is lost: {self._lost}"
            outcome = lost if again else "; it will be reported again"
            log.exception("the end of a call could not be reported to a state%s", outcome)
            return again
        finally:
            self._in_hand -= 1
        return False  # too slow

    def _trim(self) -> None:
        """Drop the oldest undelivered ends, if there are too many."""
        while len(self.undelivered) > UNDELIVERED_MAX:
            self.undelivered.popleft()
            if not self._loses:
                self._loses = True
                log.error(
                    "the ends of %d calls could not be reported to a state, and no more are kept: "
                    "from now on the oldest are lost, until the state answers: %s",
                    UNDELIVERED_MAX,
                    self._lost,
                )
