"""Retries of calls to the state about runs, so that clients do not notice a short outage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from orchestra.errors import StateError

T = TypeVar("T")

WAITS_S = (0.02, 0.1, 0.3)
"""The delay before each retry. Only for calls about runs: a client that looks up a run would rather
wait a second than get a 503. Limits must be decided at once, so they only have the state's own
`timeout_s`."""


async def ask_with_retries(
    ask: Callable[[], Awaitable[T]], waits_s: Sequence[float] = WAITS_S
) -> T:
    """Call `ask` until it succeeds, and return its result; retries only after a StateError.

    Raises:
        StateError: all attempts failed: by default four, with delays of 0.42 s in total.
    """
    for wait_s in waits_s:
        try:
            return await ask()
        except StateError:
            await trio.sleep(wait_s)
    return await ask()
