"""A path, and whether the file that was opened is still the one at this path.

Processes that have a SQLite file open do not notice when it is replaced or deleted. They would go
on with the old file, which nobody else sees, and a key that is revoked in the new file would stay
valid.

Rules of the file: the identity of a file is read before the file is opened, so that a replacement
in between is noticed at the next check. Files are created with `O_EXCL`: see `make_file`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from pathlib import Path

from orchestra.errors import OrchestraError
from orchestra.stores.sqlite_files.ownership import make_file, make_folder

log = logging.getLogger("orchestra.stores")

Inode = tuple[int, int]
"""The identity of a file, whatever its name: its device and its inode number."""

LOOK_S = 1.0
"""How often to check whether the file is still there, in seconds."""
_MAKING = threading.Lock()


class Place:
    """The path of a file; all connections to the file ask here whether it is still the same.

    `error` is the class of the errors that are raised. A new file gets the permissions `mode`;
    SQLite gives the files beside it the same. `check` may refuse a file that has replaced another.
    """

    def __init__(
        self,
        path: Path,
        error: Callable[[str], OrchestraError],
        mode: int,
        check: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self.path = path
        self._error = error
        self._mode = mode
        self._check = check
        self._there: Inode | None = None
        self._opened: Inode | None = None
        self._look_s = -math.inf

    def make(self) -> Inode:
        """The identity of the file to open now; creates the file if none was opened before.

        Raises:
            OrchestraError: a file was opened before, and now there is none; it cannot be reached;
                or `check` refuses it.
        """
        with _MAKING:  # so no other thread of this process has the new file open yet
            if self._opened is None:
                self._make()
            found = self.found()
            if self._opened not in (None, found):
                self._check(self.path)
                log.warning("%s was replaced by another file, which is used from now on", self.path)
            self._there = self._opened = found
            return found

    def _make(self) -> None:
        try:
            make_folder(self.path.parent)
            make_file(self.path, self._mode)
        except OSError as error:
            raise self._out_of_reach(error) from error

    def found(self) -> Inode:
        """The identity of the file that is there now.

        Raises:
            OrchestraError: there is none, or it cannot be reached.
        """
        found = self._reached()
        if found is None:
            raise self._error(
                f"{self.path}: the file that was open is gone; put it back, or create an empty one "
                "there to start over"
            )
        return found

    def check_there(self) -> None:
        """Check that there is a file, if one was opened before. It may be another file.

        Raises:
            OrchestraError: there is none, or it cannot be reached.
        """
        if self._opened is not None:
            self.found()

    def is_there(self) -> bool:
        """Whether there is a file; True if one was opened before, since a missing one is an error.

        Raises:
            OrchestraError: it cannot be reached, which does not mean that it does not exist.
        """
        return self._opened is not None or self._reached() is not None

    def is_still(self, opened: Inode | None, now_s: float) -> bool:
        """Whether `opened` is the file that is there; the result is at most `LOOK_S` old."""
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            try:
                self._there = self.look()
            except OSError:
                self._there = None
        return opened == self._there

    def look(self) -> Inode | None:
        """The identity of the file that is there now; None if there is none.

        Raises:
            OSError: it cannot be reached.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _reached(self) -> Inode | None:
        try:
            return self.look()
        except OSError as error:
            raise self._out_of_reach(error) from error

    def _out_of_reach(self, error: OSError) -> OrchestraError:
        return self._error(f"{self.path}: it cannot be reached: {error}; give another folder")
