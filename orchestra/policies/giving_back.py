"""What a call holds in a state is given back when it ends, also where it was cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from orchestra.errors import StateError
from orchestra.protocols import State

GIVE_BACK_S = 0.05
"""How long the end of a call waits for the state."""


async def given_back(state: State, change: Callable[[], Awaitable[object]]) -> bool:
    """Make the change that gives something back; whether it is known to have happened.

    Shielded, and for `GIVE_BACK_S` at the most. A state that answers at once needs no scope, which
    would take longer than the change.
    """
    try:
        if state.at_once:
            await change()
            return True
        with trio.move_on_after(GIVE_BACK_S, shield=True):
            await change()
            return True
    except StateError:
        pass
    return False
