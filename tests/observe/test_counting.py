"""Counting as long as a server lives, whatever it is given to count."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import trio

from orchestra.observe import names
from orchestra.observe.counting import Counting, WorkerEnds
from orchestra.observe.metrics import Metrics
from orchestra.observe.shared_tallies import SharedTallies
from orchestra.observe.tally import Tally


def test_a_number_that_cannot_be_written_down_ends_no_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        counting = Counting(Metrics({}), SharedTallies(tmp_path, 1))
        counting.metrics.tally.count(names.RUNS_RUNNING, (), 2**64)
        for _ in range(2):
            await counting.write()

    trio.run(main)
    (said,) = caplog.records
    assert (said.levelno, said.getMessage()) == (
        logging.ERROR,
        "the metrics of this process cannot be written",
    )


def test_a_folder_that_is_gone_is_told_once_and_so_is_its_return(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk stays full for hours, and four lines a second would fill it further."""
    folder = tmp_path / "counts"

    async def main() -> None:
        counting = Counting(Metrics({}), SharedTallies(folder, 1))
        for there in (False, False, True, True, False):
            if folder.exists() and not there:
                shutil.rmtree(folder)
            if there:
                folder.mkdir(exist_ok=True)
            counting.metrics.tally.count(names.CACHE_HITS, ("m",))
            await counting.write()

    trio.run(main)
    gone, back, gone_again = caplog.messages
    assert gone.startswith("the metrics of this process cannot be written: [Errno 2]")
    assert back == "the metrics of this process are written again"
    assert gone_again == gone


def test_workers_that_end_are_counted_with_what_the_others_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that dies before it has written anything: its supervisor counts it."""
    ends = WorkerEnds(tmp_path)
    for how in ("SIGKILL", "exit code 1", "SIGKILL"):
        ends.ended(how)
    found = SharedTallies(tmp_path, 1).total(Tally().encode()).counters[names.WORKER_ENDS.name]
    assert found == {("SIGKILL",): 2, ("exit code 1",): 1}
    shutil.rmtree(tmp_path)
    ends.ended("SIGKILL")
    assert "the end of a worker cannot be counted: [Errno 2]" in caplog.text
