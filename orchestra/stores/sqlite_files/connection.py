"""A SQLite file of collections, reached from Trio: what is in it, and how a call gets to it.

Rules of the file:

1. A connection is used inside a worker thread and under its lock, and nowhere else.
2. Every call is one transaction. A call that was begun is finished even if it is
   cancelled, so it either happened as a whole or not at all.
3. Reading and writing have a connection each: in WAL mode, a reader never waits for a writer.
4. A file that is not at its path any more is not used any more: whoever copies a store to another
   host puts it in the place of the last.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from orchestra.errors import StoreError
from orchestra.stores.sqlite_files.opening import BUSY_S, Schema, connect, explained
from orchestra.stores.sqlite_files.place import Inode, Place

T = TypeVar("T")

APPLICATION_ID = 0x6F726368  # "orch"
SCHEMA_VERSION = 1
READABLE = 0o644

# `version` is another after each change of a collection, in the same transaction: it tells a
# reader in any process whether what it has cached is still true.
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
    """A connection to a file, opened when it is first needed, used by one call at a time.

    `begin` is the statement with which its transactions begin.
    """

    def __init__(self, place: Place, *, begin: str) -> None:
        self._place = place
        self._begin = begin
        self._lock = trio.Lock()
        self._connection: sqlite3.Connection | None = None
        self.opened: Inode | None = None
        """The file that was opened last, if any was."""
        self._close: Callable[[], object] = lambda: None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, called in a worker thread inside a transaction.

        Cancelled while it waits its turn, nothing happened; once begun, it is finished.

        Raises:
            StoreError: the file cannot be used, or is closed; nothing was written.
        """
        async with self._lock:
            return await trio.to_thread.run_sync(self.run_here, work)

    def run_here(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same in this thread; no call may be under way.

        Raises:
            StoreError: as of `run`.
        """
        path = self._place.path
        if self._closed:
            raise StoreError(f"{path}: the store is closed; open it with SqliteStores(...)")
        try:
            return _in_transaction(path, self._connected(), self._begin, work)
        except (sqlite3.Error, UnicodeEncodeError) as error:  # the latter: half a surrogate pair
            raise StoreError(explained(path, error)) from error

    def close(self) -> None:
        """Close the connection; no call may be under way. Forgetting it does so too."""
        self._closed = True
        self._close()

    def _connected(self) -> sqlite3.Connection:
        """A connection to the file that is there now."""
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
    """Where a file of collections is."""
    return Place(path, StoreError, READABLE, _check_log)


def _check_log(path: Path) -> None:
    """Find out that a file that took the place of another has no log, which may be that one's.

    SQLite would write what is in it into the new file, whatever that is.

    Raises:
        StoreError: there is one.
    """
    log_file = path.with_name(f"{path.name}-wal")
    try:
        is_empty = not log_file.stat().st_size
    except FileNotFoundError:
        is_empty = True
    if not is_empty:
        raise StoreError(
            f"{path}: it was replaced by another file, and {log_file.name} beside it may be "
            "that of the file before: SQLite would write it into this one. Stop all that use it, "
            f"remove {log_file.name} and {path.name}-shm, and start again; or use .restore of "
            "sqlite3"
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
    """In each transaction, since a newer version may have taken the file meanwhile."""
    layout = int(db.execute("PRAGMA user_version").fetchone()[0])
    if layout > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: written by a newer orchestra (its layout is {layout}, this one knows "
            f"{SCHEMA_VERSION}), and nothing was changed; upgrade this one, or give another path"
        )
