"""Ctrl-C and SIGTERM: the first signal stops the work in order, the second kills the process."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from orchestra.cli.failures import INTERRUPTED, TERMINATED, CommandError

T = TypeVar("T")
CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


async def on_signal(
    stop: Callable[[signal.Signals], object],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `stop` at the first Ctrl-C or SIGTERM; the next one kills the process.

    So a step that cannot be interrupted does not keep the process alive. `task_status` is started
    once signals are caught. If this is cancelled before a signal, it restores their handlers.
    """
    with trio.open_signal_receiver(*CODES) as signals:
        task_status.started()
        number = signal.Signals(await anext(signals))
    for each in CODES:
        signal.signal(each, signal.SIG_DFL)
    stop(number)


async def until_signal(work: Callable[[], Awaitable[T]]) -> T:
    """Do the work and return its result; cancel it at a signal.

    Raises:
        CommandError: a signal came first.
    """
    stopped: list[signal.Signals] = []
    async with trio.open_nursery() as nursery:

        def stop(number: signal.Signals) -> None:
            stopped.append(number)
            nursery.cancel_scope.cancel()

        await nursery.start(on_signal, stop)
        result = await work()
        nursery.cancel_scope.cancel()
    if stopped:
        raise CommandError(f"stopped by {NAMES[stopped[0]]}", code=CODES[stopped[0]])
    return result
