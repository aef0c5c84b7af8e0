"""What a call holds in a state is given back when it ends, also where it was cancelled."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import ParamSpec

import trio

from orchestra.errors import StateError
from orchestra.protocols import State

log = logging.getLogger("orchestra.policies")

P = ParamSpec("P")
GIVE_BACK_S = 0.05
"""How long the end of a call waits for the state."""


async def given_back(
    state: State, change: Callable[P, Awaitable[object]], *args: P.args, **named: P.kwargs
) -> bool:
    """Make the change that gives something back; whether it is known to have happened.

    It raises nothing but `Cancelled`: the call has ended, and is not to fail for it.

    Shielded, and for `GIVE_BACK_S` at the most. A state that answers at once needs no scope, which
    would take longer than the change.
    """
    try:
        if state.at_once:
            await change(*args, **named)
            return True
        with trio.move_on_after(GIVE_BACK_S, shield=True):
            await change(*args, **named)
            return True
    except Exception as error:
        if not isinstance(error, StateError):
            log.exception("what a call held could not be given back")
    return False
