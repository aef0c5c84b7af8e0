"""A SQLite file of collections: its tables, and connections to it that are used from Trio.

Rules of the file:

1. A connection is used only in a worker thread, while its lock is held.
2. Every call is one transaction. A call that has begun is finished even if its task is cancelled,
   so it happens completely or not at all.
3. Reads and writes have a connection each: in WAL mode, a reader never waits for a writer.
4. A file that is no longer at its path is no longer used: a copy of a store from another host is
   often put in its place.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from orchestra.errors import StoreError
from orchestra.stores.sqlite_files.opening import BUSY_S, Schema, connect, explained, layout_of
from orchestra.stores.sqlite_files.place import Inode, Place

T = TypeVar("T")

APPLICATION_ID = 0x6F726368  # "orch"
SCHEMA_VERSION = 1
READABLE = 0o644

# Each change of a collection also changes its `version`, in the same transaction: it tells readers
# in all processes whether their caches are still valid.
_TABLES = f"""
CREATE TABLE IF NOT EXISTS collection (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    dimensions INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS passage (
    key INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL REFERENCES collection,
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (collection, id)
);
CREATE INDEX IF NOT EXISTS passage_source ON passage (collection, source);
PRAGMA user_version = {SCHEMA_VERSION};
"""
SCHEMA = Schema(APPLICATION_ID, _TABLES, StoreError)


class FileConnection:
    """A connection to a file, opened when it is first needed, and used by one call at a time.

    `begin` is the statement that begins its transactions.
    """

    def __init__(self, place: Place, *, begin: str) -> None:
        self._place = place
        self._begin = begin
        self._lock = trio.Lock()
        self._connection: sqlite3.Connection | None = None
        self.opened: Inode | None = None
        """The file that was opened last; None if none was."""
        self._close: Callable[[], object] = lambda: None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a worker thread, inside a transaction, and return its result.

        If the task is cancelled while it waits for its turn, nothing happens; once `work` has
        begun, it is finished.

        Raises:
            StoreError: the file cannot be used, or is closed; nothing was written.
        """
        async with self._lock:
            return await trio.to_thread.run_sync(self.run_here, work)

    def run_here(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `run`, but in the current thread, and blocking; no other call may be in progress.

        Raises:
            StoreError: as `run`.
        """
        path = self._place.path
        if self._closed:
            raise StoreError(f"{path}: the store is closed; open it with SqliteStores(...)")
        try:
            return _in_transaction(path, self._connected(), self._begin, work)
        except (sqlite3.Error, UnicodeEncodeError) as error:  # the latter: a lone surrogate
            raise StoreError(explained(path, error)) from error

    def close(self) -> None:
        """Close the connection; no call may be in progress. Garbage collection closes it, too."""
        self._closed = True
        self._close()

    def _connected(self) -> sqlite3.Connection:
        """A connection to the file that is at the path now."""
        if self.opened is not None and self._place.found() != self.opened:
            self._close()
            self._connection = None
        return self._connection or self._connect()

    def _connect(self) -> sqlite3.Connection:
        self.opened = self._place.make()
        self._connection = connection = connect(self._place.path, SCHEMA, BUSY_S)
        self._close = weakref.finalize(self, connection.close)
        return connection


def place_of(path: Path) -> Place:
    """The `Place` of a file of collections."""
    return Place(path, StoreError, READABLE, _check_log)


def _check_log(path: Path) -> None:
    """Check that a file that has replaced another has no write-ahead log beside it.

    The log may belong to the previous file, and SQLite would write its content into the new one.

    Raises:
        StoreError: there is a log that is not empty.
    """
    log_file = path.with_name(f"{path.name}-wal")
    try:
        is_empty = not log_file.stat().st_size
    except FileNotFoundError:
        is_empty = True
    if not is_empty:
        raise StoreError(
            f"{path}: it was replaced by another file, but {log_file.name} beside it may belong to "
            "the previous file: SQLite would write it into this one. Stop all processes that use "
            f"it, remove {log_file.name} and {path.name}-shm, and start them again; or replace it "
            "with .restore of sqlite3 instead"
        )


def _in_transaction(
    path: Path, db: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], T]
) -> T:
    db.execute(begin)
    try:
        _check_layout(path, db)
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # an error such as a full disk has already rolled back
            db.execute("ROLLBACK")
        raise
    return result


def _check_layout(path: Path, db: sqlite3.Connection) -> None:
    """Check the layout, in each transaction: a newer version may have upgraded the file."""
    layout = layout_of(db)
    if layout > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: written by a newer orchestra (its layout is {layout}, this one knows "
            f"{SCHEMA_VERSION}), and nothing was changed; upgrade this one, or give another path"
        )
