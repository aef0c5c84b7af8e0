"""Virtual time: run an async function under Trio, with a clock that jumps and a seeded schedule.

The clock jumps to the next deadline whenever every task waits, so thirty seconds take no time.
The order of ready tasks is seeded, and so is the module `random`: Hypothesis seeds both with
constants, so it would always try one schedule and the same random numbers. This file uses private
parts of Trio, as do `pace` and `threads`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from math import inf
from typing import Any, TypeVar, cast

import trio
import trio.testing
from trio._core import _run

from orchestra.errors import RunError
from orchestra.testing.pace import FAR_S, THREAD_S, HangError, Pace
from orchestra.testing.playing.task_tree import leaf_tasks, tasks_below, tasks_with_lines

__all__ = ["FAR_S", "THREAD_S", "HangError", "virtual"]

T = TypeVar("T")

_TRIO = cast("Any", _run)  # its scheduler is private; tests notice when it changes
_SCHEDULER = threading.Lock()  # Trio's random generator is one per process
_WITHIN: ContextVar[bool] = ContextVar("within", default=False)
"""Whether this is a thread of a simulated run, whose clock stands still meanwhile."""


def virtual(main: Callable[[], Awaitable[T]], *, schedule: int = 0) -> T:
    """Run an async function in virtual time under this schedule, and return its value.

    A thread takes no virtual time: while one runs, for at most `THREAD_S` real seconds, the
    clock stands still. Sockets do not stop the clock: it jumps while a task waits for them. If
    several threads call this, they run one at a time.

    Raises:
        HangError: the function still waits after `FAR_S`, even if shielded; or it runs for ever
            without waiting, and swallows its cancellation.
        RunError: Trio is running already.
        Exception: whatever the function raises.
    """
    return in_jumps(main, schedule, inf)


def in_jumps(main: Callable[[], Awaitable[T]], schedule: int, most: float) -> T:
    """Like `virtual`, but after `most` jumps the clock goes to the far future."""
    if trio.lowlevel.in_trio_run():
        raise RunError(
            "a simulation runs Trio itself, in virtual time, and Trio is already running here; "
            "call it in a plain `def test_...():`, not an `async def` (as in pytest-trio)"
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
            raise  # pragma: no cover - a bug in Trio


async def _end_hangs(main: trio.lowlevel.Task, scope: trio.CancelScope, waiting: list[str]) -> None:
    """In the far future, cancel waiting tasks; then remove every shield: no wait may be real."""
    await trio.sleep(FAR_S)
    waiting += tasks_with_lines(leaf_tasks(main))
    scope.cancel()
    await trio.sleep(1)
    for task in tasks_below(main):
        status = cast("Any", task)._cancel_status  # noqa: SLF001 - see the top of the file
        while status is not None:
            status._scope.shield = False  # noqa: SLF001
            status = status._parent  # noqa: SLF001


@contextmanager
def _seeded(schedule: int) -> Iterator[None]:
    """A context in which Trio's scheduler and `random` are seeded; both are restored after it."""
    with nullcontext() if _WITHIN.get() else _SCHEDULER:  # a thread of a run would wait for its end
        token, was = _WITHIN.set(True), _TRIO._ALLOW_DETERMINISTIC_SCHEDULING  # noqa: SLF001
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
            _WITHIN.reset(token)
