"""The signals of a process: to stop, to hurry, to reload.

Rules of the file: SIGTERM and SIGINT ask to stop. A second one asks to hurry; in a worker
(`patient`) only SIGINT does, because a worker may get SIGTERM twice: from its supervisor, and from
a service manager that stops both. SIGHUP asks to reload, unless the terminal has closed: then it
asks to stop.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeAlias

import trio

from orchestra.server.processes.hangups import remember, terminal_is_there

HANGUP = signal.SIGHUP
STOPPING = (signal.SIGTERM, signal.SIGINT)

Acts: TypeAlias = Mapping[signal.Signals, Callable[[], Awaitable[object]]]
"""The functions to call for other signals than those that stop the process."""


class Shutdown:
    """Whether signals have asked this process to stop, and to hurry."""

    def __init__(self, *, patient: bool = False) -> None:
        self.patient = patient
        self.stop = trio.Event()
        self.hurry = trio.Event()

    async def hear(self, signals: AsyncIterator[int], acts: Acts) -> None:
        """Handle signals as they arrive, until cancelled: call their function in `acts`, or `heed`.

        Each function runs in its own task, so that a reload that hangs does not delay a stop. All
        signals that arrive while their function runs cause one more call.
        """
        had_terminal = terminal_is_there()
        async with trio.open_nursery() as nursery:
            channels: dict[int, trio.MemorySendChannel[None]] = {}
            for each, act in acts.items():
                channels[each], calls = trio.open_memory_channel[None](1)
                nursery.start_soon(_perform, act, calls)
            async for number in signals:
                hung_up = number == HANGUP and had_terminal and not terminal_is_there()
                if hung_up or number not in channels:
                    self.heed(number)
                else:
                    with suppress(trio.WouldBlock):
                        channels[number].send_nowait(None)

    def heed(self, number: int) -> None:
        """Ask to stop; if that was asked before, to hurry."""
        if not self.stop.is_set():
            self.stop.set()
        elif number == signal.SIGINT or not self.patient:
            self.hurry.set()


async def _perform(
    act: Callable[[], Awaitable[object]], calls: trio.MemoryReceiveChannel[None]
) -> None:
    async for _ in calls:
        await act()


@contextmanager
def receiving(*more: signal.Signals, ignore_after: bool = False) -> Iterator[AsyncIterator[int]]:
    """Receive the signals that ask to stop, and those in `more`, as they arrive.

    With `ignore_after`, signals to stop are ignored after the block: the process is ending anyway,
    and must not be killed in its last lines. If `more` has SIGHUP, it is ignored after the block in
    any case, and one that arrived before the block is received in it.
    """
    came: list[int] = []
    early = remember() if HANGUP in more else None
    if ignore_after:  # Trio's receiver restores this handler at its end
        for number in STOPPING:
            signal.signal(number, lambda number, _: came.append(number))
    try:
        with trio.open_signal_receiver(*STOPPING, *more) as signals:
            if early is not None:
                early.over = True
                came += [HANGUP] * early.came
            for each in came:
                signal.raise_signal(each)
            yield signals
    finally:
        if ignore_after:  # at its very end, Python resets signals that have a Python handler
            for number in STOPPING:
                signal.signal(number, signal.SIG_IGN)
