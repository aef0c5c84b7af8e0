"""Opening a SQLite file: an empty one gets its tables, one of another program is refused."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from orchestra.errors import OrchestraError

BUSY_S = 5.0
"""How long a write waits for another process's; theirs take milliseconds."""
_RETRY_S = 0.001

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


@attrs.frozen
class Schema:
    """What is in a file: its tables, and how the file says whose it is.

    What refuses the file of another program is an `error`.
    """

    application_id: int
    tables: str
    error: Callable[[str], OrchestraError]


def connect(path: Path, schema: Schema, timeout_s: float) -> sqlite3.Connection:
    """A connection to a file, which is prepared where it is empty; for one thread at a time.

    Raises:
        OrchestraError: the file is not one of ours.
        sqlite3.Error: SQLite cannot open it.
    """
    db = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        prepare(path, db, schema, timeout_s)
    except BaseException:
        db.close()
        raise
    return db


def prepare(path: Path, db: sqlite3.Connection, schema: Schema, timeout_s: float) -> None:
    """Make the tables where the file is empty.

    Raises:
        OrchestraError: the file is not one of ours.
        sqlite3.Error: SQLite cannot read or write it.
    """
    if not _is_prepared(path, db, schema):
        write_ahead(db, timeout_s)
        db.executescript(
            f"BEGIN IMMEDIATE; {schema.tables} "
            f"PRAGMA application_id = {schema.application_id}; COMMIT;"
        )
    db.execute("PRAGMA synchronous = NORMAL")  # in WAL mode a kill loses nothing all the same


def _is_prepared(path: Path, db: sqlite3.Connection, schema: Schema) -> bool:
    """Whether the file has our tables; in one snapshot, since others may be making it just now."""
    db.execute("BEGIN")
    found = int(db.execute("PRAGMA application_id").fetchone()[0])
    is_empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    db.execute("COMMIT")
    if found != schema.application_id and not is_empty:
        raise schema.error(
            f"{path}: a SQLite file of another program (application_id {found:#x}); "
            "give another path"
        )
    return found == schema.application_id


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


def explained(path: Path, error: Exception, fixes: Mapping[int, str] = FIXES) -> str:
    """The error with the file's path, and what to do about it where we know: `fixes` by code."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says where inside SQLite
    fix = f"; {fixes[code]}" if code in fixes else ""
    return f"{path}: SQLite says {str(error)!r}{fix}"
