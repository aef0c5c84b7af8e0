"""Remembers a SIGHUP (reload) that arrives while the process starts, and would otherwise end it.

A service manager that is asked to reload right after a start sends SIGHUP while modules are
imported.

Rules of the file: it imports nothing that takes time. When the terminal closes, the process ends,
as any other does.
"""

from __future__ import annotations

import os
import signal


class EarlyHangup:
    """A handler of SIGHUP: `came` says whether one has arrived; set `over` to ignore later ones."""

    def __init__(self) -> None:
        self.came = False
        self.over = False
        self._had_terminal = terminal_is_there()

    def __call__(self, number: int, frame: object) -> None:
        """Remember the signal; if it arrived because the terminal was closed, end the process."""
        del frame
        if self.over:
            return
        if self._had_terminal and not terminal_is_there():  # pragma: no cover - it ends at once
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.came = True


def remember() -> EarlyHangup | None:
    """Install a handler of SIGHUP, and return it; None if SIGHUP is not ours to handle.

    An installed handler is reused, unless it is `over`. SIGHUP is not ours if the parent process
    (such as nohup) ignores it, or if other code in this process handles it.
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
    """Whether this process has a terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
