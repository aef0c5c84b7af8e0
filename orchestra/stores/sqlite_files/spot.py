"""Reading a state's file on the spot: in the task that asks, and not in a thread.

The theory of it: with a write-ahead log, a reader never waits for a writer. What is read all the
time is in memory, the kernel's or SQLite's: a key is read in five microseconds, and the way to a
thread and back takes forty times that. Only the disk could make it wait.

Rules of the file: it only reads. A read that would have to wait, or that fails, is left to a
thread, and so are all reads in the `REST_S` after a slow one.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestra.stores.sqlite_files.place import LOOK_S, Inode, Place

SLOW_S = 0.01
"""A thousand times what a read takes; a process that has lost its processor takes this, too."""
REST_S = 1.0
DATA = "CAST(data AS BLOB)"
"""What is kept, as bytes: one who writes by hand writes text, or a number."""


class SpotReader:
    """A connection for reading, opened when it is first needed. For one thread.

    A file of a layout above `layout_max` it leaves to the thread, too, which refuses it.
    """

    def __init__(
        self, place: Place, *, layout_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._place = place
        self._layout_max = layout_max
        self._clock = clock
        self._db: sqlite3.Connection | None = None
        self._opened: Inode | None = None
        self._rests_until_s = 0.0
        self._look_s = -math.inf
        self._layout = layout_max

    def read(self, keys: Sequence[bytes], now_s: float) -> dict[bytes, bytes] | None:
        """What is kept under these keys at that time; None where it cannot be told on the spot.

        The file has to be there, and prepared.
        """
        rows = self._rows(_select(len(keys)), (*keys, now_s))
        return None if rows is None else dict(rows)

    def lacks(self, key: bytes) -> bool:
        """Whether nothing is remembered under a key, not even what has expired.

        False also where that cannot be told on the spot.
        """
        return self._rows("SELECT 1 FROM memory WHERE key = ?", (key,)) == []

    def _rows(self, asked: str, values: Sequence[object]) -> list[Any] | None:
        began_s = self._clock()
        if began_s < self._rests_until_s:
            return None
        try:
            if self._db is None:
                self._opened = self._place.look()
                self._db = _connected(self._place.path)
            elif not self._place.is_still(self._opened, began_s):
                self.close()
                return None
            if not self._knows_layout(began_s):
                return None
            rows = self._db.execute(asked, values).fetchall()
        except (sqlite3.Error, OSError):
            self.close()  # a thread tells what is wrong, if it is still
            return None
        ended_s = self._clock()
        if ended_s - began_s > SLOW_S:
            self._rests_until_s = ended_s + REST_S
        return rows

    def _knows_layout(self, now_s: float) -> bool:
        """Whether no newer version has taken the file, as of `LOOK_S` ago at most."""
        if now_s >= self._look_s and self._db is not None:
            self._layout = self._db.execute("PRAGMA user_version").fetchone()[0]
            self._look_s = now_s + LOOK_S
        return self._layout <= self._layout_max

    def close(self) -> None:
        """Close the connection; the next that reads opens another."""
        db, self._db, self._look_s = self._db, None, -math.inf
        if db is not None:
            db.close()


def _connected(path: Path) -> sqlite3.Connection:
    """A connection that makes no file, and waits for nobody."""
    where = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(
        where, uri=True, timeout=0.0, isolation_level=None, check_same_thread=False
    )


@lru_cache(maxsize=16)
def _select(count: int) -> str:
    """One statement, so that all of it is read at one time."""
    return f"SELECT key, {DATA} FROM entry WHERE key IN ({','.join('?' * count)}) AND until_s > ?"  # noqa: S608 - it is made of question marks
