"""SIGHUP before anybody can load anew: remembered, where it would have ended the process.

A service manager that is asked to reload right after a start sends it while modules are imported.

Rules of the file: it imports nothing that takes time. A terminal that closes ends the process, as
it ends any other.
"""

from __future__ import annotations

import os
import signal


class EarlyHangup:
    """A handler of SIGHUP: whether one `came`; once it is `over`, they are ignored."""

    def __init__(self) -> None:
        self.came = False
        self.over = False
        self._had_terminal = terminal_is_there()

    def __call__(self, number: int, frame: object) -> None:
        """Remember it, unless it says that the terminal has gone."""
        del frame
        if self.over:
            return
        if self._had_terminal and not terminal_is_there():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.came = True


def remember() -> EarlyHangup | None:
    """Remember from now on; what remembers already, or None where SIGHUP is none of our business.

    That is where whoever started us, such as nohup, wants it to be ignored, or somebody else in
    this process heeds it.
    """
    there = signal.getsignal(signal.SIGHUP)
    if isinstance(there, EarlyHangup) and not there.over:
        return there
    if there is not signal.SIG_DFL and not isinstance(there, EarlyHangup):
        return None
    made = EarlyHangup()
    signal.signal(signal.SIGHUP, made)
    return made


def terminal_is_there() -> bool:
    """Whether this process has a terminal that was not closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
