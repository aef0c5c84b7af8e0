"""The length of an event loop's steps in calls of Python functions, which no busy machine changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import trio


class Steps(trio.abc.Instrument):
    """Counts the function calls in each step of the loop; `longest` is the largest count."""

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
    """Count the steps of the loop in this thread, without the calls in other threads."""
    steps = Steps()
    before = sys.getprofile()
    trio.lowlevel.add_instrument(steps)
    sys.setprofile(steps.profile)
    try:
        yield steps
    finally:
        sys.setprofile(before)
        trio.lowlevel.remove_instrument(steps)
