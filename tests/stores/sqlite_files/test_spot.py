"""What is read on the spot is what was committed, and is waited for by nobody."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import StateError
from orchestra.protocols import Change, Entry
from orchestra.records import AS_IT_IS
from orchestra.stores.sqlite_files.place import LOOK_S, Place
from orchestra.stores.sqlite_files.spot import REST_S, SLOW_S, SpotReader
from orchestra.stores.state.layout import LAYOUT
from orchestra.stores.state.sqlite import SqliteState


async def put(state: SqliteState, **kept: bytes) -> None:
    entries = {key: Entry(data) for key, data in kept.items()}
    await state.change([], lambda *_: Change(None, entries))


async def looked(state: SqliteState, *keys: str) -> Sequence[bytes | None]:
    return await state.look(keys, lambda there, _: tuple(there), AS_IT_IS)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SqliteState]:
    with SqliteState(tmp_path / "state.sqlite", timeout_s=5) as state:
        yield state


@settings(max_examples=20)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12))
def test_what_anybody_has_committed_is_seen_from_then_on(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, bool]]
) -> None:
    path = tmp_path_factory.mktemp("spot") / "state.sqlite"

    async def main() -> None:
        with SqliteState(path, timeout_s=5) as one, SqliteState(path, timeout_s=5) as other:
            assert await looked(one, "k") == (None,)
            for number, (by_other, seen_by_other) in enumerate(steps):
                await put(other if by_other else one, k=b"%d" % number)
                seen = await looked(other if seen_by_other else one, "k", "none", "k")
                assert seen == (b"%d" % number, None, b"%d" % number)

    trio.run(main)


def test_who_looks_waits_for_nobody_who_writes(state: SqliteState) -> None:
    async def main() -> None:
        await put(state, a=b"1")
        other = sqlite3.connect(state.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM entry")
        assert await looked(state, "a") == (b"1",)
        other.execute("COMMIT")
        assert await looked(state, "a") == (None,)
        other.close()

    trio.run(main)


def test_what_cannot_be_read_is_told_as_by_any_call(state: SqliteState) -> None:
    async def main() -> None:
        await put(state, a=b"1")
        assert await looked(state, "a") == (b"1",)
        with sqlite3.connect(state.path) as other:
            other.execute("DROP TABLE entry")
        other.close()
        with pytest.raises(StateError, match="no such table"):
            await looked(state, "a")

    trio.run(main)


def test_a_state_that_is_closed_is_not_looked_at(state: SqliteState) -> None:
    async def main() -> None:
        await put(state, a=b"1")
        assert await looked(state, "a") == (b"1",)
        state.close()
        with pytest.raises(StateError, match="the state is closed"):
            await looked(state, "a")

    trio.run(main)


def test_what_has_expired_is_not_seen(tmp_path: Path) -> None:
    now_s = [1000.0]

    async def main() -> None:
        path = tmp_path / "state.sqlite"
        with SqliteState(path, timeout_s=5, now_s=lambda: now_s[0]) as state:
            await state.change([], lambda *_: Change(None, {"a": Entry(b"1", 10.0)}))
            assert await looked(state, "a") == (b"1",)
            now_s[0] += 11.0
            assert await looked(state, "a") == (None,)

    trio.run(main)


def test_what_was_never_remembered_is_missed_without_a_thread(state: SqliteState) -> None:
    """Also while another process writes; and what was remembered is found by the next call."""

    async def main() -> None:
        await put(state, a=b"1")
        other = sqlite3.connect(state.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # in a thread, it would be waited for
        with trio.fail_after(1):
            assert await state.recall("m") is None
        other.execute("ROLLBACK")
        other.close()
        await state.remember("m", b"2", ttl_s=9)
        assert await state.recall("m") == b"2"
        state.close()
        with pytest.raises(StateError, match="the state is closed"):
            await state.recall("n")

    trio.run(main)


def test_what_has_expired_is_still_taken_away_by_who_looks_for_it(tmp_path: Path) -> None:
    now_s = [1000.0]

    async def main() -> None:
        path = tmp_path / "state.sqlite"
        with SqliteState(path, timeout_s=5, now_s=lambda: now_s[0]) as state:
            await state.remember("m", b"1", ttl_s=10)
            now_s[0] += 11.0
            assert await state.recall("m") is None
            with sqlite3.connect(path) as other:
                assert other.execute("SELECT count(*) FROM memory").fetchone() == (0,)
            other.close()

    trio.run(main)


def test_a_read_that_was_slow_leaves_those_of_the_next_moment_to_a_thread(
    state: SqliteState,
) -> None:
    trio.run(lambda: put(state, a=b"1"))
    times = iter([0.0, SLOW_S, 1.0, 1.0 + 2 * SLOW_S, 1.1, 2.0 + 2 * SLOW_S, 3.0])
    reader = SpotReader(
        Place(state.path, StateError, 0o600), layout_max=LAYOUT, clock=lambda: next(times)
    )
    found = [reader.read([b"a"], 5.0) for _ in range(4)]
    assert found == [{b"a": b"1"}, {b"a": b"1"}, None, {b"a": b"1"}]
    assert REST_S == 1.0
    reader.close()


def test_a_newer_version_is_seen_within_a_second_by_who_only_reads(state: SqliteState) -> None:
    trio.run(lambda: put(state, a=b"1"))
    now_s = 0.0
    reader = SpotReader(
        Place(state.path, StateError, 0o600), layout_max=LAYOUT, clock=lambda: now_s
    )
    assert reader.read([b"a"], 5.0) == {b"a": b"1"}
    with sqlite3.connect(state.path) as other:
        other.execute(f"PRAGMA user_version = {LAYOUT + 1}")
    other.close()
    now_s = LOOK_S
    assert reader.read([b"a"], 5.0) is None
    assert not reader.lacks(b"m")
    reader.close()
