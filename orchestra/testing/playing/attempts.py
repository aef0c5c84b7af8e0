"""Counts the attempts of calls, for scripts that fail a few times and then work."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import trio


class AttemptCounter:
    """Counts the attempts of each call, from 1; a call and its retries are one task."""

    def __init__(self) -> None:
        self._counts: WeakKeyDictionary[trio.lowlevel.Task, int] = WeakKeyDictionary()

    def next(self) -> int:
        """The number of the current attempt; call it once per attempt, in the step's own task."""
        task = trio.lowlevel.current_task()
        number = self._counts[task] = self._counts.get(task, 0) + 1
        return number
