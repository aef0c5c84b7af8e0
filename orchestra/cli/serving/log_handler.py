"""Writes the log without waiting for the program that reads it.

Standard error is often a pipe to a program that collects logs. If that hangs, the pipe is full
after 64 KiB, and a write to it waits for ever: in the event loop, it would stop the server. If it
is a file, its disk may be full.

Rules of the file: a thread writes the entries, in order; logging never waits. The queue of the
thread is bounded; further entries are dropped, and their number is logged as soon as entries are
written again, as in HAProxy. A forked process has no thread, and writes at once.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from stat import S_ISREG

HELD_BYTES_MAX = 4 * 1024 * 1024
"""The most bytes that may wait to be written: some 20,000 entries."""
FLUSH_S = 1.0
"""Seconds for which `flush` waits."""
AGAIN_S = 0.5
"""Seconds after which entries are written again to a disk that was full; `flush` waits longer."""
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""Errors of a file that pass when there is room again, or the disk works."""
_DROPPED = "log entries dropped, because those before them were not written in time: %d"

log = logging.getLogger("orchestra.server")


class LogHandler(logging.Handler):
    """Writes entries to a file descriptor, in a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waits = True
        """Whether lines wait for the thread: a forked process has none."""
        self._begin()
        os.register_at_fork(after_in_child=self._forked)
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue an entry for the thread, or drop it if the queue is full."""
        try:
            line = self._line(record)
        except Exception:  # noqa: BLE001 - as in every handler: logging must not raise
            self.handleError(record)
        else:
            self.write(line)

    def write(self, line: bytes) -> None:
        """Queue a line behind the entries so far, or drop it if the queue is full."""
        if not self._waits:
            _write_all(self._descriptor, line, waits=False)
            return
        with self._changed:
            if self._held_bytes + len(line) > HELD_BYTES_MAX:
                self._dropped += 1
            else:
                self._hold(line, len(line))

    def flush(self) -> None:
        """Wait until all entries are written, for `FLUSH_S` at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held_bytes, FLUSH_S)

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _hold(self, line: bytes, size_bytes: int) -> None:
        # Nothing is called while a number changes: a signal's handler and `__del__` may log, too,
        # and Python calls them behind any call, also with the lock.
        self._lines.append(line)
        self._held_bytes += size_bytes
        self._changed.notify_all()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._lines: list[bytes] = []
        self._held_bytes = 0
        self._dropped = 0

    def _forked(self) -> None:
        """Write at once from now on: such a process serves nobody, and often ends by `_exit`."""
        self._waits = False
        self._begin()  # the queued lines belong to the parent process

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                lines, self._lines = self._lines, []
            data = b"".join(lines)
            _write_all(self._descriptor, data)
            self._written(len(data))

    def _written(self, size_bytes: int) -> None:
        with self._changed:
            self._held_bytes -= size_bytes
            dropped, self._dropped = self._dropped, 0
            if dropped:  # not through `handle`: `logging.shutdown` has its lock while it flushes
                record = log.makeRecord(log.name, logging.ERROR, "", 0, _DROPPED, (dropped,), None)
                self.filter(record)
                line = self._line(record)
                self._hold(line, len(line))
            self._changed.notify_all()


def _write_all(descriptor: int, data: bytes, *, waits: bool = True) -> None:
    """Write all of it, waiting as long as it takes; stop once the reader or terminal has gone.

    Without `waits`, it does not wait for a full disk.
    """
    at = 0
    while at < len(data):
        try:
            at += os.write(descriptor, memoryview(data)[at:])
        except BlockingIOError:  # the calling process has made it non-blocking
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
        except OSError as error:
            passes = waits and error.errno in _PASSING
            if not passes or not S_ISREG(os.fstat(descriptor).st_mode):
                return
            time.sleep(AGAIN_S)
            # Another process may write to this file first, so a torn line is written once more.
            line = data.rfind(b"\n", 0, at) + 1
            data, at = b"\n" + data[line:].removeprefix(b"\n"), 0
