"""Pace: when the clock of virtual time advances.

The clock jumps when every task waits. It must also advance if that never happens: a task that
polls (`while not done: await trio.sleep(0)`) is always ready, so a deadline that would end it
would never come.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any, cast

import trio
import trio.abc
import trio.testing

from orchestra.testing.playing.task_tree import leaf_tasks, tasks_with_lines

FAR_S = 1e6
"""Virtual seconds after which a waiting task counts as waiting for ever."""

THREAD_S = 10.0
"""Real seconds to wait for a thread: one that waits for virtual time never ends."""

SPINS = 100_000
"""Scheduler turns at one moment with a task ready in each: more than any run needs."""
JUMPS = 100_000
"""Clock jumps in one simulated run; more mean that it polls, with a sleep in between."""
_SPINS_AGAIN = 100  # between two jumps, if nothing has waited since
_SPINS_LAST = 10_000  # for tasks cancelled in the far future to end
_JUMPS = 300  # if so many deadlines had no effect, the task spins for ever
_LOOK_S = 0.0002


class HangError(AssertionError):
    """A task was still waiting in the far future: nothing will ever wake it."""


class Pace(trio.abc.Instrument):
    """Advances the clock: replaces its automatic jump, and is an instrument of Trio."""

    def __init__(self, clock: trio.testing.MockClock, jumps_most: float = inf) -> None:
        self._clock, self._jumps_left = clock, jumps_most
        self._jump: Callable[[], None] = cast("Any", clock)._autojump  # noqa: SLF001 - see `virtual`
        cast("Any", clock)._autojump = self._all_wait  # noqa: SLF001
        self._main: trio.lowlevel.Task | None = None
        self._thread_since_s: float | None = None
        self._spins, self._most, self._jumps = 0, SPINS, 0

    def watch(self, main: trio.lowlevel.Task) -> None:
        """Set the task whose child tasks are reported if one of them spins for ever."""
        self._main = main

    def before_io_wait(self, timeout: float) -> None:
        """Count a scheduler turn; only afterwards is it known whether all tasks wait."""
        del timeout  # 0 in both cases
        self._spins += 1
        if self._spins >= self._most and not self._waits_for_thread():
            self._spin()

    def _all_wait(self) -> None:
        self._spins, self._most, self._jumps = 0, SPINS, 0
        if self._waits_for_thread():
            time.sleep(_LOOK_S)
        else:
            self._jump()
            self._jumps_left -= 1
            if self._jumps_left < 0:  # a few steps to the far future
                self._clock.jump(FAR_S / 8)

    def _waits_for_thread(self) -> bool:
        """Whether a thread is running; the clock stands still until it ends."""
        if not trio.testing.active_thread_count():
            self._thread_since_s = None
            return False
        now_s = time.monotonic()
        self._thread_since_s = self._thread_since_s or now_s
        return now_s - self._thread_since_s < THREAD_S

    def _spin(self) -> None:
        """Handle a task that was ready in every turn: jump to the next deadline, or give up."""
        now_s, self._spins = trio.current_time(), 0
        if now_s > FAR_S + 1:  # all shields are removed
            self._give_up()
            return
        self._jumps += 1
        jump_s = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if self._jumps > _JUMPS or jump_s == inf:
            jump_s = FAR_S + 2 - now_s
        self._clock.jump(max(jump_s, 0.0))
        self._most = _SPINS_LAST if now_s + jump_s >= FAR_S else _SPINS_AGAIN

    def _give_up(self) -> None:
        """End Trio's loop itself, since no other way ends the task."""
        tasks = [] if self._main is None else leaf_tasks(self._main)
        why = "it goes on for ever, and swallows `trio.Cancelled`, which it must raise again:"
        hang = HangError("\n  ".join((why, *tasks_with_lines(tasks))))

        def broken() -> float:
            raise hang

        _NEVER_END.extend(tasks)
        cast("Any", self._clock).current_time = broken


_NEVER_END: list[trio.lowlevel.Task] = []
"""Kept alive: on collecting them, Python would close them and report an error."""
