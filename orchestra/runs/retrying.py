"""Calls to the state about runs, while it is unreachable: retries, and one line of the log.

With retries, clients do not notice a short outage.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from orchestra.errors import StateError

T = TypeVar("T")
log = logging.getLogger("orchestra.runs")

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


class OutageLog:
    """Logs the first of several failures in a row, and the first success after them."""

    def __init__(self, begins: str, ends: str) -> None:
        self._begins = begins
        self._ends = ends
        self._lasts = False

    def failed(self, error: Exception) -> None:
        """Note a failure; its traceback is logged as well, unless it is a StateError."""
        if not self._lasts:
            self._lasts = True
            foreseen = isinstance(error, StateError)
            log.warning("%s: %s", self._begins, error, exc_info=None if foreseen else error)

    def succeeded(self) -> None:
        """Note a success."""
        if self._lasts:
            self._lasts = False
            log.warning(self._ends)
