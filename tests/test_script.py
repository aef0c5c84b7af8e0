"""`orchestra.run`: one run, where no Trio runs."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from types import FunctionType

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
    with pytest.raises(RunError, match="call this pipeline like a step in the function"):
        orchestra.run(quadrupled, 1)


async def handler() -> int:
    return orchestra.run(doubled, 1)


async def said() -> AsyncIterator[int]:
    yield orchestra.run(doubled, 1)


def asked() -> int:
    return orchestra.run(doubled, 1)


async def helped() -> int:
    return asked()


async def in_a_cell() -> int:
    """As a notebook does it, where the cell has an `await` in it."""
    source = "x = orchestra.run(doubled, 1)\nawait asyncio.sleep(0)"
    code = compile(source, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    cell = FunctionType(code, dict(globals()))
    await cell()
    return int(cell.__globals__["x"])


def test_it_does_not_hold_up_an_event_loop_of_asyncios() -> None:
    """The answer would be right, and whoever else the program serves would wait for it."""

    async def first() -> int:
        return await anext(said())

    for asking in (handler, first):
        with pytest.raises(RunError, match=r"write `await portal\.arun\(doubled, \.\.\.\)`"):
            asyncio.run(asking())


def test_a_notebook_and_what_is_no_async_def_may_wait_for_it() -> None:
    assert asyncio.run(helped()) == asyncio.run(in_a_cell()) == 2
