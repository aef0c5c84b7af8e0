"""`orchestra.run`: one run, where no Trio runs."""

from __future__ import annotations

import pytest
import trio

import orchestra
from orchestra import pipeline, step
from orchestra.errors import RunError


@step
def double(number: int) -> int:
    return 2 * number


@pipeline
def doubled(number: int) -> int:
    return double(number)


@step
def quadruple(number: int) -> int:
    return orchestra.run(doubled, 2 * number)


@pipeline
def quadrupled(number: int) -> int:
    return quadruple(number)


async def main() -> int:
    return orchestra.run(doubled, 1)


def test_where_trio_runs_it_says_what_to_write() -> None:
    with pytest.raises(RunError, match=r"`await engine\.run\(doubled, \.\.\.\)`"):
        trio.run(main)


def test_in_a_step_it_says_what_to_write() -> None:
    with pytest.raises(RunError, match="call the pipeline in the pipeline's function"):
        orchestra.run(quadrupled, 1)
