"""A process that writes is killed at any moment; what it leaves is whole."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.stores.sqlite import SqliteStores
from orchestra.values import Passage, Vector

DYING = Path(__file__).with_name("dying.py")
ROOT = DYING.parents[2]
FIXED, FRESH = 10, 5  # as in dying.py

NEVER_OPERATIONS = 10**9
NEVER_MICROSECONDS = 20 * 10**6

# A batch is about a thousand operations of SQLite's machine and half a millisecond.
deaths = st.one_of(
    st.tuples(st.integers(1, 6000), st.just(NEVER_MICROSECONDS)),
    st.tuples(st.just(NEVER_OPERATIONS), st.integers(1, 30_000)),
)


@pytest.fixture(scope="module")
def killer() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(DYING)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


async def read(path: Path) -> tuple[int, list[Passage]]:
    with SqliteStores(path) as stores:
        if not stores.names():
            return 0, []
        collection = stores.collection("handbook")
        query = Vector.of([1.0, 1.0] * 32)
        return await collection.count(), await collection.search(query, top=10**6)


@given(deaths=st.lists(deaths, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_a_kill_leaves_every_batch_whole_or_absent(
    killer: subprocess.Popen[str], deaths: list[tuple[int, int]]
) -> None:
    """And nothing that was acknowledged is lost, however often it happens to one file."""
    assert killer.stdin is not None
    assert killer.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        for operations, microseconds in deaths:
            acks = path.with_name("store.sqlite.acks")
            acks.unlink(missing_ok=True)
            killer.stdin.write(f"{path} {operations} {microseconds}\n")
            killer.stdin.flush()
            died_of = int(killer.stdout.readline())
            assert died_of in (signal.SIGKILL, signal.SIGALRM)
            acknowledged = acks.stat().st_size if acks.exists() else 0
            check(path, acknowledged)


def check(path: Path, acknowledged: int) -> None:
    """Batches 0 to the last are there, each whole; the last that replaced is the one held."""
    count, passages = trio.run(read, path)
    assert count == len(passages)
    held = {passage.id: passage.metadata["batch"] for passage in passages}
    replaced = [batch for key, batch in held.items() if key.startswith("fixed")]
    added = Counter(int(key.split(":")[0]) for key in held if not key.startswith("fixed"))
    assert added == dict.fromkeys(range(len(added)), FRESH)
    assert len(replaced) == (FIXED if added else 0)
    assert len(set(replaced)) <= 1
    if acknowledged:
        assert replaced[0] in (acknowledged - 1, acknowledged)
    if path.exists():
        db = sqlite3.connect(path)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()
