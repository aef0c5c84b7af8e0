"""The append-only results file of a batch, locked so that only one batch writes it at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from orchestra.batch.ledger import finished_rows
from orchestra.errors import BatchError


class Results:
    """An open results file; `finished` are the rows that were done when it was opened."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path = path
        self._file = file
        with path.open("rb") as lines:
            self.finished = finished_rows(lines)
        if file.seek(0, os.SEEK_END) and not _ends_whole(file):
            self.append(b"\n")  # ends a line that was truncated

    def append(self, line: bytes) -> None:
        """Write a line; from then on it survives a crash of this process, but not of the machine.

        Raises:
            BatchError: the line cannot be written, for example because the disk is full.
        """
        try:
            while line:
                line = line[self._file.write(line) :]  # a disk that fills up may accept only a part
        except OSError as error:
            raise _unwritable(self._path, error) from error


@contextmanager
def open_results(path: Path) -> Iterator[Results]:
    """Open the results file, creating it if needed; a normal exit syncs it to disk.

    Raises:
        BatchError: the file cannot be opened or written, or another batch is writing it.
    """
    try:
        # Unbuffered: after a failed write, closing the file would write its buffer again.
        file = path.open("a+b", buffering=0)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            why = "this is not a regular file, and a batch reads its results file to continue it"
            raise _unwritable(path, why)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BatchError(
                f"{path}: another batch is writing this file; wait for it, or name another file"
            ) from error
        except OSError as error:  # as on a network file system that has no locks
            why = f"it cannot be locked: {error.strerror}; name a file on a local disk"
            raise _unwritable(path, why) from error
        yield Results(path, file)
        try:
            os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(path, error) from error


def _ends_whole(file: FileIO) -> bool:
    """Whether the file, which is not empty, ends with a line feed."""
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _unwritable(path: Path, error: Exception | str) -> BatchError:
    why = getattr(error, "strerror", None) or error
    return BatchError(f"{path}: results cannot be written to this file: {why}")
