"""The append-only file of a batch's results, which one batch at a time writes."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from orchestra.batch.ledger import Ledger
from orchestra.errors import BatchError


class Results:
    """An open file of results, with what it said when it was opened."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path = path
        self._file = file
        with path.open("rb") as lines:
            self.ledger = Ledger.of(lines)
        if file.seek(0, os.SEEK_END) and not _ends_whole(file):
            self.append(b"\n")  # behind a line that was cut

    def append(self, line: bytes) -> None:
        """Write a line; from then on it survives this process, if not the machine.

        Raises:
            BatchError: it cannot be written, as on a full disk.
        """
        try:
            while line:
                line = line[self._file.write(line) :]  # a disk may take a part before it is full
        except OSError as error:
            raise _unwritable(self._path, error) from error


@contextmanager
def open_results(path: Path) -> Iterator[Results]:
    """The file, which is made where there is none; left, what was written is on the disk.

    Raises:
        BatchError: it cannot be opened or written, or another batch is writing it.
    """
    try:
        # Without a buffer, which would be written once more when the file is closed.
        file = path.open("a+b", buffering=0)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            why = "it is no file, and what is there is read first, to go on from it"
            raise _unwritable(path, why)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BatchError(
                f"{path}: another batch is writing it; wait for that one, or name another file"
            ) from error
        yield Results(path, file)
        try:
            os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(path, error) from error


def _ends_whole(file: FileIO) -> bool:
    """Whether the last line of what is there has its line feed."""
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _unwritable(path: Path, error: Exception | str) -> BatchError:
    why = getattr(error, "strerror", None) or error
    return BatchError(f"{path}: results cannot be written there: {why}")
