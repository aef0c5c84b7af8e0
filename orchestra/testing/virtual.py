"""Virtual time: an async function under Trio, with a clock that jumps and a drawn schedule.

The clock jumps to the next deadline whenever every task waits, so thirty seconds take no
time. The order in which ready tasks run is seeded: Hypothesis by itself pins it, and would
try one schedule. This is the only file that touches what is private in Trio.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import trio
import trio.testing
from trio._core import _run

T = TypeVar("T")

FAR_S = 1e6
"""Virtual seconds after which what still waits is taken for what waits for ever."""

THREAD_S = 10.0
"""Real seconds for which a thread is waited for: one that waits for virtual time never ends."""
_LOOK_S = 0.0002
_TRIO = cast("Any", _run)  # traps.md, 1; the tests notice when Trio has it no more


class HangError(AssertionError):
    """Something was still waiting in the far future: nothing will ever wake it."""


def virtual(main: Callable[[], Awaitable[T]], *, schedule: int = 0) -> T:
    """What an async function gives, in virtual time and under this schedule.

    A thread takes no virtual time: while one is at work, for `THREAD_S` real seconds at most, the
    clock stands still. Sockets do not hold it: it jumps while they are waited for.

    Raises:
        HangError: it still waits after `FAR_S`, also where it is shielded.
        Exception: whatever it raises.
    """

    async def watched() -> T:
        trio.lowlevel.spawn_system_task(_open_shields, trio.lowlevel.current_task())
        with trio.move_on_after(FAR_S):
            return await main()
        raise HangError(f"it still waits after {FAR_S:g} virtual seconds")

    clock = trio.testing.MockClock(autojump_threshold=0)
    cast("Any", clock)._autojump = _Jumps(cast("Any", clock)._autojump)  # noqa: SLF001
    with _seeded(schedule):
        return trio.run(watched, clock=clock)


class _Jumps:
    """What the clock does when every task waits: it jumps, unless they wait for a thread."""

    def __init__(self, jump: Callable[[], None]) -> None:
        self._jump = jump
        self._since_s: float | None = None

    def __call__(self) -> None:
        now_s = time.monotonic()
        if not trio.testing.active_thread_count():
            self._since_s = None
        elif self._since_s is None or now_s - self._since_s < THREAD_S:
            self._since_s = self._since_s or now_s
            time.sleep(_LOOK_S)
            return
        self._jump()


async def _open_shields(main: trio.lowlevel.Task) -> None:
    """In the far future, let a cancellation into every shield, or a hang would be a real one."""
    await trio.sleep(FAR_S + 1)
    tasks = [main]
    while tasks:
        task = tasks.pop()
        tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        status = cast("Any", task)._cancel_status  # noqa: SLF001 - see the top of the file
        while status is not None:
            status._scope.shield = False  # noqa: SLF001
            status = status._parent  # noqa: SLF001


@contextmanager
def _seeded(schedule: int) -> Iterator[None]:
    """Trio's scheduler seeded with the schedule, and as it was afterwards."""
    was = _TRIO._ALLOW_DETERMINISTIC_SCHEDULING  # noqa: SLF001
    state = _TRIO._r.getstate()  # noqa: SLF001
    _TRIO._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
    _TRIO._r.seed(schedule)  # noqa: SLF001
    try:
        yield
    finally:
        _TRIO._ALLOW_DETERMINISTIC_SCHEDULING = was  # noqa: SLF001
        _TRIO._r.setstate(state)  # noqa: SLF001
