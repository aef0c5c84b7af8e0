"""The file of a batch's results: it only grows, and one batch at a time writes it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from orchestra.batch.ledger import Ledger
from orchestra.errors import BatchError


class Results:
    """An open file of results, with what it said when it was opened."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self.ledger = Ledger.of(file)
        if file.tell() and not _ends_whole(file):
            self.append(b"\n")  # behind a line that was cut

    def append(self, line: bytes) -> None:
        """Write a line; from then on it survives this process, if not the machine.

        Raises:
            BatchError: it cannot be written, as on a full disk.
        """
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise _unwritable(self._path, error) from error


@contextmanager
def open_results(path: Path) -> Iterator[Results]:
    """The file, which is made where there is none; left, what was written is on the disk.

    Raises:
        BatchError: it cannot be opened or written, or another batch is writing it.
    """
    try:
        file = path.open("a+b")
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BatchError(
                f"{path}: another batch is writing it; wait for that one, or name another file"
            ) from error
        file.seek(0)
        yield Results(path, file)
        try:
            os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(path, error) from error


def _ends_whole(file: BinaryIO) -> bool:
    """Whether the last line of what is there has its line feed."""
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _unwritable(path: Path, error: Exception) -> BatchError:
    why = getattr(error, "strerror", None) or error
    return BatchError(f"{path}: results cannot be written there: {why}")
