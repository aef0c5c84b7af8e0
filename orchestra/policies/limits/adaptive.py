"""Concurrency that finds its own bound: additive increase, multiplicative decrease. Pure.

The theory is TCP's. What a provider has room for changes, and is told only by its refusals: a
refusal halves the bound, and as many good calls as the bound is raise it by one. Of the calls that
were under way when it was halved, more refusals are no news: they were sent at the old bound.
"""

from __future__ import annotations

import math


class Adaptive:
    """A bound between 1 and `most`, at which it begins. Time comes in as an argument."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bound = float(most)
        self._halved_s = -math.inf

    @property
    def bound(self) -> int:
        """Calls that may be under way now."""
        return int(self._bound)

    def served(self) -> None:
        """A call has ended well."""
        self._bound = min(self._most, self._bound + 1 / self._bound)

    def refused(self, began_s: float, now_s: float) -> None:
        """A call that began then was refused now, for want of room."""
        if began_s >= self._halved_s:
            self._bound = max(1.0, self._bound / 2)
            self._halved_s = now_s
