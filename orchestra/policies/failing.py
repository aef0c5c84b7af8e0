"""What a policy does where its state is gone or too slow: go on without it, or refuse.

"open" is for what only saves work (a cache, a limit of one's own); "closed" for what must not be
passed by (a budget). A policy says which it is, and its configuration may say otherwise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias, TypeVar

from orchestra.errors import StateError

T = TypeVar("T")

WhenStateFails: TypeAlias = Literal["open", "closed"]


async def asked(
    call: Callable[[], Awaitable[T]], *, when_state_fails: WhenStateFails, otherwise: T
) -> T:
    """What a call of a `State` gives; if the state fails and that is "open", `otherwise`.

    Takes as long as the call: a State's own `timeout_s`. A cancellation is no failure, and
    neither is what `decide` raises.

    Raises:
        StateError: the state failed, and that is "closed".
    """
    try:
        return await call()
    except StateError:
        if when_state_fails == "closed":
            raise
        return otherwise
