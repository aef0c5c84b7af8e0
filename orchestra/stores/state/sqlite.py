"""The state of policies in a SQLite file that all processes of one host share.

Rules of the file:

1. A connection is used by one thread at a time. If the thread was abandoned, the connection is not
   used again: the thread closes it when it is done.
2. A batch of calls is one transaction: all of them have happened, or none.
3. An abandoned batch is committed before the next one begins, or never, so that later calls can
   undo it (such as a reservation). A thread checks whether it was abandoned while it holds the
   file's lock, and commits before it releases the lock; the later call waits for it.
4. Keys are stored as bytes, so that a text with lone surrogates can be a key, too.
5. A file that is no longer at its path is no longer used: see `sqlite_files.place`.
6. A file with a layout that we do not know is neither read nor written: see `layout`.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from orchestra.errors import StateError
from orchestra.protocols import Entry
from orchestra.records import Encoding
from orchestra.stores.sqlite_files.opening import FIXES, Schema, connect, explained, layout_of
from orchestra.stores.sqlite_files.place import Inode, Place
from orchestra.stores.sqlite_files.spot import DATA, SpotReader
from orchestra.stores.state.grouped import GroupedState
from orchestra.stores.state.grouping import (
    Call,
    Deciding,
    Outcomes,
    Recalling,
    Remembering,
    decide_all,
)
from orchestra.stores.state.layout import LAYOUT, newer
from orchestra.stores.state.settings import LIMIT_BYTES, TIMEOUT_S

T = TypeVar("T")
D = TypeVar("D")
Opened = tuple[sqlite3.Connection, Inode]
"""A connection, and the identity of the file that it has open."""

APPLICATION_ID = 0x6F727374  # "orst"
OWNER_ONLY = 0o600
LOCK_SHARE = 0.9
"""How much of the timeout a batch may wait for another process's lock. The rest is for the thread
to say so: if the time was over for both at once, the error would not name the cause.
"""
THREADS_MAX = 4
"""The most threads: one works, and the others may be blocked by a hanging disk."""
SWEPT_AT_ONCE = 16
"""The most expired entries that a batch deletes; it usually creates fewer, so none pile up."""
DROPPED_AT_ONCE = 1_000
"""The most old values that a batch drops for new ones, in about 5 ms. After the limit was lowered,
there may be a hundred thousand: a batch that dropped all of them would never be in time.
"""

_TABLES = """
CREATE TABLE IF NOT EXISTS entry (key BLOB PRIMARY KEY, data BLOB NOT NULL, until_s REAL NOT NULL)
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_until ON entry (until_s);
CREATE TABLE IF NOT EXISTS memory (
    key BLOB PRIMARY KEY, data BLOB NOT NULL, until_s REAL NOT NULL,
    size_bytes INTEGER NOT NULL, used INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS memory_used ON memory (used);
CREATE INDEX IF NOT EXISTS memory_until ON memory (until_s);
CREATE TABLE IF NOT EXISTS total (size_bytes INTEGER NOT NULL, used INTEGER NOT NULL);
INSERT INTO total SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM total);
"""
_SCHEMA = Schema(APPLICATION_ID, _TABLES, StateError)


class SqliteState(GroupedState):
    """A `State` in one SQLite file. Nothing is opened before it is needed.

    Belongs to one `trio.run` at a time; close it, or use it in a `with` statement. Concurrent calls
    are one transaction. The values of `remember` and their keys may take `limit_bytes` in total.
    `now_s` returns the time in seconds; it and `decide` are called in a worker thread. What is
    committed survives the crash of any process; if the machine crashes, the last changes may be
    lost.
    """

    _restored = "restore it from a backup; without it spending starts over, and runs are unknown"
    """The advice for a damaged file, and the consequences of starting with a new one."""

    def __init__(
        self,
        path: Path | str,
        *,
        limit_bytes: int = LIMIT_BYTES,
        timeout_s: float = TIMEOUT_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path)
        self._limit_bytes = limit_bytes
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._place = Place(self.path, StateError, OWNER_ONLY)
        self._idle: Opened | None = None
        self._spot = SpotReader(self._place, layout_max=LAYOUT)
        self._prepared = False
        self._closed = False
        super().__init__(str(self.path), timeout_s)

    def close(self) -> None:
        """Close the file; later calls raise StateError. No call may be in progress."""
        self._closed = True
        self._spot.close()
        opened, self._idle = self._idle, None
        if opened is not None:
            opened[0].close()

    def check_there(self) -> None:
        """Check that there is a file, if one was opened before. It may be another file.

        Raises:
            StateError: there is none, or it cannot be reached.
        """
        self._place.check_there()

    async def look(
        self,
        keys: Sequence[str],
        see: Callable[[Sequence[D | None], float], T],
        encoding: Encoding[D],
    ) -> T:
        """The result of `see` for some records; without a thread, once the file is prepared."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._reads_on_the_spot:
            names, now_s = [_blob(key) for key in keys], self._now_s()
            found = self._spot.read(names, now_s)
            if found is not None:
                there = [found.get(name) for name in names]
                return see([None if each is None else encoding.read(each) for each in there], now_s)
        return await super().look(keys, see, encoding)

    async def recall(self, key: str) -> bytes | None:
        """The remembered value of a key; None is usually found without a worker thread."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._reads_on_the_spot and self._spot.lacks(_blob(key)):
            return None
        return await super().recall(key)

    @property
    def _reads_on_the_spot(self) -> bool:
        return self._prepared and not self._closed

    async def _perform(self, calls: Sequence[Call]) -> Outcomes:
        if self._closed:
            raise StateError(f"{self.path}: the state is closed; open it with SqliteState(...)")
        opened, self._idle = self._idle, None
        given_up = threading.Event()
        work = partial(self._in_thread, opened, calls, given_up)
        try:
            outcomes, self._idle = await trio.to_thread.run_sync(
                work, abandon_on_cancel=True, limiter=self._threads
            )
        except trio.Cancelled:
            given_up.set()
            raise
        except Exception:
            if not given_up.is_set():  # no thread could be started, so the connection is idle
                self._idle = opened
            raise
        self._prepared = self._idle is not None
        return outcomes

    def _in_thread(
        self, opened: Opened | None, calls: Sequence[Call], given_up: threading.Event
    ) -> tuple[Outcomes, Opened | None]:
        try:
            if opened is not None and not self._place.is_still(opened[1], time.monotonic()):
                opened[0].close()
                opened = None
            opened = self._connect() if opened is None else opened
            outcomes = self._transact(opened[0], calls, given_up)
        except sqlite3.Error as error:
            given_up.set()
            raise self._explained(error) from error
        except BaseException:
            given_up.set()
            raise
        finally:
            if given_up.is_set() and opened is not None:
                opened[0].close()
        return outcomes, opened

    def _connect(self) -> Opened:
        """Connect to the file that is there now; creates it if none was opened before."""
        inode = self._place.make()
        return connect(self.path, _SCHEMA, LOCK_SHARE * self._timeout_s), inode

    def _explained(self, error: sqlite3.Error) -> StateError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            return StateError(
                f"{self.path}: another process has been writing for "
                f"{LOCK_SHARE * self._timeout_s:g} s, and nothing was changed; end it if it is a "
                "backup or a shell, send fewer requests, or give it a longer timeout_s"
            )
        fixes = {
            **FIXES,
            sqlite3.SQLITE_NOTADB: f"it is another kind of file, or damaged; {self._restored}",
            sqlite3.SQLITE_CORRUPT: f"it is damaged; {self._restored}",
        }
        return StateError(explained(self.path, error, fixes))

    def _transact(
        self, db: sqlite3.Connection, calls: Sequence[Call], given_up: threading.Event
    ) -> Outcomes:
        self._go_on_unless(given_up)
        db.execute("BEGIN IMMEDIATE")
        self._check_layout(db)
        now_s = self._now_s()  # inside, so that later transactions never have an earlier time
        changes = [call for call in calls if isinstance(call, Deciding)]
        decided = iter(_change(db, changes, now_s))
        outcomes: list[object] = []
        drops_max = DROPPED_AT_ONCE
        for call in calls:
            match call:
                case Deciding():
                    outcomes.append(next(decided))
                case Recalling():
                    outcomes.append(_recall(db, call.key, now_s))
                case Remembering():
                    drops_max -= _remember(db, call, now_s, self._limit_bytes, drops_max)
                    outcomes.append(None)
        self._group.writing = True  # first: who gives up sees it, or keeps it from being written
        self._go_on_unless(given_up)
        db.execute("COMMIT")
        return outcomes

    def _check_layout(self, db: sqlite3.Connection) -> None:
        """Check the layout, in each transaction: a newer version may have upgraded the file."""
        layout = layout_of(db)
        if layout > LAYOUT:
            self._prepared = False  # so nothing is read on the spot
            raise newer(self.path, layout)
        if layout == 0:  # new, or made before there were layouts
            db.execute(f"PRAGMA user_version = {LAYOUT}")

    def _go_on_unless(self, given_up: threading.Event) -> None:
        if given_up.is_set():
            raise StateError(f"{self.path}: the call was given up; nothing was changed")


def _blob(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _change(db: sqlite3.Connection, calls: Sequence[Deciding[Any]], now_s: float) -> Outcomes:
    if not calls:
        return ()
    there = {key: _read(db, key, now_s) for call in calls for key in call.keys}
    outcomes, written = decide_all(calls, there, now_s)
    for key, entry in written.items():
        _write(db, key, entry, now_s)
    if written:
        db.execute(
            "DELETE FROM entry WHERE key IN (SELECT key FROM entry WHERE until_s <= ? LIMIT ?)",
            (now_s, SWEPT_AT_ONCE),
        )
    return outcomes


def _read(db: sqlite3.Connection, key: str, now_s: float) -> bytes | None:
    query = f"SELECT {DATA} FROM entry WHERE key = ? AND until_s > ?"  # noqa: S608 - a constant
    row = db.execute(query, (_blob(key), now_s)).fetchone()
    return None if row is None else bytes(row[0])


def _write(db: sqlite3.Connection, key: str, entry: Entry | None, now_s: float) -> None:
    if entry is None:
        db.execute("DELETE FROM entry WHERE key = ?", (_blob(key),))
    else:
        until_s = math.inf if entry.ttl_s is None else now_s + entry.ttl_s
        db.execute("REPLACE INTO entry VALUES (?, ?, ?)", (_blob(key), entry.data, until_s))


def _recall(db: sqlite3.Connection, key: str, now_s: float) -> bytes | None:
    query = f"SELECT {DATA}, CAST(until_s AS REAL) FROM memory WHERE key = ?"  # noqa: S608 - a constant
    row = db.execute(query, (_blob(key),)).fetchone()
    if row is None:
        return None
    if row[1] <= now_s:
        _forget(db, _blob(key))
        return None
    db.execute("UPDATE total SET used = used + 1")
    db.execute("UPDATE memory SET used = (SELECT used FROM total) WHERE key = ?", (_blob(key),))
    return bytes(row[0])


def _remember(
    db: sqlite3.Connection, call: Remembering, now_s: float, limit_bytes: int, drops_max: int
) -> int:
    """Store a value, if at most `drops_max` drops make room for it; returns how many it dropped."""
    _forget(db, _blob(call.key))
    size_bytes = len(call.key) + len(call.data)
    if size_bytes > limit_bytes or call.ttl_s <= 0:
        return 0
    there_bytes, dropped = _drop(db, limit_bytes - size_bytes, now_s, drops_max)
    if there_bytes + size_bytes > limit_bytes:
        return dropped
    db.execute("UPDATE total SET used = used + 1, size_bytes = size_bytes + ?", (size_bytes,))
    db.execute(
        "INSERT INTO memory SELECT ?, ?, ?, ?, used FROM total",
        (_blob(call.key), call.data, now_s + call.ttl_s, size_bytes),
    )
    return dropped


def _drop(db: sqlite3.Connection, most_bytes: int, now_s: float, drops_max: int) -> tuple[int, int]:
    """Drop expired values, then the least recently used, until the rest takes `most_bytes`.

    Returns the bytes that the rest takes, and how many values it dropped, at most `drops_max`.
    """
    (there_bytes,) = db.execute("SELECT size_bytes FROM total").fetchone()
    if there_bytes <= most_bytes:
        return there_bytes, 0
    dropped = 0
    for query, given in ((_EXPIRED, (now_s,)), (_OLDEST, ())):
        gone: list[tuple[bytes]] = []
        for key, size_bytes in db.execute(query, (*given, drops_max - dropped)):
            if there_bytes <= most_bytes:
                break
            gone.append((key,))
            there_bytes -= size_bytes
        db.executemany("DELETE FROM memory WHERE key = ?", gone)
        dropped += len(gone)
    if there_bytes > most_bytes and dropped < drops_max:
        there_bytes = 0  # nothing is left: the total was wrong after an edit by hand
    db.execute("UPDATE total SET size_bytes = ?", (there_bytes,))
    return there_bytes, dropped


_EXPIRED = "SELECT key, size_bytes FROM memory WHERE until_s <= ? LIMIT ?"
_OLDEST = "SELECT key, size_bytes FROM memory ORDER BY used LIMIT ?"


def _forget(db: sqlite3.Connection, key: bytes) -> None:
    statement = "DELETE FROM memory WHERE key = ? RETURNING size_bytes"
    for (size_bytes,) in db.execute(statement, (key,)).fetchall():
        db.execute("UPDATE total SET size_bytes = size_bytes - ?", (size_bytes,))
