"""Processes count together: nothing that was written is lost, and the whole never falls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestra.observe import counting, names
from orchestra.observe.counting import FOLDER_ENV, Counting
from orchestra.observe.metrics import Metrics
from orchestra.observe.shared_tallies import SharedTallies
from orchestra.observe.tally import Tally
from orchestra.testing.virtual import virtual

PLACES = st.integers(1, 3)
HITS = names.CACHE_HITS


def hits(tally: Tally) -> int:
    return sum(tally.counters.get(HITS.name, {}).values())


class Processes(RuleBasedStateMachine):
    """Some that count, write, look at the whole, die and are replaced, against a model of them."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.boards = {number: SharedTallies(self.folder, number) for number in (1, 2, 3)}
        self.tallies = {number: Tally() for number in self.boards}
        self.written = dict.fromkeys(self.boards, 0)
        self.seen = 0

    @rule(number=PLACES, amount=st.integers(1, 5))
    def count(self, number: int, amount: int) -> None:
        self.tallies[number].count(HITS, ("m",), amount)

    @rule(number=PLACES)
    def write(self, number: int) -> None:
        self.boards[number].write(self.tallies[number].encode())
        self.written[number] = hits(self.tallies[number])

    @rule(number=PLACES)
    def look(self, number: int) -> None:
        found = hits(self.boards[number].total(self.tallies[number].encode()))
        self.written[number] = hits(self.tallies[number])
        assert found == sum(self.written.values())
        assert found >= self.seen, "a counter that falls is a new start for whoever reads it"
        self.seen = found

    @rule(number=PLACES)
    def is_killed_and_replaced(self, number: int) -> None:
        self.boards[number] = SharedTallies(self.folder, number)
        self.tallies[number] = Tally()
        self.tallies[number].add(self.boards[number].inherited())
        assert hits(self.tallies[number]) == self.written[number]

    @invariant()
    def has_no_more_files_than_processes(self) -> None:
        if hasattr(self, "folder"):
            assert len([*self.folder.iterdir()]) <= len(self.boards)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


Processes.TestCase.settings = settings(max_examples=40, stateful_step_count=20)
TestProcesses = Processes.TestCase


def gone() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_what_is_so_now_is_so_only_of_those_that_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Tally()
    tally.set(names.RUNS_RUNNING, (), 2)
    tally.count(HITS, ("m",))
    with monkeypatch.context() as patched:
        dead = gone()
        patched.setattr(os, "getpid", lambda: dead)
        SharedTallies(tmp_path, 1).write(tally.encode())
    whole = SharedTallies(tmp_path, 2).total(tally.encode())
    assert whole.gauges[names.RUNS_RUNNING.name] == {(): 2}
    assert hits(whole) == 2
    assert SharedTallies(tmp_path, 1).inherited().gauges == {}


def test_runs_that_went_on_in_one_that_was_killed_are_lost_once(tmp_path: Path) -> None:
    """However many take its place before one of them lives long enough to write."""
    tally = Tally()
    tally.set(names.RUNS_RUNNING, (), 2)
    SharedTallies(tmp_path, 1).write(tally.encode())
    taken, again = (SharedTallies(tmp_path, 1).inherited() for _ in range(2))
    assert taken.counters == again.counters == {names.RUNS_LOST.name: {(): 2}}
    SharedTallies(tmp_path, 1).write(taken.encode())
    assert SharedTallies(tmp_path, 1).inherited().counters == {names.RUNS_LOST.name: {(): 2}}


def test_a_number_that_is_another_users_process_by_now_is_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Tally()
    tally.set(names.RUNS_RUNNING, (), 2)
    SharedTallies(tmp_path, 1).write(tally.encode())

    def kill(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", kill)
    assert SharedTallies(tmp_path, 2).total(Tally().encode()).gauges == {}


def test_a_process_writes_now_and_then_and_says_how_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real time: a clock of ours would not wait for the thread that writes."""
    monkeypatch.setattr(counting, "WRITE_S", 0.01)

    async def main() -> None:
        metrics = Metrics({})
        mine = Counting(metrics, SharedTallies(tmp_path, 1))
        mine.measure = lambda tally: tally.set(names.RUNS_RUNNING, (), 7)
        metrics.tally.count(HITS, ("m",))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mine.serve)
            while hits(SharedTallies(tmp_path, 2).total(Tally().encode())) != 1:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        total = await mine.total()
        assert total.gauges[names.RUNS_RUNNING.name] == {(): 7}
        total.count(HITS, ("m",))
        assert hits(metrics.tally) == 1, "what is told is a copy"

    trio.run(main)


def test_a_board_that_has_gone_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        mine = Counting(Metrics({}), SharedTallies(tmp_path / "gone", 1))
        await mine.write()

    trio.run(main)
    assert "the metrics of this process cannot be written" in caplog.text


def test_one_process_needs_no_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        alone = counting.counting(environ={})
        assert alone is not None
        await alone.write()
        await alone.serve()  # which has nothing to do
        assert hits(await alone.total()) == 0
        together = counting.counting(3, {FOLDER_ENV: str(tmp_path)})
        assert together is not None
        await together.write()

    trio.run(main)
    assert [each.name for each in tmp_path.iterdir()] == ["3.tally"]
    monkeypatch.setattr(counting, "find_spec", lambda _: None)
    assert counting.counting(environ={}) is None


def test_what_was_counted_is_written_soon_and_only_what_has_changed(tmp_path: Path) -> None:
    """A process that is killed loses the counts of a quarter of a second; an idle one does nothing."""
    writes: list[bytes] = []

    class Written(SharedTallies):
        def write(self, tally: bytes) -> None:
            writes.append(tally)
            super().write(tally)

    async def main() -> int:
        mine, others = Counting(Metrics({}), Written(tmp_path, 1)), SharedTallies(tmp_path, 2)
        lost = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mine.serve)
            for number in range(1, 20):
                mine.metrics.tally.count(HITS, ("m",))
                await trio.sleep(0.3)
                lost = max(lost, number - hits(others.total(Tally().encode())))
                await trio.sleep(number % 5)
            nursery.cancel_scope.cancel()
        return lost

    assert virtual(main) == 0
    assert len(writes) == 19


def test_a_server_that_a_workers_step_starts_counts_for_itself(tmp_path: Path) -> None:
    """It inherits the environment, and with it the folder: the supervisor's file is not its own."""
    environ = {FOLDER_ENV: str(tmp_path)}
    supervisors = Tally()
    supervisors.count(names.WORKER_ENDS, ("SIGKILL",))
    SharedTallies(tmp_path, counting.SUPERVISOR).write(supervisors.encode())

    async def main() -> Tally:
        started = counting.counting(environ=environ)
        assert started is not None
        started.metrics.tally.count(HITS, ("m",))
        await started.write()
        return await started.total()

    assert trio.run(main).counters == {HITS.name: {("m",): 1}}
    there = SharedTallies(tmp_path, 1).total(Tally().encode())
    assert there.counters == supervisors.counters
