"""Empty states of each kind, for tests."""

from __future__ import annotations

import atexit
import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from orchestra.protocols import State
from orchestra.stores.state.memory import MemoryState
from orchestra.stores.state.redis import RedisState
from orchestra.stores.state.sqlite import SqliteState
from tests.servers.redis import Redis, redis

HOW = ["memory", "sqlite", "redis"]
SLOW_S = 10.0  # a test machine is busy; tests of timeouts have their own


class Hand:
    """A clock that stands still; a test sets its `at_s`."""

    def __init__(self) -> None:
        self.at_s = time.time()

    def __call__(self) -> float:
        return self.at_s


_numbers = itertools.count()


@cache
def shared_redis() -> Redis:
    """A Redis server for all tests of this process, which stops it when it ends."""
    server = ExitStack()
    atexit.register(server.close)
    return server.enter_context(redis())


@contextmanager
def opened(
    how: str, *, limit_bytes: int = 1000, clock: Hand | None = None, timeout_s: float = SLOW_S
) -> Iterator[State]:
    """An empty state of this kind, with the real time if no clock is given."""
    now_s = clock or time.time
    if how == "memory":
        yield MemoryState(limit_bytes=limit_bytes, now_s=now_s)
        return
    if how == "redis":
        began_s = time.time()
        with RedisState(
            port=shared_redis().port,
            prefix=f"{next(_numbers)}:",
            limit_bytes=limit_bytes,
            timeout_s=timeout_s,
            ahead_s=lambda: clock.at_s - began_s if clock else 0.0,
        ) as redis:
            yield redis
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "state.sqlite"
        with SqliteState(path, limit_bytes=limit_bytes, now_s=now_s, timeout_s=timeout_s) as state:
            yield state


def place(state: State) -> str:
    """Where a state is, as text for another process: see `at_place`."""
    if isinstance(state, RedisState):
        return f"redis {state._address.port} {state._prefix}"
    assert isinstance(state, SqliteState)
    return f"sqlite {state.path}"


def at_place(said: str) -> State:
    """The state at the place that another process has named with `place`."""
    how, *where = said.split()
    if how == "redis":
        return RedisState(port=int(where[0]), prefix=where[1], timeout_s=SLOW_S)
    return SqliteState(where[0], timeout_s=SLOW_S)
