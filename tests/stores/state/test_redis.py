"""A Redis that is killed, paused, or not ours: told in time, found again, open or closed."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import pytest
import trio

from orchestra.errors import StateError
from orchestra.protocols import Change, Entry, State, WhenStateFails
from orchestra.records import AS_IT_IS
from orchestra.secret import Secret
from orchestra.stores.state import redis as state_redis
from orchestra.stores.state.redis import RedisState
from orchestra.stores.state.redis_scripts import DROPPED_AT_ONCE
from tests.patience import PATIENCE_S
from tests.servers.redis import Redis, redis

T = TypeVar("T")

IN_TIME_S = 0.05 + 2.95  # and what a busy machine takes


@pytest.fixture(scope="module")
def shared() -> Iterator[Redis]:
    with redis() as server:
        yield server


@pytest.fixture
def server(shared: Redis) -> Redis:
    shared.resume()
    shared.kill()
    shared.start()
    return shared


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(30):
            await main()

    trio.run(limited)


async def count(state: State) -> int:
    def decide(there: object, now_s: float) -> Change[int]:
        number = int(there[0] or b"0") + 1  # type: ignore[index]
        return Change(number, {"a:n": Entry(b"%d" % number)})

    return await state.change(["a:n"], decide)


async def answered(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, once there is one: no restart of ours, but a rest may have to end.

    A Redis of a busy machine, too, may take longer than the little time that is usual.
    """
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                return await ask()
            except StateError:
                await trio.lowlevel.checkpoint()


async def found_again(state: State) -> None:
    """Until it answers."""
    await answered(partial(count, state))


async def policy(state: State, when: WhenStateFails) -> int:
    """A policy in short; those that there are stand in tests/faults/test_shared.py."""
    try:
        return await count(state)
    except StateError:
        if when == "closed":
            raise
        return -1


async def both_ways(state: State, says: str) -> None:
    """Open goes on and closed refuses, and neither takes longer than it may."""
    for _ in range(3):
        began_s = time.monotonic()
        assert await policy(state, "open") == -1
        assert time.monotonic() - began_s < IN_TIME_S
        began_s = time.monotonic()
        with pytest.raises(StateError, match=says) as caught:
            await policy(state, "closed")
        assert time.monotonic() - began_s < IN_TIME_S
        assert re.search("rediss?://127.0.0.1:", str(caught.value))


def test_a_redis_that_is_killed_fails_open_or_closed_at_once_and_is_found_again(
    server: Redis,
) -> None:
    async def main() -> None:
        with RedisState(port=server.port) as state:
            await found_again(state)
            server.kill()
            await both_ways(state, "it cannot be used")
            server.start()
            await found_again(state)

    run(main)


def test_a_redis_that_is_paused_fails_open_or_closed_in_time_and_is_found_again(
    server: Redis,
) -> None:
    async def main() -> None:
        with RedisState(port=server.port) as state:
            await found_again(state)
            server.pause()
            await both_ways(state, "no answer within 0.05 s|asked again in")
            server.resume()
            await found_again(state)

    run(main)


def test_a_redis_is_left_alone_for_a_moment_only_after_two_late_answers_in_a_row(
    server: Redis,
) -> None:
    """One late answer may be due to a busy process, and must not refuse the calls after it."""

    async def late(state: State, says: str) -> None:
        with pytest.raises(StateError, match=says):
            await count(state)

    async def main() -> None:
        with RedisState(port=server.port, timeout_s=0.5) as state:
            await found_again(state)
            for _ in range(2):
                server.pause()
                await late(state, "no answer within 0.5 s")
                server.resume()
                await count(state)
            server.pause()
            await late(state, "no answer within 0.5 s")
            await late(state, "no answer within 0.5 s")
            await late(state, "it is asked again in 0")
            server.resume()
            await found_again(state)

    run(main)


IN_DOUBT = "; the change may or may not have been made"


