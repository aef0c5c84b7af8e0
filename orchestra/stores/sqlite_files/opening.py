"""Opens SQLite files: an empty file gets its tables, another program's file is refused."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from orchestra.errors import OrchestraError

BUSY_S = 5.0
"""How long a write waits for another process's write, which usually takes milliseconds."""
_RETRY_S = 0.001

FIXES: Mapping[int, str] = {
    sqlite3.SQLITE_NOTADB: "it is another kind of file; give another path, or move it away",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away and ingest again",
    sqlite3.SQLITE_BUSY: f"another process has been writing for {BUSY_S:g} s; try again",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "give the path of a file in a folder that can be written to; a file "
    "that exists must belong to the user who runs this",
    sqlite3.SQLITE_IOERR: "the disk or its file system fails; the kernel's log says why",
    sqlite3.SQLITE_FULL: "the disk is full; make room and try again",
}
"""What to do about an error of SQLite, by its primary result code."""


@attrs.frozen
class Schema:
    """The content of a file: the statements that make its tables, and its application id.

    `error` is the class of the error that refuses another program's file.
    """

    application_id: int
    tables: str
    error: Callable[[str], OrchestraError]


def connect(path: Path, schema: Schema, timeout_s: float) -> sqlite3.Connection:
    """Connect to a file, and make the tables if it is empty; use it in one thread at a time.

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
    """Make the tables if the file is empty.

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
    db.execute("PRAGMA synchronous = NORMAL")  # in WAL mode, a killed process still loses nothing


def _is_prepared(path: Path, db: sqlite3.Connection, schema: Schema) -> bool:
    """Whether the file has our tables; reads one snapshot, since others may be making them now."""
    db.execute("BEGIN")
    found = int(db.execute("PRAGMA application_id").fetchone()[0])
    is_empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    db.execute("COMMIT")
    if found != schema.application_id and not is_empty:
        raise schema.error(
            f"{path}: it is a SQLite file of another program (application_id {found:#x}); "
            "give another path"
        )
    return found == schema.application_id


def layout_of(db: sqlite3.Connection) -> int:
    """The number of a file's layout, which its writer has set; 0 if none was set."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def write_ahead(db: sqlite3.Connection, timeout_s: float) -> None:
    """Turn on the file's write-ahead log; blocks for at most `timeout_s`.

    SQLite's own timeout does not apply here: of two processes that turn it on at the same time, one
    gets an error at once that the file is locked. So this tries again.

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
    """The message for an error of a file: its path, SQLite's words, and what to do, if known.

    `fixes` says what to do about an error, by its primary result code.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    fix = f"; {fixes[code]}" if code in fixes else ""
    if str(error).startswith("no such module: fts"):
        fix = (
            "; the file has a keyword index, which needs FTS5, but this Python's SQLite was "
            "compiled without it; use another Python"
        )
    return f"{path}: SQLite says {str(error)!r}{fix}"
