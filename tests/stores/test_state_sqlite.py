"""State in SQLite: what only a file can do; the laws of every `State` are in the contract suite."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
import trio

from orchestra.errors import StateError
from orchestra.protocols import Change, Entry
from orchestra.stores.sqlite_file import write_ahead
from orchestra.stores.state_sqlite import SqliteState


def refused(state: SqliteState) -> str:
    with pytest.raises(StateError) as caught:
        trio.run(state.recall, "a")
    return str(caught.value)


def test_what_was_kept_is_there_after_it_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with SqliteState(path, timeout_s=5) as state:
        trio.run(state.change, ["a"], lambda *_: Change(None, {"a": Entry(b"1")}))
        assert path.exists()
    assert "the state is closed" in refused(state)
    with SqliteState(path, timeout_s=5) as state:
        assert trio.run(state.change, ["a"], lambda there, _: Change(there[0])) == b"1"


def test_a_file_that_another_process_writes_to_is_an_error_in_time_and_then_works(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.sqlite"
    with SqliteState(path, timeout_s=5) as state:
        trio.run(state.recall, "a")  # makes the file, in its own time
    with SqliteState(path) as state:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        message = refused(state)
        assert str(path) in message
        assert "0.05 s" in message
        other.execute("ROLLBACK")
        other.close()
    with SqliteState(path, timeout_s=5) as state:
        assert trio.run(state.recall, "a") is None


def test_a_new_file_is_waited_for_while_somebody_else_makes_it(tmp_path: Path) -> None:
    """SQLite tells the second of two that turn its log on that the file is locked, at once."""
    maker = sqlite3.connect(tmp_path / "state", isolation_level=None)
    maker.executescript("CREATE TABLE a (b); BEGIN IMMEDIATE; INSERT INTO a VALUES (1)")
    tries: list[str] = []

    def tried(statement: str) -> None:
        tries.append(statement)
        if len(tries) == 3:
            maker.execute("COMMIT")

    db = sqlite3.connect(tmp_path / "state", isolation_level=None, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        write_ahead(db, 0)
    db.set_trace_callback(tried)
    write_ahead(db, 5)
    assert len(tries) >= 3
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()
    maker.close()


def test_a_new_file_that_is_never_made_is_an_error_in_time_and_not_before(tmp_path: Path) -> None:
    maker = sqlite3.connect(tmp_path / "state", isolation_level=None)
    maker.execute("BEGIN IMMEDIATE")
    with SqliteState(tmp_path / "state", timeout_s=0.2) as state:
        began_s = time.monotonic()
        assert "0.2 s" in refused(state)
        assert time.monotonic() - began_s >= 0.2
    maker.close()


def test_what_has_expired_takes_no_room_in_the_file(tmp_path: Path) -> None:
    at_s = 100.0

    async def main(state: SqliteState) -> None:
        nonlocal at_s
        for number in range(200):
            at_s += 10
            await state.change(
                [], lambda *_, key=f"a:{number}": Change(None, {key: Entry(b"x", 5)})
            )

    path = tmp_path / "state.sqlite"
    with SqliteState(path, timeout_s=5, now_s=lambda: at_s) as state:
        trio.run(main, state)
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM entry").fetchone()[0] <= 2
    db.close()


def test_the_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    for made in ("PRAGMA application_id = 7; CREATE TABLE a (b)", "CREATE TABLE a (b)"):
        path = tmp_path / f"{len(made)}.sqlite"
        db = sqlite3.connect(path)
        db.executescript(made)
        db.close()
        with SqliteState(path, timeout_s=5) as state:
            assert "a SQLite file of something else" in refused(state)
    (tmp_path / "file").write_text("x" * 1000)
    with SqliteState(tmp_path / "file", timeout_s=5) as state:
        assert "SQLite says" in refused(state)
    with SqliteState(tmp_path / "file" / "state", timeout_s=5) as state:
        assert "it cannot be reached" in refused(state)
