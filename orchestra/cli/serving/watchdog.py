"""A watchdog, which ends a server's process when something in it does not end.

Nothing can stop a thread: one that is stuck keeps its run, and the run the event loop, for ever.
So the process is ended without it. Whatever holds the interpreter itself keeps even the line
that says so; then `faulthandler`, which needs no interpreter, tells where each thread is.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestra.cli.failures import FAILED

MARGIN_S = 3.0
"""What stopping may take beyond its bounds: two seconds of it to settle what calls have cost."""
HELD_S = 1.0
"""How much longer the interpreter is waited for."""

_ERR = 2  # by its number: it is told without the interpreter

log = logging.getLogger("orchestra.server")


class Watchdog:
    """Ends this process where it does not end by itself."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def start(self, time_s: float) -> None:
        """End the process after so many seconds and `MARGIN_S`, unless it is stopped before."""
        time_s += MARGIN_S
        faulthandler.dump_traceback_later(time_s + HELD_S, exit=True, file=_ERR)
        self._timer = threading.Timer(time_s, _end, (time_s,))
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """Forget it: the process ends by itself."""
        faulthandler.cancel_dump_traceback_later()
        if self._timer is not None:
            self._timer.cancel()


@contextmanager
def watchdog() -> Iterator[Watchdog]:
    """A watchdog that is stopped at the end of the block."""
    dog = Watchdog()
    try:
        yield dog
    finally:
        dog.stop()


def _end(time_s: float) -> None:  # pragma: no cover - nothing is counted after it
    log.error(
        "the process has not ended within %g s and is killed: a step or tool is stuck in a thread "
        "(give what it waits for a timeout); the threads are here:",
        time_s,
    )
    faulthandler.dump_traceback(_ERR)
    os._exit(FAILED)
