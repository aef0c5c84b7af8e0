"""The cost of a change of the state: alone, and fifty at once.

A change reads one key and writes it, as a budget or a limit does. A figure is the time of one by
the wall, since a store is waited for: the median, and the 99th percentile, which is what a policy
adds to a call in the worst of a hundred. `orchestra` is the state in memory.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter

import trio

from benchmarks.measure import Contender, Experiment, Reading
from orchestra.protocols import Change, Entry, State
from orchestra.stores.state.memory import MemoryState
from orchestra.stores.state.sqlite import SqliteState

AT_ONCE = 50
TIMEOUT_S = 10.0  # a neighbour's second is not the store's
START_S = 20.0

Opened = Callable[[], AbstractContextManager[State]]


def experiments(*, quick: bool) -> list[Experiment]:
    """One change alone, and fifty at once, of each kind of state: median and 99th percentile."""
    turns, rounds = (5, 2) if quick else (40, 9)
    states: dict[str, Opened] = {"orchestra": _memory, "sqlite": _sqlite, "redis": _redis}
    return [
        Experiment(
            name=f"{name}-{share_name}",
            question=f"{question}; {share_name}",
            unit="us",
            rounds=rounds,
            contenders={each: _contender(states[each], at_once, turns, share) for each in states},
        )
        for name, at_once, question in (
            ("state-alone", 1, "a change of the state"),
            (f"state-{AT_ONCE}", AT_ONCE, f"a change of the state, of {AT_ONCE} at once"),
        )
        for share_name, share in (("median", 0.5), ("p99", 0.99))
    ]


def _contender(opened: Opened, at_once: int, turns: int, share: float) -> Contender:
    def sample() -> Reading:
        with opened() as state:
            took_s, all_s = trio.run(partial(_measured, state, at_once, turns * AT_ONCE // at_once))
        return Reading(_share(took_s, share) * 1e6, {"each": all_s / len(took_s) * 1e6})

    return sample


async def _measured(state: State, at_once: int, turns: int) -> tuple[list[float], float]:
    """How long each change took, and all of them together."""
    took_s: list[float] = []

    async def one(key: str) -> None:
        began_s = perf_counter()
        await state.change([key], partial(_decide, key))
        took_s.append(perf_counter() - began_s)

    await one("a:0")  # opened
    took_s.clear()
    began_s = perf_counter()
    for _ in range(turns):
        if at_once == 1:
            await one("a:0")
        else:
            async with trio.open_nursery() as nursery:
                for number in range(at_once):
                    nursery.start_soon(one, f"a:{number % 10}")
    return took_s, perf_counter() - began_s


def _decide(key: str, there: Sequence[bytes | None], _now_s: float) -> Change[int]:
    count = int(there[0] or b"0") + 1
    return Change(count, {key: Entry(b"%d" % count, 60.0)})


def _share(took_s: Sequence[float], share: float) -> float:
    return sorted(took_s)[int(share * (len(took_s) - 1))]


@contextmanager
def _memory() -> Iterator[State]:
    yield MemoryState()


@contextmanager
def _sqlite() -> Iterator[State]:
    with (
        tempfile.TemporaryDirectory() as folder,
        SqliteState(Path(folder) / "state.sqlite", timeout_s=TIMEOUT_S) as state,
    ):
        yield state


@contextmanager
def _redis() -> Iterator[State]:
    from orchestra.stores.state.redis import RedisState  # absent without coredis

    program = shutil.which("redis-server")
    if program is None:
        raise ImportError("there is no redis-server: apt-get install redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        process = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL)
        try:
            _wait_ready(port)
            with RedisState(port=port, timeout_s=TIMEOUT_S) as state:
                yield state
        finally:
            process.kill()
            process.wait()


def _wait_ready(port: int) -> None:
    until_s = monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), START_S).close()
        except ConnectionRefusedError:
            if monotonic() > until_s:
                raise
        else:
            return
