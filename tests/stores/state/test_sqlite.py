"""State in SQLite: what only a file can do; the laws of every `State` are in the contract suite."""

from __future__ import annotations

import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from orchestra.errors import StateError
from orchestra.protocols import Change, Entry
from orchestra.records import AS_IT_IS
from orchestra.stores.sqlite_files.opening import write_ahead
from orchestra.stores.state import sqlite
from orchestra.stores.state.private import PrivateState
from orchestra.stores.state.sqlite import SqliteState


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


@pytest.mark.parametrize("at", [0, 4096])
@pytest.mark.parametrize(
    ("kind", "without"),
    [(SqliteState, "spending starts over"), (PrivateState, "there are no keys")],
)
def test_who_has_a_damaged_file_is_told_what_it_means_to_do_without(
    tmp_path: Path, kind: type[SqliteState], without: str, at: int
) -> None:
    """Its head, or a page of it; it is no store of texts, which could be ingested again."""
    path = tmp_path / "state.sqlite"
    with kind(path, timeout_s=5) as state:
        trio.run(state.change, ["a"], lambda *_: Change(None, {"a": Entry(b"1")}))
    data = bytearray(path.read_bytes())
    data[at : at + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    with kind(path, timeout_s=5) as state, pytest.raises(StateError) as caught:
        trio.run(state.change, ["a"], lambda *_: Change(None, {"a": Entry(b"2")}))
    said = str(caught.value)
    assert said.startswith(f"{path}: SQLite says ")
    assert f"damaged; restore it from a backup; without it {without}" in said
    assert "ingest" not in said


def test_a_disk_that_fails_is_told_and_what_could_not_be_written_is_not_there(
    tmp_path: Path,
) -> None:
    """A limit on the size of files fails as a disk does; the same state works when it is over."""
    path, limits = tmp_path / "state.sqlite", resource.getrlimit(resource.RLIMIT_FSIZE)
    with SqliteState(path, timeout_s=5) as state:
        trio.run(state.change, ["a"], lambda *_: Change(None, {"a": Entry(b"1")}))
        room_bytes = path.with_name("state.sqlite-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, limits[1]))
        try:
            with pytest.raises(StateError, match="'disk I/O error'; the disk or its file system"):
                trio.run(state.change, ["a"], lambda *_: Change(None, {"a": Entry(b"2" * 9_999)}))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert trio.run(state.change, ["a"], lambda there, _: Change(there[0])) == b"1"
        trio.run(state.change, ["a"], lambda *_: Change(None, {"a": Entry(b"3")}))
        assert trio.run(state.change, ["a"], lambda there, _: Change(there[0])) == b"3"


def test_a_file_that_another_process_writes_to_is_an_error_in_time_and_then_works(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.sqlite"
    with SqliteState(path, timeout_s=5) as state:
        trio.run(state.recall, "a")  # makes the file, in its own time
    with (
        SqliteState(path, timeout_s=1) as state,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        message = refused(state)
        assert f"{path}: another process has been writing for 0.9 s" in message
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
        assert "another process has been writing for 0.18 s" in refused(state)
        assert time.monotonic() - began_s >= 0.18
    maker.close()


def test_where_no_thread_can_be_started_it_is_a_state_error_and_then_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with SqliteState(tmp_path / "state.sqlite", timeout_s=5) as state:
        trio.run(state.change, ["a"], lambda *_: Change(None, {"a": Entry(b"1")}))
        idle = state._idle
        with monkeypatch.context() as patched:
            patched.setattr(trio.to_thread, "run_sync", none)
            with pytest.raises(StateError, match="can't start new thread"):
                trio.run(state.change, ["a"], lambda there, _: Change(there[0]))
        assert trio.run(state.change, ["a"], lambda there, _: Change(there[0])) == b"1"
        assert state._idle is idle, "its connection is used, and closed, by the next"


PATIENCE_S = 30
LONG_S = 100.0
"""Virtual seconds, which are jumped over; what is real waits for an event."""


@attrs.define(eq=False)
class Hang:
    """A thread that hangs once, at this moment, until it is released."""

    where: str
    hangs: trio.Event = attrs.field(factory=trio.Event)
    released: threading.Event = attrs.field(factory=threading.Event)
    closed: threading.Event = attrs.field(factory=threading.Event)
    """Whether the connection of what was given up is closed, the last that its thread does."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def at(self, where: str) -> None:
        if where == self.where:
            self.where = ""
            trio.from_thread.run_sync(self.hangs.set)
            self.released.wait()

    def connected(self, path: Path, **more: Any) -> sqlite3.Connection:
        """A connection whose statements may hang."""
        hang = self

        class Slow(sqlite3.Connection):
            def execute(self, asked: str, *values: Any) -> sqlite3.Cursor:
                if asked == "BEGIN IMMEDIATE":
                    hang.at("as it begins")
                if asked == "COMMIT" and self.total_changes:
                    hang.at("at its end")
                return super().execute(asked, *values)

            def close(self) -> None:
                super().close()
                hang.closed.set()

        self.at("as it opens")
        return self.connect(path, factory=Slow, **more)


async def opened_anew(state: SqliteState) -> None:
    """The state's file is there, and the next call opens it."""
    await state.change([], lambda *_: Change(None, {"other": Entry(b"1")}))
    assert state._idle is not None
    state._idle[0].close()
    state._idle = None


@pytest.mark.parametrize("where", ["as it opens", "as it begins", "as it decides", "at its end"])
@pytest.mark.parametrize("behind", [False, True])
def test_what_was_given_up_never_happens_behind_what_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, behind: bool
) -> None:
    """Wherever the thread hangs that is waited for no longer, and whoever has the lock first."""
    clock, hang = trio.testing.MockClock(), Hang(where)

    def take(there: Sequence[bytes | None], now_s: float) -> Change[None]:
        hang.at("as it decides")
        return Change(None, {"lease": Entry(b"1")})

    async def refused(state: SqliteState) -> None:
        with pytest.raises(StateError, match="no answer within"):
            await state.change(["lease"], take)

    async def main() -> None:
        with SqliteState(tmp_path / "state.sqlite", timeout_s=LONG_S) as state:
            await opened_anew(state)
            monkeypatch.setattr(sqlite3, "connect", hang.connected)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(refused, state)
                await hang.hangs.wait()
                while nursery.child_tasks:  # in small steps: time in which a process stands still
                    clock.jump(LONG_S / 10)  # is not counted
                    await trio.lowlevel.checkpoint()
            if behind or where in {"as it decides", "at its end"}:
                hang.released.set()  # it has the lock, which is waited for
            await state.change(["lease"], lambda *_: Change(None, {"lease": None}))
            hang.released.set()
            assert await trio.to_thread.run_sync(hang.closed.wait, PATIENCE_S)
            assert await state.change(["lease"], lambda there, _: Change(there[0])) is None

    trio.run(main, clock=clock)


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
            assert "a SQLite file of another program" in refused(state)
    (tmp_path / "file").write_text("x" * 1000)
    with SqliteState(tmp_path / "file", timeout_s=5) as state:
        assert "SQLite says" in refused(state)
    with SqliteState(tmp_path / "file" / "state", timeout_s=5) as state:
        assert "it cannot be reached" in refused(state)


@pytest.mark.parametrize("told", ["text", 5, 1.5, 2**62])
def test_what_was_written_by_hand_is_bytes_and_fails_nobody(tmp_path: Path, told: object) -> None:
    """A text raised TypeError, and a number asked for so many bytes of memory."""
    path = tmp_path / "state.sqlite"

    async def main() -> None:
        with SqliteState(path, timeout_s=5) as state:
            await state.change([], lambda *_: Change(None, {"a": Entry(b"1")}))
            await state.remember("m", b"1", ttl_s=60)
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("UPDATE entry SET data = ?", (told,))
            other.execute("UPDATE memory SET data = ?", (told,))
            other.close()
            kept = str(told).encode()
            assert await state.change(["a"], lambda there, _: Change(there[0])) == kept
            assert await state.look(["a"], lambda there, _: there[0], AS_IT_IS) == kept
            assert await state.recall("m") == kept

    trio.run(main)


def test_a_limit_that_was_lowered_is_reached_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No batch drops more than is in time, and each is a step: else the state would be out of
    reach for ever. What was remembered last is there as soon as there is room."""
    path, entry = tmp_path / "state.sqlite", b"1234567890"
    with SqliteState(path, timeout_s=5, limit_bytes=10_000) as state:
        for number in range(50):
            trio.run(remembered, state, f"{number:05}", entry)
    monkeypatch.setattr(sqlite, "DROPPED_AT_ONCE", 7)
    counts = [50]
    with SqliteState(path, timeout_s=5, limit_bytes=10 * 15) as state:
        while counts[-1] > 10:
            trio.run(remembered, state, f"new{len(counts):02}", entry)
            counts.append(count_of(path))
            assert counts[-2] - 7 <= counts[-1] < counts[-2]
        trio.run(remembered, state, "newer", entry)
        assert trio.run(state.recall, "newer") == entry
        assert trio.run(state.recall, "00049") == entry
    assert count_of(path) == 10


def test_what_was_forgotten_by_hand_gives_back_its_room(tmp_path: Path) -> None:
    """Whoever wants an empty cache opens the file with sqlite3."""
    path = tmp_path / "state.sqlite"
    with SqliteState(path, timeout_s=5, limit_bytes=30) as state:
        trio.run(remembered, state, "a", b"1" * 29)
        with closing(sqlite3.connect(path, isolation_level=None)) as by_hand:
            by_hand.execute("DELETE FROM memory")
        for key in ("b", "c"):
            trio.run(remembered, state, key, b"2" * 14)
        assert trio.run(state.recall, "b") == trio.run(state.recall, "c") == b"2" * 14


async def remembered(state: SqliteState, key: str, data: bytes) -> None:
    await state.remember(key, data, ttl_s=1000.0)


def count_of(path: Path) -> int:
    """How much is remembered in the file."""
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM memory").fetchone()[0])
