"""Pace: when the clock of virtual time moves on.

It jumps when every task waits. It has to move, too, where that never comes: a task that looks
again and again (`while not done: await trio.sleep(0)`) is ready for ever, and a deadline
that ends it in the engine would never be there.
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
"""Virtual seconds after which what still waits is taken for what waits for ever."""

THREAD_S = 10.0
"""Real seconds for which a thread is waited for: one that waits for virtual time never ends."""

SPINS = 100_000
"""Turns of the scheduler in one moment, with a task ready in each: more than a run has to do."""
JUMPS = 100_000
"""Jumps of the clock in one simulated run: it looks again and again, with a sleep between."""
_SPINS_AGAIN = 100  # between two jumps, while nobody has waited since
_SPINS_LAST = 10_000  # for what is cancelled in the far future to end
_JUMPS = 300  # so many deadlines have ended nothing: what spins does so for ever
_LOOK_S = 0.0002


class HangError(AssertionError):
    """Something was still waiting in the far future: nothing will ever wake it."""


class Pace(trio.abc.Instrument):
    """Moves the clock: as what the clock does when every task waits, and as an instrument."""

    def __init__(self, clock: trio.testing.MockClock, jumps_most: float = inf) -> None:
        self._clock, self._jumps_left = clock, jumps_most
        self._jump: Callable[[], None] = cast("Any", clock)._autojump  # noqa: SLF001 - see `virtual`
        cast("Any", clock)._autojump = self._all_wait  # noqa: SLF001
        self._main: trio.lowlevel.Task | None = None
        self._thread_since_s: float | None = None
        self._spins, self._most, self._jumps = 0, SPINS, 0

    def watch(self, main: trio.lowlevel.Task) -> None:
        """Say whose tasks are told where one of them spins for ever."""
        self._main = main

    def before_io_wait(self, timeout: float) -> None:
        """A turn of the scheduler; whether all wait now shows only after it."""
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
            if self._jumps_left < 0:  # in a few steps to the far future, where each hang is told
                self._clock.jump(FAR_S / 8)

    def _waits_for_thread(self) -> bool:
        """Whether a thread is at work for whose end the clock stands still."""
        if not trio.testing.active_thread_count():
            self._thread_since_s = None
            return False
        now_s = time.monotonic()
        self._thread_since_s = self._thread_since_s or now_s
        return now_s - self._thread_since_s < THREAD_S

    def _spin(self) -> None:
        """A task has been ready in every turn: go to the next deadline, or in the end give up."""
        now_s, self._spins = trio.current_time(), 0
        if now_s > FAR_S + 1:  # all shields are open
            self._give_up()
            return
        self._jumps += 1
        jump_s = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if self._jumps > _JUMPS or jump_s == inf:
            jump_s = FAR_S + 2 - now_s
        self._clock.jump(max(jump_s, 0.0))
        self._most = _SPINS_LAST if now_s + jump_s >= FAR_S else _SPINS_AGAIN

    def _give_up(self) -> None:
        """End Trio's loop itself: there is a task that nothing else ends."""
        tasks = [] if self._main is None else leaf_tasks(self._main)
        why = "it goes on for ever, and swallows `trio.Cancelled`, which it must raise again:"
        hang = HangError("\n  ".join((why, *tasks_with_lines(tasks))))

        def broken() -> float:
            raise hang

        _NEVER_END.extend(tasks)
        cast("Any", self._clock).current_time = broken


_NEVER_END: list[trio.lowlevel.Task] = []
"""Kept, since Python would end them when it collects them, and tell that it could not."""
