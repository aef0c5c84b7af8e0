"""Reads a state's file on the spot: in the calling task, and not in a worker thread.

The theory: with a write-ahead log, a reader never waits for a writer. Data that is read all the
time is in the memory of the kernel or of SQLite: reading a key takes five microseconds, and going
to a thread and back takes forty times as long. Only the disk could make such a read wait.

Rules of the file: it only reads. A read that would have to wait, or that fails, is left to a
worker thread, and so are all reads in the `REST_S` after a slow one.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestra.stores.sqlite_files.opening import layout_of
from orchestra.stores.sqlite_files.place import LOOK_S, Inode, Place

SLOW_S = 0.01
"""A read that takes longer is slow. Reads usually take a thousandth of this, unless the process is
descheduled.
"""
REST_S = 1.0
"""How long reads are left to threads after a slow one, in seconds."""
DATA = "CAST(data AS BLOB)"
"""The stored data as bytes; a value that somebody wrote by hand may be text or a number."""


class SpotReader:
    """A read-only connection, opened when it is first needed, for one thread.

    A file with a layout above `layout_max` is not read here: the worker thread refuses it.
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
        """The stored data of these keys at the time `now_s`, without those that have expired.

        None if it cannot be read on the spot. The file must exist and have its tables.
        """
        rows = self._rows(_select(len(keys)), (*keys, now_s))
        return None if rows is None else dict(rows)

    def lacks(self, key: bytes) -> bool:
        """Whether nothing is remembered under a key, not even an expired value.

        False also means that it cannot be read on the spot.
        """
        return self._rows("SELECT 1 FROM memory WHERE key = ?", (key,)) == []

    def _rows(self, query: str, values: Sequence[object]) -> list[Any] | None:
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
            rows = self._db.execute(query, values).fetchall()
        except (sqlite3.Error, OSError):
            self.close()  # if the error persists, the worker thread reports it
            return None
        ended_s = self._clock()
        if ended_s - began_s > SLOW_S:
            self._rests_until_s = ended_s + REST_S
        return rows

    def _knows_layout(self, now_s: float) -> bool:
        """Whether the file has a layout that we know; the result is at most `LOOK_S` old."""
        if now_s >= self._look_s and self._db is not None:
            self._layout = layout_of(self._db)
            self._look_s = now_s + LOOK_S
        return self._layout <= self._layout_max

    def close(self) -> None:
        """Close the connection; the next read opens a new one."""
        db, self._db, self._look_s = self._db, None, -math.inf
        if db is not None:
            db.close()


def _connected(path: Path) -> sqlite3.Connection:
    """A connection that never creates a file, and never waits for a lock."""
    where = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(
        where, uri=True, timeout=0.0, isolation_level=None, check_same_thread=False
    )


@lru_cache(maxsize=16)
def _select(count: int) -> str:
    """The statement that reads `count` keys: a single one, so that it reads one snapshot."""
    return f"SELECT key, {DATA} FROM entry WHERE key IN ({','.join('?' * count)}) AND until_s > ?"  # noqa: S608 - it is made of question marks
