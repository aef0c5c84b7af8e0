"""A path, and whether the file that was opened there still is.

Who replaces or deletes a SQLite file does nothing to those that have it open: they go on with one
that nobody else sees, and a key that was revoked in the new file is good in the old one for ever.

Rules of the file: a file is looked for before it is opened, so that one which takes its place in
between is noticed at the next look. Files are made with `O_EXCL`: closing any descriptor of a file
gives up all locks that this process has on it, so that only what nobody else has yet is closed.
"""

from __future__ import annotations

import logging
import math
import threading
from pathlib import Path

from orchestra.errors import StateError
from orchestra.stores.sqlite_files.file import Inode, inode_of
from orchestra.stores.sqlite_files.ownership import make_file, make_folder

log = logging.getLogger("orchestra.stores")

LOOK_S = 1.0
"""How often it is looked whether the file is still there."""
OWNER_ONLY = 0o600
"""SQLite gives the files beside it the same rights."""
_MAKING = threading.Lock()


class Place:
    """Where a file of a state is: all that open it ask here whether it is still the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._there: Inode | None = None
        self._opened: Inode | None = None
        self._look_s = -math.inf

    def make(self) -> Inode:
        """The file that is there now, to be opened; made, its owner's alone, if there was none.

        Raises:
            StateError: another was opened before, and it is gone; or it cannot be reached.
        """
        try:
            with _MAKING:  # what is closed here, nobody else in this process has open
                if self._opened is None:
                    make_folder(self.path.parent)
                    make_file(self.path, OWNER_ONLY)
                found = self.look()
        except OSError as error:
            raise self._out_of_reach(error) from error
        if found is None:
            raise self._gone()
        if self._opened not in (None, found):
            log.warning("%s was replaced by another file, which is used from now on", self.path)
        self._there = self._opened = found
        return found

    def check_there(self) -> None:
        """Find out that there is a file, if one was opened.

        Raises:
            StateError: there is none, or it cannot be reached.
        """
        try:
            if self._opened is not None and self.look() is None:
                raise self._gone()
        except OSError as error:
            raise self._out_of_reach(error) from error

    def is_there(self) -> bool:
        """Whether there is a file; one that was opened before has to be.

        Raises:
            StateError: it cannot be reached: that is not the same as not being there.
        """
        try:
            return self._opened is not None or self.look() is not None
        except OSError as error:
            raise self._out_of_reach(error) from error

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
        return inode_of(self.path)

    def _gone(self) -> StateError:
        return StateError(
            f"{self.path}: the file that was open is gone; put it back, or make an empty one "
            "there to begin anew"
        )

    def _out_of_reach(self, error: OSError) -> StateError:
        return StateError(f"{self.path}: it cannot be reached: {error}; give another folder")
