"""Counting as long as a server lives, whatever it is given to count."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio

from orchestra.observe import names
from orchestra.observe.board import Board
from orchestra.observe.counting import Counting
from orchestra.observe.metrics import Metrics


def test_a_number_that_cannot_be_written_down_ends_no_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        counting = Counting(Metrics({}), Board(tmp_path, 1))
        counting.metrics.tally.count(names.RUNS_RUNNING, (), 2**64)
        await counting.write()

    trio.run(main)
    (said,) = caplog.records
    assert (said.levelno, said.getMessage()) == (
        logging.ERROR,
        "what this process counts is not written down",
    )
