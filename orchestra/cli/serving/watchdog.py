"""A watchdog, which ends a server's process when something in it does not end.

A thread cannot be stopped: a stuck one blocks the end of its run, and the run blocks the end of the
event loop. So the process is killed. If code holds the interpreter itself, nothing can be logged;
then `faulthandler`, which does not need the interpreter, prints where the threads are.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading

from orchestra.cli.failures import FAILED
from orchestra.closing import Closing

MARGIN_S = 3.0
"""Seconds that stopping may take beyond its limits, two of them to settle the cost of calls."""
HELD_S = 1.0
"""Seconds to wait for the interpreter after that."""

_ERR = 2  # a descriptor: `faulthandler` cannot use a Python object here

log = logging.getLogger("orchestra.server")


class Watchdog(Closing):
    """Ends this process if it does not end by itself; leaving its context stops it."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def start(self, time_s: float) -> None:
        """End the process after so many seconds and `MARGIN_S`, unless it is stopped before."""
        time_s += MARGIN_S
        faulthandler.dump_traceback_later(time_s + HELD_S, exit=True, file=_ERR)
        self._timer = threading.Timer(time_s, _end, (time_s,))
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """Stop the watchdog: the process ends by itself."""
        faulthandler.cancel_dump_traceback_later()
        if self._timer is not None:
            self._timer.cancel()


def _end(time_s: float) -> None:  # pragma: no cover - nothing is counted after it
    log.error(
        "the process has not ended within %g s and is killed: a step or tool is stuck in a thread "
        "(give what it waits for a timeout); the threads are here:",
        time_s,
    )
    tell = threading.Thread(target=_tell, daemon=True)
    tell.start()
    tell.join(HELD_S)  # the program that reads standard error may hang, too
    os._exit(FAILED)


def _tell() -> None:  # pragma: no cover - nothing is counted after it
    logging.shutdown()
    faulthandler.dump_traceback(_ERR)
