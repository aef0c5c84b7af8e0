"""The limits of one model, shared by all processes with the same state.

They work like the limits of callers, with the model as their owner. In each process, every caller
has a line, and the heads of the lines take turns; there is no order between processes.

Rules of the file: what a call has taken is given back if the call does not begin; waiting calls
are refused when the model's breaker opens.
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
    """The limits of the model `name`, kept in `state`. Used in one `trio.run` at a time.

    Models with the same name and state share the limits. A call counts as concurrent until it
    ends, or for `lease_s` if its process dies.
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
        self.outbox = self._limits.outbox
        self._waiting: set[trio.CancelScope] = set()

    @property
    def waiting(self) -> int:
        """The number of waiting calls in this process."""
        return self._limits.waiting

    async def enter(self, caller: Caller, *, tokens: int) -> Lease | None:
        """Wait until a call with so many tokens may begin; on return, it has begun.

        None if `refuse_waiting` was called first. If cancelled or refused, nothing is held.

        Raises:
            LimitReachedError: a limit is reached, and the call may not wait, or not long enough;
                or the state has failed, and the limit then refuses calls.
        """
        scope = trio.CancelScope()
        self._waiting.add(scope)
        try:
            with scope:
                return await self._limits.enter(caller, tokens=tokens, lease_s=self._lease_s)
        finally:
            self._waiting.discard(scope)
        return None

    def refuse_waiting(self) -> None:
        """Refuse all calls that wait now."""
        for scope in self._waiting:
            scope.cancel()

    async def leave(self, lease: Lease, *, tokens: int, sent: bool = True) -> None:
        """End a call, as `CallerLimits.leave`: never raises, and bounded in time."""
        await self._limits.leave(lease, tokens=tokens, sent=sent)


class _Rules:
    """Rules that give every caller the model's limits."""

    def __init__(self, name: str, limits: CallLimits) -> None:
        self._name = name
        self._limits = OwnerLimits(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            burst_share=limits.burst_share,
            concurrency=limits.concurrency,
            wait_max_s=math.inf if limits.wait_max_s is None else limits.wait_max_s,
            waiting_max=limits.waiting_max,
            when_state_fails=limits.when_state_fails,
        )

    @property
    def of_keys_only(self) -> bool:
        """False: every caller has these limits."""
        return False

    def owners(self, caller: Caller, scope: str) -> tuple[Owner, ...]:
        """The model is the only owner."""
        del caller
        return (owner_of("model", self._name, self._limits, scope),)
