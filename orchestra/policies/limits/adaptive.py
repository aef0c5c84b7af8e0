"""Adaptive concurrency: additive increase, multiplicative decrease. Pure.

The theory is TCP's. A provider's capacity changes, and is visible only through refusals. A refusal
halves the bound; as many successful calls as the bound raise it by one. Refusals of calls that
were already running when it was halved are ignored: they were sent under the old bound.
"""

from __future__ import annotations

import math


class Adaptive:
    """A bound on concurrency, between 1 and `most`; it starts at `most`. Time is an argument."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bound = float(most)
        self._halved_s = -math.inf

    @property
    def bound(self) -> int:
        """The number of calls that may run now."""
        return int(self._bound)

    def served(self) -> None:
        """Note a successful call."""
        self._bound = min(self._most, self._bound + 1 / self._bound)

    def refused(self, began_s: float, now_s: float) -> None:
        """Note a call, begun at `began_s`, that was refused for lack of capacity."""
        if began_s >= self._halved_s:
            self._bound = max(1.0, self._bound / 2)
            self._halved_s = now_s
