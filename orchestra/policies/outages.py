"""Warnings that something works without a part of it, such as a cache without its state."""

from __future__ import annotations

import logging
from math import inf

from orchestra.policies.clock import Clock

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

    def over(self, what: str) -> None:
        """Note that this part works."""
        self._away.discard(what)

    def failed(self, what: str, reason: str) -> None:
        """Note that this part has failed."""
        now_s = self._clock.now_s()
        if what not in self._away and now_s >= self._next_s.get(what, -inf):
            self._next_s[what] = now_s + AGAIN_S
            self._away.add(what)
            self._log.warning("%s works without its %s: %s", self._subject, what, reason)
