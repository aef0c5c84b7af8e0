"""A path, and whether the file that was opened is still the one at this path.

Processes that have a SQLite file open do not notice when it is replaced or deleted. They go on with
the old file, which nobody else sees, and a key that was revoked in the new one stays valid.

Rules of the file: a file is looked up before it is opened, so that one that replaces it in between
is noticed at the next look. Files are made with `O_EXCL`, since closing any descriptor of a file
gives up all locks that this process has on it: only a file that nobody else has yet is closed.
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
"""Its device and its number: what a file is, whatever its name."""

LOOK_S = 1.0
"""How often it is looked whether the file is still there."""
_MAKING = threading.Lock()


class Place:
    """Where a file is: all that open it ask here whether it is still the same.

    What it raises is an `error`. A file that is made has the rights `mode`; SQLite gives the files
    beside it the same. `check` may refuse a file that took the place of another.
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
        """The file that is there now, to be opened; made if there never was one.

        Raises:
            OrchestraError: another was opened before, and it is gone; it cannot be reached; or
                `check` refuses it.
        """
        with _MAKING:  # what is closed here, nobody else in this process has open
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
        """The file that is there now.

        Raises:
            OrchestraError: there is none, or it cannot be reached.
        """
        found = self._reached()
        if found is None:
            raise self._error(
                f"{self.path}: the file that was open is gone; put it back, or make an empty one "
                "there to begin anew"
            )
        return found

    def check_there(self) -> None:
        """Find out that there is a file, if one was opened. It may be another.

        Raises:
            OrchestraError: there is none, or it cannot be reached.
        """
        if self._opened is not None:
            self.found()

    def is_there(self) -> bool:
        """Whether there is a file; one that was opened before has to be.

        Raises:
            OrchestraError: it cannot be reached: that is not the same as not being there.
        """
        return self._opened is not None or self._reached() is not None

    def is_still(self, opened: Inode | None, now_s: float) -> bool:
        """Whether this file is the one that is there, as of `LOOK_S` ago at most."""
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            try:
                self._there = self.look()
            except OSError:
                self._there = None
        return opened == self._there

    def look(self) -> Inode | None:
        """The file that is there now; None where there is none.

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
