"""Asks the state about runs again if it is away for a moment, so that clients do not notice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from orchestra.errors import StateError

T = TypeVar("T")

WAITS_S = (0.02, 0.1, 0.3)
"""How long to wait before each further try. Limits have to be decided at once, and are bounded by
the state's own `timeout_s`; who looks up a run rather waits a second than gets a 503."""


async def ask_with_retries(
    ask: Callable[[], Awaitable[T]], waits_s: Sequence[float] = WAITS_S
) -> T:
    """The first answer of the state, after further tries if needed; `ask` may be called twice.

    Raises:
        StateError: all tries failed: by default four, within 0.42 s and the time they took.
    """
    for wait_s in waits_s:
        try:
            return await ask()
        except StateError:
            await trio.sleep(wait_s)
    return await ask()
