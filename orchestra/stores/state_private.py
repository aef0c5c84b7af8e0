"""A state in a file that only its owner may read, and that is made when there is something to keep.

Rules of the file: as of `state_sqlite`. Who looks for something where there is no file finds
nothing, as in an empty one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence

from orchestra.errors import StateError
from orchestra.stores.grouping import Call, Deciding, Outcomes, decide_all
from orchestra.stores.state_sqlite import SqliteState

OWNER_ONLY = 0o600
"""SQLite gives the files beside it the same rights."""


class PrivateState(SqliteState):
    """A `SqliteState` of secrets. A file that is there already keeps the rights that it has."""

    def _in_thread(
        self, db: sqlite3.Connection | None, calls: Sequence[Call], given_up: threading.Event
    ) -> tuple[Outcomes, sqlite3.Connection | None]:
        if db is None and not self._is_there():
            changes = [call for call in calls if isinstance(call, Deciding)]
            there = {key: None for call in changes for key in call.keys}
            outcomes, written = decide_all(changes, there, self._now_s())
            if not written and len(changes) == len(calls):
                return outcomes, None
            self._make()
        return super()._in_thread(db, calls, given_up)

    def _is_there(self) -> bool:
        """Whether there is a file; one that cannot be reached is not one that is not there."""
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._out_of_reach(error) from error
        return True

    def _make(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, OWNER_ONLY))
        except OSError as error:
            raise self._out_of_reach(error) from error

    def _out_of_reach(self, error: OSError) -> StateError:
        return StateError(f"{self.path}: it cannot be reached: {error}; give another folder")
