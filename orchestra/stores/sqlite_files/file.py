"""One SQLite file, reached from Trio: what is in it, and how a call gets to it.

Rules of the file:

1. A connection is used inside a worker thread and under its lane's lock, and nowhere else.
2. Every call is one transaction. A call that was begun is finished even if it is
   cancelled, so it either happened as a whole or not at all.
3. Reading and writing have a connection each: in WAL mode, a reader never waits for a writer.
4. A file that is not at its path any more is not used any more: whoever copies a store to another
   host puts it in the place of the last.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from orchestra.errors import StoreError
from orchestra.stores.sqlite_files.ownership import make_file, make_folder

T = TypeVar("T")

log = logging.getLogger("orchestra.stores")

Inode = tuple[int, int]
"""Its device and its number: what a file is, whatever its name."""

APPLICATION_ID = 0x6F726368  # "orch": how the file says whose it is
SCHEMA_VERSION = 1
READABLE = 0o644
BUSY_S = 5.0
"""How long a write waits for another process's; theirs take milliseconds."""
_RETRY_S = 0.001

# `version` is another after each change of a collection, in the same transaction: it tells a
# reader in any process whether what it has cached is still true.
_SCHEMA = f"""
BEGIN IMMEDIATE;
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
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

FIXES: Mapping[int, str] = {
    sqlite3.SQLITE_NOTADB: "it is another kind of file; give another path, or move it away",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away and ingest again",
    sqlite3.SQLITE_BUSY: f"another process has been writing for {BUSY_S:g} s; try again",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "give the path of a file in a folder that can be written to; a file "
    "that is there has to belong to the user who runs this",
    sqlite3.SQLITE_FULL: "the disk is full; make room and try again",
}
"""What to do about an error of SQLite's, by its code."""


class Used:
    """Which file the connections of a store use, of all that were at its path."""

    def __init__(self) -> None:
        self.inode: Inode | None = None


class Lane:
    """One connection to a file, opened when it is first needed, used by one call at a time."""

    def __init__(self, path: Path, *, begin: str, used: Used | None = None) -> None:
        self._path = path
        self._used = used or Used()
        self._begin = begin
        self._lock = trio.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: Inode | None = None
        self._close: Callable[[], object] = lambda: None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, called in a worker thread inside a transaction.

        Cancelled while it waits its turn, nothing happened; once begun, it is finished.

        Raises:
            StoreError: the file cannot be used, or is closed; nothing was written.
        """
        async with self._lock:
            return await trio.to_thread.run_sync(self._transact, work)

    def close(self) -> None:
        """Close the connection; no call may be under way. Forgetting the lane does it too."""
        self._closed = True
        self._close()

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise StoreError(f"{self._path}: the store is closed; open it with SqliteStores(...)")
        try:
            return _in_transaction(self._connected(), self._begin, partial(self._known, work))
        except (sqlite3.Error, UnicodeEncodeError) as error:  # the latter: half a surrogate pair
            raise explained(self._path, error) from error

    def _known(self, work: Callable[[sqlite3.Connection], T], db: sqlite3.Connection) -> T:
        """What `work` returns, if no newer version has taken the file since it was opened."""
        _check_layout(self._path, db)
        return work(db)

    def _connected(self) -> sqlite3.Connection:
        """A connection to the file that is there now."""
        if not self._is_still():
            self._close()
            self._connection = None
        return self._connection or self._connect()

    def _connect(self) -> sqlite3.Connection:
        found = None
        with suppress(OSError):  # one that is out of reach, `connect` tells of
            found = inode_of(self._path)
        is_replaced = self._used.inode not in (None, found)
        if is_replaced:
            _check_log(self._path)
        self._connection = connection = connect(self._path)
        self._close = weakref.finalize(self, connection.close)
        self._opened = self._used.inode = found or inode_of(self._path)
        if is_replaced:
            log.warning("%s was replaced by another file, which is used from now on", self._path)
        return connection

    @property
    def opened(self) -> Inode | None:
        """The file that was opened last, if any was."""
        return self._opened

    def check_there(self) -> None:
        """Find out that the file that was opened, if any was, is not gone. It may be another.

        Raises:
            StoreError: there is none, or it cannot be reached.
        """
        self._is_still()

    def _is_still(self) -> bool:
        """Whether the file that was opened, if any was, is the one that is there."""
        if self._opened is None:
            return True
        try:
            found = inode_of(self._path)
        except OSError as error:
            raise StoreError(f"{self._path}: it cannot be reached: {error}") from error
        if found is None:
            raise StoreError(
                f"{self._path}: the file that was open is gone; put it back, or restart and ingest "
                "again"
            )
        return found == self._opened


def inode_of(path: Path) -> Inode | None:
    """The file that is there now; None where there is none.

    Raises:
        OSError: it cannot be reached.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


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


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file, which is made if it is not there; for one thread at a time.

    Raises:
        StoreError: the file is not one of ours.
        sqlite3.Error: SQLite cannot open it.
    """
    try:
        make_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path}: its folder cannot be made: {error}; give another path"
        ) from error
    with suppress(OSError):  # SQLite tells what is wrong with it
        make_file(path, READABLE)
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _prepare(path, db)
    except BaseException:
        db.close()
        raise
    return db


def write_ahead(db: sqlite3.Connection, timeout_s: float) -> None:
    """Turn on the file's write-ahead log; blocks for `timeout_s` where others do the same.

    SQLite does not wait for them here by itself: of two that turn it on at one moment, one
    is told at once that the file is locked.

    Raises:
        sqlite3.Error: it cannot be turned on, or not in time.
    """
    last_s = time.monotonic() + timeout_s
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= last_s:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def explained(path: Path, error: Exception, fixes: Mapping[int, str] = FIXES) -> StoreError:
    """The error with the file's path, and what to do about it where we know: `fixes` by code."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says where inside SQLite
    fix = f"; {fixes[code]}" if code in fixes else ""
    return StoreError(f"{path}: SQLite says {str(error)!r}{fix}")


def _prepare(path: Path, db: sqlite3.Connection) -> None:
    # One snapshot, since another process may be making the file at this moment.
    if not _in_transaction(db, "BEGIN", partial(_is_prepared, path)):
        write_ahead(db, BUSY_S)
        db.executescript(_SCHEMA)
    db.execute("PRAGMA synchronous = NORMAL")  # in WAL mode a kill loses nothing all the same


def _is_prepared(path: Path, db: sqlite3.Connection) -> bool:
    """Whether the file has our tables; a file of somebody else's is refused."""
    application = _pragma(db, "application_id")
    if application == APPLICATION_ID:
        _check_layout(path, db)
        return True
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreError(
            f"{path}: a SQLite file of another program (application_id {application:#x}); "
            "give another path"
        )
    return False


def _check_layout(path: Path, db: sqlite3.Connection) -> None:
    layout = _pragma(db, "user_version")
    if layout > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: written by a newer orchestra (its layout is {layout}, this one knows "
            f"{SCHEMA_VERSION}), and nothing was changed; upgrade this one, or give another path"
        )


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _in_transaction(
    db: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], T]
) -> T:
    db.execute(begin)
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # an error such as a full disk has already rolled back
            db.execute("ROLLBACK")
        raise
    return result
