"""A process that writes to a store until it is killed; helps `test_sqlite_killed.py`.

For each line `PATH OPERATIONS MICROSECONDS` it forks a child that upserts batch after
batch, noting in `PATH.acks` each one that was acknowledged, and dies at its
OPERATIONS-th step inside SQLite or MICROSECONDS after its start, whichever is first.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path

import trio

from orchestra.stores.sqlite import SqliteStores
from orchestra.values import Passage, Vector

FIXED = 10
"""Passages that every batch replaces."""
FRESH = 5
"""Passages that every batch adds."""


def batch(number: int) -> list[Passage]:
    fixed = [f"fixed {i}" for i in range(FIXED)]
    fresh = [f"{number}: {i}" for i in range(FRESH)]
    return [Passage(i, "x" * 400, metadata={"batch": number}) for i in fixed + fresh]


async def write(path: Path, acks: int) -> None:
    collection = SqliteStores(path).collection("handbook")
    for number in range(10_000):
        vectors = [Vector.of([1.0, float(number)] * 32)] * (FIXED + FRESH)
        await collection.upsert(batch(number), vectors)
        os.write(acks, b".")


def die_after(operations: int) -> None:
    left = operations
    connect = sqlite3.connect

    def count_down() -> int:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def connect_counted(*args: object, **kwargs: object) -> sqlite3.Connection:
        db = connect(*args, **kwargs)  # type: ignore[call-overload]
        db.set_progress_handler(count_down, 1)
        return db  # type: ignore[no-any-return]

    sqlite3.connect = connect_counted  # type: ignore[assignment]


def main() -> None:
    for line in sys.stdin:
        path, operations, microseconds = line.rsplit(maxsplit=2)
        if (child := os.fork()) == 0:
            die_after(int(operations))
            signal.setitimer(signal.ITIMER_REAL, int(microseconds) / 1e6)
            acks = os.open(path + ".acks", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            trio.run(write, Path(path), acks)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status), flush=True)


if __name__ == "__main__":
    main()
