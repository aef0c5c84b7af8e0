"""Which orchestra may use a state; and a Redis that is not the one it was."""

from __future__ import annotations

import logging
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from orchestra.errors import StateError
from orchestra.protocols import Change, Entry, State
from orchestra.records import AS_IT_IS
from orchestra.stores.state.layout import LAYOUT, Marks, new_mark
from orchestra.stores.state.private import PrivateState
from orchestra.stores.state.redis import RedisState
from orchestra.stores.state.sqlite import SqliteState
from tests.stores.states import at_place, opened, place

NEWER = LAYOUT + 1
TOLD = rf"newer orchestra \(its layout is {NEWER}, this one knows {LAYOUT}\), and nothing was"


def again(state: State) -> SqliteState | RedisState:
    """The same, as another process opens it."""
    found = at_place(place(state))
    assert isinstance(found, SqliteState | RedisState)
    return found


async def put(state: State, value: bytes) -> None:
    await state.change(["k"], lambda *_: Change(None, {"k": Entry(value)}))


async def got(state: State) -> bytes | None:
    return await state.change(["k"], lambda there, _: Change(there[0]))


async def seen(state: State) -> bytes | None:
    return await state.look(["k"], lambda there, _: there[0], AS_IT_IS)


async def raised(call: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(StateError, match=TOLD):
        await call()


async def all_refused(state: State) -> None:
    await raised(lambda: put(state, b"ours"))
    await raised(lambda: got(state))
    await raised(lambda: seen(state))
    await raised(lambda: state.recall("m"))
    await raised(lambda: state.remember("m", b"ours", ttl_s=60))


async def marked(state: State, layout: int) -> None:
    """Say of a state which layout it has; 0 is a state of before there were layouts."""
    if isinstance(state, SqliteState):
        db = sqlite3.connect(state.path)
        db.execute(f"PRAGMA user_version = {layout}")
        db.close()
        return
    assert isinstance(state, RedisState)
    said = ["SET", state._mark, b"%d 0123456789abcdef" % layout]
    line = await state._redis.connected(state._address, None, [])
    await line.ask([said if layout else ["DEL", state._mark]])
    line.close()


async def layout_of(state: State) -> int:
    """What is said of it now."""
    if isinstance(state, SqliteState):
        db = sqlite3.connect(state.path)
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        db.close()
        return found
    assert isinstance(state, RedisState)
    line = await state._redis.connected(state._address, None, [])
    (mark,) = await line.ask([["GET", state._mark]])
    line.close()
    assert isinstance(mark, bytes)
    return int(mark.split()[0])


@pytest.mark.parametrize("how", ["sqlite", "redis"])
def test_a_state_of_a_newer_version_is_refused_and_stays_as_it_is(how: str) -> None:
    """By who opens it, and by who has it open already; in another process it goes on."""

    async def main() -> None:
        with opened(how) as state, again(state) as late:
            await put(state, b"theirs")
            await state.remember("m", b"theirs", ttl_s=60)
            await marked(state, NEWER)
            await all_refused(state)
            await all_refused(late)
            await marked(state, LAYOUT)
            assert await got(state) == await seen(late) == b"theirs"
            assert await state.recall("m") == await late.recall("m") == b"theirs"

    trio.run(main)


@pytest.mark.parametrize("what", ["recall", "remember"])
def test_who_only_remembers_in_redis_is_refused_as_well(what: str) -> None:
    async def main() -> None:
        with opened("redis") as state:
            await state.remember("m", b"theirs", ttl_s=60)
            await marked(state, NEWER)
            if what == "recall":
                await raised(lambda: state.recall("m"))
            await raised(lambda: state.remember("m", b"ours", ttl_s=60))
            await marked(state, LAYOUT)
            assert await state.recall("m") == b"theirs"

    trio.run(main)


@pytest.mark.parametrize("how", ["sqlite", "redis"])
def test_a_state_of_before_there_were_layouts_is_used_and_then_has_one(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with opened(how) as state:
            await put(state, b"theirs")
            await marked(state, 0)
            with again(state) as late:
                assert await got(late) == b"theirs"
                await put(late, b"ours")
                assert await layout_of(late) == LAYOUT
                assert await got(late) == b"ours"

    trio.run(main)
    assert not caplog.records


def test_keys_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with PrivateState(tmp_path / "keys.sqlite", timeout_s=5) as state:
            await put(state, b"a")
            await marked(state, NEWER)
            await all_refused(state)

    trio.run(main)


def test_a_layout_that_comes_between_a_read_and_a_write_is_seen() -> None:
    """In Redis; in a file, nothing comes between them."""

    async def main() -> None:
        with opened("redis") as state, again(state) as other:
            await put(state, b"theirs")
            assert isinstance(state, RedisState)

            def decide(*_: object) -> Change[None]:
                with socket.create_connection(("127.0.0.1", state._address.port)) as line:
                    line.sendall(f'SET {state._mark} "{NEWER} 0123456789abcdef"\r\n'.encode())
                    line.recv(100)
                return Change(None, {"k": Entry(b"ours")})

            await raised(lambda: state.change([], decide))
            await marked(other, LAYOUT)
            assert await got(other) == b"theirs"

    trio.run(main)


def test_a_redis_that_has_lost_what_it_kept_is_told_once_by_each_who_knew_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also by one who looks when another has begun anew there already."""

    async def main() -> None:
        with opened("redis") as state, again(state) as other:
            assert isinstance(state, RedisState)
            for each in (state, other, state):
                await put(each, b"1")
            assert not caplog.records
            line = await state._redis.connected(state._address, None, [])
            await line.ask([["DEL", state._mark, state._key("k")]])
            line.close()
            for each in (state, state, other, other, state):
                assert await got(each) in (None, b"2")
                await put(each, b"2")

    trio.run(main)
    assert [each.levelno for each in caplog.records] == [logging.WARNING] * 2
    assert "what was spent counts as not spent" in caplog.text


def test_a_mark_that_nobody_has_written_is_that_of_a_version_that_we_do_not_know() -> None:
    marks = Marks("redis://r")
    for wrong in (b"", b"x", b"1", b"1 0123456789ABCDEF", b"-1 0123456789abcdef"):
        with pytest.raises(StateError, match=r"^redis://r: written by a newer"):
            marks.see(wrong)
    marks.see(new_mark())
    assert new_mark() != new_mark()
