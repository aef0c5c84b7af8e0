"""The steps of an event loop, counted in calls of Python functions: no clock is as exact."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import trio


class Steps(trio.abc.Instrument):
    """Counts the calls of each step of the loop; `longest` is the most of any."""

    def __init__(self) -> None:
        self.longest = 0
        self._calls = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._calls = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.longest = max(self.longest, self._calls)

    def profile(self, frame: FrameType, event: str, arg: object) -> None:
        self._calls += event == "call"


@contextmanager
def counted_steps() -> Iterator[Steps]:
    """The steps of this loop, which lies in this thread; other threads are not counted."""
    steps = Steps()
    before = sys.getprofile()
    trio.lowlevel.add_instrument(steps)
    sys.setprofile(steps.profile)
    try:
        yield steps
    finally:
        sys.setprofile(before)
        trio.lowlevel.remove_instrument(steps)
