"""Which attempt of a call it is: for what fails a few times and then works."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import trio


class AttemptCounter:
    """Counts the attempts of each call, from 1: a call is a task, and so are its retries."""

    def __init__(self) -> None:
        self._counts: WeakKeyDictionary[trio.lowlevel.Task, int] = WeakKeyDictionary()

    def next(self) -> int:
        """The number of the attempt that asks, once in each, in the step's own task."""
        task = trio.lowlevel.current_task()
        number = self._counts[task] = self._counts.get(task, 0) + 1
        return number
