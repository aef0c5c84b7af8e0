"""Parts that something can work without, as a cache without its state: bounded, with warnings."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeVar

import trio

from orchestra.messages import describe
from orchestra.policies.clock import Clock

T = TypeVar("T")

AGAIN_S = 60.0
"""The shortest time between two warnings of one kind, as a state may often be slightly late."""


class Outages:
    """What fails now, by kind: of several failures in a row, the first is logged.

    At most one warning of each kind is logged in `AGAIN_S`.
    """

    def __init__(self, log: logging.Logger, subject: str) -> None:
        self._log = log
        self._subject = subject
        self._away: set[str] = set()
        self._next_s: dict[str, float] = {}
        self._clock = Clock()

    async def bounded(
        self,
        what: str,
        act: Callable[[], Awaitable[T]],
        limit_s: float,
        *,
        raises: tuple[type[Exception], ...] = (),
    ) -> T | None:
        """Use the part `what`: the result of `act`; None if it fails, or takes over `limit_s`.

        Raises:
            Exception: `act` raised an error of a class in `raises`.
        """
        reason = f"it did not answer within {limit_s:g} s"
        try:
            with trio.move_on_after(limit_s):
                result = await act()
                self._away.discard(what)
                return result
        except raises:
            raise
        except Exception as error:  # noqa: BLE001 - a project's own class may raise anything
            reason = describe(error)
        self._failed(what, reason)
        return None

    def _failed(self, what: str, reason: str) -> None:
        now_s = self._clock.now_s()
        if what not in self._away and now_s >= self._next_s.get(what, -inf):
            self._next_s[what] = now_s + AGAIN_S
            self._away.add(what)
            self._log.warning("%s works without its %s: %s", self._subject, what, reason)
