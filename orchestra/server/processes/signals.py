"""The signals of a process: to stop, to hurry, to reload.

Rules of the file: SIGTERM and SIGINT ask to stop. A second one asks to hurry; in a worker
(`patient`) only SIGINT does, because it may get SIGTERM twice, from its supervisor and from whoever
stops both. SIGHUP asks to reload, unless the terminal has closed: then it asks to stop.
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
"""The functions for signals other than those to stop."""


class Shutdown:
    """Whether signals have asked this process to stop, and to hurry."""

    def __init__(self, *, patient: bool = False) -> None:
        self.patient = patient
        self.stop = trio.Event()
        self.hurry = trio.Event()

    async def hear(self, signals: AsyncIterator[int], acts: Acts) -> None:
        """Heed signals as they come, until cancelled; those in `acts` by calling that.

        Meanwhile others are heeded, so that a reload that hangs can be stopped. Signals that come
        while their act is under way count as one.
        """
        had_terminal = terminal_is_there()
        async with trio.open_nursery() as nursery:
            asked: dict[int, trio.MemorySendChannel[None]] = {}
            for each, act in acts.items():
                asked[each], calls = trio.open_memory_channel[None](1)
                nursery.start_soon(_perform, act, calls)
            async for number in signals:
                hung_up = number == HANGUP and had_terminal and not terminal_is_there()
                if hung_up or number not in asked:
                    self.heed(number)
                else:
                    with suppress(trio.WouldBlock):
                        asked[number].send_nowait(None)

    def heed(self, number: int) -> None:
        """Stop, or hurry where that was asked before."""
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
    """The signals that ask to stop, and these, as they come.

    With `ignore_after`, signals behind the end are ignored: the process is ending anyway, and must
    not be killed in its last lines. If SIGHUP is one of these, it is ignored then in any case; one
    that came before is received now.
    """
    came: list[int] = []
    early = remember() if HANGUP in more else None
    if ignore_after:  # this is the handler again behind the receiver
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
        if ignore_after:  # Python ends by those that it handles itself, at its very end
            for number in STOPPING:
                signal.signal(number, signal.SIG_IGN)
