"""Asking the state about runs again, where it is away for a moment: no client need hear of that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from orchestra.errors import StateError

T = TypeVar("T")

WAITS_S = (0.02, 0.1, 0.3)
"""How long to wait before each further try. A limit must be decided in a moment, and is bounded by
the state's own `timeout_s`; who looks up a run would rather wait a second than be told 503."""


async def ask_with_retries(
    ask: Callable[[], Awaitable[T]], waits_s: Sequence[float] = WAITS_S
) -> T:
    """What the state answers at the first try that it answers; only for what may be asked twice.

    Raises:
        StateError: it was away for all tries: by default four, over 0.42 s and what they took.
    """
    for wait_s in waits_s:
        try:
            return await ask()
        except StateError:
            await trio.sleep(wait_s)
    return await ask()
