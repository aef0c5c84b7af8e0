"""SIGHUP (reload) while the process still starts: remembered, where it would have ended it.

A service manager that is asked to reload right after a start sends it while modules are imported.

Rules of the file: it imports nothing that takes time. A terminal that closes ends the process, as
it ends any other.
"""

from __future__ import annotations

import os
import signal


class EarlyHangup:
    """A handler of SIGHUP: `came` says whether one has come; set `over` to ignore all others."""

    def __init__(self) -> None:
        self.came = False
        self.over = False
        self._had_terminal = terminal_is_there()

    def __call__(self, number: int, frame: object) -> None:
        """Remember the signal; if it came because the terminal has gone, end the process."""
        del frame
        if self.over:
            return
        if self._had_terminal and not terminal_is_there():  # pragma: no cover - it ends at once
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.came = True


def remember() -> EarlyHangup | None:
    """Handle SIGHUP from now on: the handler, new or already there; None if SIGHUP is not ours.

    It is not ours where the parent, such as nohup, ignores it, or other code in this process
    handles it.
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
