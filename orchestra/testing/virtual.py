"""Virtual time: an async function under Trio, with a clock that jumps and a drawn schedule.

The clock jumps to the next deadline whenever every task waits, so thirty seconds take no
time. The order in which ready tasks run is seeded, and so is what the module `random` draws:
Hypothesis by itself pins both, and would try one schedule, and one throw of the dice. With
`pace` and `threads`, this is where we touch what is private in Trio.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import Any, TypeVar, cast

import trio
import trio.testing
from trio._core import _run

from orchestra.errors import RunError
from orchestra.testing.pace import FAR_S, THREAD_S, HangError, Pace
from orchestra.testing.playing.task_tree import leaf_tasks, tasks_with_lines

__all__ = ["FAR_S", "THREAD_S", "HangError", "virtual"]

T = TypeVar("T")

_TRIO = cast("Any", _run)  # traps.md, 1; the tests notice when Trio has it no more
_SCHEDULER = threading.Lock()  # Trio's is one for the whole process, and so is its seed
_WITHIN: ContextVar[bool] = ContextVar("within", default=False)
"""Whether this is a thread of a simulated run, whose schedule stands still meanwhile."""


def virtual(main: Callable[[], Awaitable[T]], *, schedule: int = 0) -> T:
    """What an async function gives, in virtual time and under this schedule.

    A thread takes no virtual time: while one is at work, for `THREAD_S` real seconds at most, the
    clock stands still. Sockets do not hold it: it jumps while they are waited for. Of several
    threads that call this, one runs at a time.

    Raises:
        HangError: it still waits after `FAR_S`, also where it is shielded; or it goes on for ever
            without waiting, and swallows that it is cancelled.
        RunError: Trio is running already.
        Exception: whatever it raises.
    """
    return in_jumps(main, schedule, inf)


def in_jumps(main: Callable[[], Awaitable[T]], schedule: int, most: float) -> T:
    """As `virtual`, with the clock in the far future after so many jumps."""
    if trio.lowlevel.in_trio_run():
        raise RunError(
            "a simulation runs Trio by itself, in virtual time, and Trio is running here already; "
            "call it in a plain `def test_...():`, not in `async def` (as of pytest-trio)"
        )
    waiting: list[str] = []

    async def watched() -> T:
        task = trio.lowlevel.current_task()
        pace.watch(task)
        with trio.CancelScope() as scope:
            trio.lowlevel.spawn_system_task(_end_hangs, task, scope, waiting)
            return await main()
        raise HangError("\n  ".join((f"it still waits after {FAR_S:g} virtual seconds:", *waiting)))

    clock = trio.testing.MockClock(autojump_threshold=0)
    pace = Pace(clock, most)
    with _seeded(schedule):
        try:
            return trio.run(watched, clock=clock, instruments=[pace])
        except trio.TrioInternalError as error:
            if isinstance(error.__cause__, HangError):
                raise error.__cause__ from None
            raise  # pragma: no cover - a fault of Trio's own


async def _end_hangs(main: trio.lowlevel.Task, scope: trio.CancelScope, waiting: list[str]) -> None:
    """In the far future, cancel what still waits; and then in every shield, or it would be real."""
    await trio.sleep(FAR_S)
    waiting += tasks_with_lines(leaf_tasks(main))
    scope.cancel()
    await trio.sleep(1)
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
    """Trio's scheduler and `random` seeded with the schedule, and as they were afterwards."""
    if _WITHIN.get():
        with _seeded_alone(schedule):
            yield
        return
    with _SCHEDULER, _seeded_alone(schedule):
        token = _WITHIN.set(True)  # a thread of the run's own would wait for the run's end
        try:
            yield
        finally:
            _WITHIN.reset(token)


@contextmanager
def _seeded_alone(schedule: int) -> Iterator[None]:
    was = _TRIO._ALLOW_DETERMINISTIC_SCHEDULING  # noqa: SLF001
    state, drawn = _TRIO._r.getstate(), random.getstate()  # noqa: SLF001
    _TRIO._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
    _TRIO._r.seed(schedule)  # noqa: SLF001
    random.seed(schedule)
    try:
        yield
    finally:
        _TRIO._ALLOW_DETERMINISTIC_SCHEDULING = was  # noqa: SLF001
        _TRIO._r.setstate(state)  # noqa: SLF001
        random.setstate(drawn)
