"""Virtual time: an async function under Trio, with a clock that jumps and a drawn schedule.

The clock jumps to the next deadline whenever every task waits, so thirty seconds take no
time. The order in which ready tasks run is seeded: Hypothesis by itself pins it, and would
try one schedule. This is the only file that touches what is private in Trio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import trio
import trio.testing
from trio._core import _run

T = TypeVar("T")

FAR_S = 1e6
"""Virtual seconds after which what still waits is taken for what waits for ever."""

_TRIO = cast("Any", _run)  # traps.md, 1; the tests notice when Trio has it no more


class HangError(AssertionError):
    """Something was still waiting in the far future: nothing will ever wake it."""


def virtual(main: Callable[[], Awaitable[T]], *, schedule: int = 0) -> T:
    """What an async function gives, in virtual time and under this schedule.

    Threads and sockets take no virtual time: the clock jumps while they are waited for.

    Raises:
        HangError: it still waits after `FAR_S`, also where it is shielded.
        Exception: whatever it raises.
    """

    async def watched() -> T:
        trio.lowlevel.spawn_system_task(_open_shields, trio.lowlevel.current_task())
        with trio.move_on_after(FAR_S):
            return await main()
        raise HangError(f"it still waits after {FAR_S:g} virtual seconds")

    with _seeded(schedule):
        return trio.run(watched, clock=trio.testing.MockClock(autojump_threshold=0))


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
