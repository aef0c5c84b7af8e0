"""What is left of a caller's limits, as tests see it: nothing is taken."""

from __future__ import annotations

from functools import partial

from orchestra.accounts import Caller
from orchestra.policies.limits.allowance import (
    ENCODING,
    Kept,
    Owner,
    Remaining,
    _left,
    _states,
)
from orchestra.policies.limits.callers import CallerLimits


async def remaining(limits: CallerLimits, caller: Caller) -> tuple[Remaining, ...]:
    """What is left of the caller's requests and tokens, the narrowest owner first."""
    owners = limits.owners(caller)
    if not owners.keys:
        return ()
    return await limits._state.look(owners.keys, partial(_remaining, owners.all), ENCODING)


def _remaining(owners: tuple[Owner, ...], kept: Kept, now_s: float) -> tuple[Remaining, ...]:
    both, _ = _states(owners, kept, now_s)
    return tuple(_left(owner, *used) for owner, state in both for used in state.used(owner))
