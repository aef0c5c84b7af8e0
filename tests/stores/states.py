"""A state of each kind, empty, for a test."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestra.protocols import State
from orchestra.stores.state_memory import MemoryState
from orchestra.stores.state_sqlite import SqliteState

HOW = ["memory", "sqlite"]
SLOW_S = 10.0  # a test machine is busy; what is in time is tested where it is meant


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at_s = time.time()

    def __call__(self) -> float:
        return self.at_s


@contextmanager
def opened(
    how: str, *, limit_bytes: int = 1000, clock: Hand | None = None, timeout_s: float = SLOW_S
) -> Iterator[State]:
    """A state that is empty; without a clock, with the real one."""
    now_s = clock or time.time
    if how == "memory":
        yield MemoryState(limit_bytes=limit_bytes, now_s=now_s)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "state.sqlite"
        with SqliteState(path, limit_bytes=limit_bytes, now_s=now_s, timeout_s=timeout_s) as state:
            yield state


def place(state: State) -> str:
    """Where a state is, for another process."""
    assert isinstance(state, SqliteState)
    return f"sqlite:{state.path}"


def at_place(said: str) -> State:
    """The state that another process has told of."""
    return SqliteState(said.removeprefix("sqlite:"), timeout_s=SLOW_S)