@pytest.mark.parametrize("how", ["paused", "killed"])
def test_a_change_is_in_doubt_only_once_it_was_sent(
    server: Redis, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of keys changes nothing, and nothing is changed in a Redis that is not reached."""
    monkeypatch.setattr(state_redis, "REST_S", 0.0)
    end, begin = (server.pause, server.resume) if how == "paused" else (server.kill, server.start)

    def decide(kept: Sequence[bytes | None], now_s: float) -> Change[None]:
        end()
        return Change(None, {"policy:x": Entry(b"1")})

    async def main() -> None:
        with RedisState(port=server.port) as state:
            await found_again(state)
            with pytest.raises(StateError, match=f"{IN_DOUBT}\\. Check "):
                await state.change(["policy:x"], decide)
            look = partial(state.look, ["policy:x"], lambda *_: None, AS_IT_IS)
            for ask in (look, partial(count, state), look, partial(count, state)):
                with pytest.raises(StateError) as caught:
                    await ask()
                assert IN_DOUBT not in str(caught.value)
            begin()

    run(main)


def test_everybody_is_told_when_a_redis_is_paused_with_many_calls_under_way(server: Redis) -> None:
    told = []

    async def main() -> None:
        with RedisState(port=server.port) as state:
            await found_again(state)
            server.pause()
            began_s = time.monotonic()

            async def one() -> None:
                told.append(await policy(state, "open"))

            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(one)
            assert time.monotonic() - began_s < IN_TIME_S
            server.resume()

    run(main)
    assert told == [-1] * 100


def test_a_redis_that_was_restarted_between_two_calls_fails_none_of_them(server: Redis) -> None:
    async def main() -> None:
        with RedisState(port=server.port, timeout_s=5) as state:
            assert [await count(state), await count(state)] == [1, 2]
            server.kill()
            server.start()
            assert await count(state) == 1

    run(main)


def test_what_was_refused_is_told_with_the_reason(server: Redis) -> None:
    async def main() -> None:
        with (
            RedisState(port=server.port, database=99, timeout_s=5) as state,
            pytest.raises(StateError, match="DB index is out of range"),
        ):
            await count(state)
        with RedisState(port=server.port, password=Secret("wrong"), timeout_s=5) as state:
            with pytest.raises(StateError) as caught:
                await count(state)
            assert "wrong" not in str(caught.value).split("AUTH")[0]
        server.kill()
        with (
            RedisState(port=server.port, timeout_s=5) as state,
            pytest.raises(StateError, match="it cannot be reached: Connection refused"),
        ):
            await count(state)
        server.start()
        with pytest.raises(StateError, match="the state is closed"):
            await count(state)

    run(main)


FULL = ["CONFIG", "SET", "maxmemory", "1"]
ALONE = ["CONFIG", "SET", "min-replicas-to-write", "1"]
REPLICA = ["REPLICAOF", "127.0.0.1", "1"]


@pytest.mark.parametrize(
    ("refuse", "word"), [(FULL, "OOM"), (ALONE, "NOREPLICAS"), (REPLICA, "read only replica")]
)
def test_a_redis_that_refuses_to_write_is_read(
    server: Redis, refuse: Sequence[str], word: str
) -> None:
    """Also beside who writes; and on the same connection, unless another may be better."""
    told: list[object] = []

    async def read(state: State) -> None:
        told.append(await state.change(["k"], lambda there, _: Change(there[0])))

    async def refused(write: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(StateError, match=word):
            await write()

    async def main() -> None:
        with RedisState(port=server.port, timeout_s=10) as state:
            await state.change([], lambda *_: Change(None, {"k": Entry(b"v")}))
            await state.remember("m", b"v", ttl_s=60)
            await state.remember("late", b"v", ttl_s=0.001)
            line = await state._redis.connected(state._address, None, [refuse])
            before = state._connection
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(read, state)
                    nursery.start_soon(refused, partial(count, state))
                    nursery.start_soon(refused, partial(state.remember, "new", b"v", ttl_s=60))
                    nursery.start_soon(recalled, state)
            assert (state._connection is before) == (refuse is not REPLICA)
            assert await state.recall("late") is None
            line.close()

    async def recalled(state: State) -> None:
        told.append(await state.recall("m"))

    run(main)
    assert told == [b"v"] * 6


def test_a_redis_that_has_forgotten_our_scripts_is_told_them_again(server: Redis) -> None:
    async def main() -> None:
        with RedisState(port=server.port, timeout_s=10) as state:
            assert await count(state) == 1
            line = await state._redis.connected(state._address, None, [["SCRIPT", "FLUSH"]])
            assert await count(state) == 2
            for act in (partial(state.remember, "m", b"v", ttl_s=60), partial(state.recall, "m")):
                await line.ask([["SCRIPT", "FLUSH"]])
                assert await act() in (None, b"v")
            assert await state.recall("m") == b"v"
            line.close()

    run(main)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru"), ["volatile-lru"]),
        (("--maxmemory", "64mb", "--maxmemory-policy", "noeviction"), []),
        (("--maxmemory-policy", "allkeys-lru"), []),
        (("--user", "default", "on", "nopass", "~*", "+@all", "-info"), []),
    ],
)
def test_a_redis_that_drops_what_it_likes_is_told_of_once_also_behind_a_failover(
    server: Redis, options: Sequence[str], told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """And one that may not be asked is used like any other."""

    async def main() -> None:
        with RedisState(port=server.port, timeout_s=5) as state:
            assert await count(state) == 1
            for _ in range(2):
                server.kill()
                server.start(*options)
                assert await count(state) == 1

    run(main)
    said = " ".join(each.getMessage() for each in caplog.records)
    assert re.findall(r"maxmemory-policy (\S+)\)", said) == told


def test_a_login_is_made_on_every_connection(server: Redis) -> None:
    server.kill()
    server.start("--requirepass", "sesame")

    async def main() -> None:
        with (
            RedisState(port=server.port, timeout_s=5) as state,
            pytest.raises(StateError, match="Authentication required"),
        ):
            await count(state)
        for user in (None, "default"):
            with RedisState(
                port=server.port, user=user, password=Secret("sesame"), database=3, timeout_s=5
            ) as state:
                assert await count(state) == (1 if user is None else 2)

    run(main)


def test_a_change_that_is_never_fast_enough_ends(
    server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_redis, "DECISIONS_MAX", 3)
    decided = 0

    async def main() -> None:
        nonlocal decided
        with RedisState(port=server.port, timeout_s=5) as state:
            line = await state._redis.connected(state._address, None, [])
            others = server.port  # any value that is another each time

            async def meddle() -> None:
                nonlocal others
                others += 1
                await line.ask([["SET", state._key("a:n"), b"12345678%d" % others]])

            swap = state._swap

            def swapped(*arguments: object) -> object:
                nonlocal decided
                decided += 1
                return swap(*arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(state, "_swap", swapped)
            ask = state._ask

            async def asked_after_others(commands: object) -> object:
                await meddle()
                return await ask(commands)  # type: ignore[arg-type]

            monkeypatch.setattr(state, "_ask", asked_after_others)
            with pytest.raises(
                StateError, match=(r"same keys 3 times in a row; nothing was changed.*'a:n'")
            ):
                await count(state)
            line.close()

    run(main)
    assert decided == 3


def test_what_expires_in_redis_takes_no_memory(server: Redis) -> None:
    async def main() -> None:
        with RedisState(port=server.port, prefix="p:", timeout_s=5) as state:
            await state.change([], lambda *_: Change(None, {"a": Entry(b"x", 0.001)}))
            await state.remember("m", b"x", ttl_s=0.001)
            line = await state._redis.connected(state._address, None, [])
            with trio.fail_after(PATIENCE_S):
                there = [1]
                while there != [0]:
                    there = await line.ask([["EXISTS", "p:s:a", "p:m:m"]])
            assert await state.recall("m") is None
            (sizes,) = await line.ask([["GET", "p:bytes"]])
            assert sizes == b"0"
            line.close()

    run(main)


def test_a_limit_that_was_lowered_is_reached_step_by_step(server: Redis) -> None:
    """While a script runs, Redis answers nobody: it may not drop all that is above the limit."""
    most, entry = 2 * DROPPED_AT_ONCE, b"1234567890"

    async def main() -> None:
        with RedisState(port=server.port, timeout_s=10) as state:
            for number in range(most):
                await state.remember(f"{number:05}", entry, ttl_s=1000)
        with RedisState(port=server.port, timeout_s=10, limit_bytes=10 * 15) as state:
            await state.remember("new01", entry, ttl_s=1000)
            assert await state.recall("new01") is None
            assert await state.recall(f"{most - 1:05}") == entry
            for _ in range(3):
                await state.remember("new01", entry, ttl_s=1000)
            assert await state.recall("new01") == entry
            assert await state.recall("00000") is None

    run(main)


def test_a_value_that_is_not_ours_is_none_and_is_written_over(server: Redis) -> None:
    """One that somebody else had put there failed whatever was asked in the same moment."""

    async def main() -> None:
        with RedisState(port=server.port, prefix="p:", timeout_s=5) as state:
            line = await state._redis.connected(state._address, None, [])
            for put in (["SET", "{}", "short"], ["HSET", "{}", "field", "value"]):
                keys = ("p:s:a:n", "p:m:m")
                await line.ask([["DEL", *keys], *([put[0], key, *put[2:]] for key in keys)])
                assert await count(state) == 1
                assert await count(state) == 2
                assert await state.recall("m") is None
                await state.remember("m", b"x", ttl_s=60)
                assert await state.recall("m") == b"x"
            line.close()

    run(main)


@pytest.mark.parametrize("ttl_s", [1e17, 1e300, math.inf])
def test_a_time_that_is_no_number_to_redis_is_a_very_long_one(server: Redis, ttl_s: float) -> None:
    """It was refused, and with it whatever was written in the same moment."""

    async def main() -> None:
        with RedisState(port=server.port, prefix="p:", timeout_s=5) as state:
            entry = Entry(b"x", ttl_s)
            await state.change(["long"], lambda _, __: Change(None, {"long": entry}))
            assert await state.change(["long"], lambda there, _: Change(there[0])) == b"x"
            await state.remember("m", b"x", ttl_s=ttl_s)
            assert await state.recall("m") == b"x"

    run(main)


def test_nobody_is_given_the_answer_to_another_call(server: Redis) -> None:
    """What was asked of a paused Redis is answered when nobody waits any more."""

    async def read(state: State, key: str) -> bytes | None:
        return await state.change([key], lambda there, _: Change(there[0]))

    async def main() -> None:
        names = ["k:1", "k:2", "k:3"]
        with RedisState(port=server.port) as state:
            await found_again(state)
            written = {name: Entry(name.encode()) for name in names}
            await answered(lambda: state.change([], lambda *_: Change(None, written)))
            server.pause()
            with pytest.raises(StateError):
                await read(state, "k:1")
            server.resume()
            for name in ("k:2", *names):
                assert await answered(partial(read, state, name)) == name.encode()

    run(main)
