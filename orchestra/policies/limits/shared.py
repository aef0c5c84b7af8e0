"""The limits of one model, which all processes keep together that have the same state.

They are limits like those of callers, whose owner is the model. In each process every caller has
a line, and the heads of the lines have their turns one after another; between processes there is
no order. Rules of the file: what a call has taken is given back if it does not begin; and nobody
waits on when the breaker before the model has opened.
"""

from __future__ import annotations

import math

import trio

from orchestra.accounts import Caller
from orchestra.policies.limits.allowance import LEASE_S, Owner, OwnerLimits, owner_of
from orchestra.policies.limits.callers import CallerLimits, Lease
from orchestra.policies.limits.limit import CallLimits
from orchestra.protocols import State


class SharedLimits:
    """The limits of the model `name`, in a state. Used in one `trio.run` at a time.

    Models of the same name and state have the same limits. A call counts as one of those at once
    until it is given back, or for `lease_s`, where its process has died.
    """

    def __init__(
        self,
        name: str,
        limits: CallLimits,
        state: State,
        *,
        lease_s: float = LEASE_S,
    ) -> None:
        self.counts_tokens = limits.tokens_per_minute is not None
        self._lease_s = lease_s
        self._limits = CallerLimits(_Rules(name, limits), state)
        self.ends = self._limits.ends
        self._waiting: set[trio.CancelScope] = set()

    @property
    def waiting(self) -> int:
        """How many calls wait in this process."""
        return self._limits.waiting

    async def enter(self, caller: Caller, *, requests: int, tokens: int) -> Lease | None:
        """Wait until a call may begin that takes this much; then it has begun.

        None where `refuse_waiting` came before that. Cancelled, or refused, nothing is held.

        Raises:
            LimitReachedError: a limit is reached, and to wait is not allowed, or would be for too
                long; or the state has failed, and the limit is then closed.
        """
        scope = trio.CancelScope()
        self._waiting.add(scope)
        try:
            with scope:
                return await self._limits.enter(
                    caller, requests=requests, tokens=tokens, lease_s=self._lease_s * requests
                )
        finally:
            self._waiting.discard(scope)
        return None

    def refuse_waiting(self) -> None:
        """Let nobody wait on who waits now."""
        for scope in self._waiting:
            scope.cancel()

    async def leave(self, lease: Lease, *, tokens: int, requests: int | None = None) -> None:
        """Give a call back, as of `CallerLimits.leave`: never raises, and is bounded in time."""
        await self._limits.leave(lease, tokens=tokens, requests=requests)


class _Rules:
    """Whoever calls, the limits are those of the model."""

    def __init__(self, name: str, limits: CallLimits) -> None:
        self._name = name
        self._limits = OwnerLimits(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrency=limits.concurrency,
            wait_max_s=math.inf if limits.wait_max_s is None else limits.wait_max_s,
            waiting_max=limits.waiting_max,
            when_state_fails=limits.when_state_fails,
        )

    @property
    def of_keys_only(self) -> bool:
        """Everybody has them."""
        return False

    def owners(self, caller: Caller, scope: str) -> tuple[Owner, ...]:
        """The model."""
        del caller
        return (owner_of("model", self._name, self._limits, scope),)
