"""A step that blocks is told, with its line; one that only works is not."""

from __future__ import annotations

import ctypes
import inspect
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from orchestra import Pipeline, collect, open_engine, pipeline, prompt, step
from orchestra.server.processes.blocking_steps import (
    BlockingStepDetector,
    step_in,
    task_in,
    waits_s,
)
from orchestra.steps import generate, tool
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import World
from orchestra.values import ToolCall
from tests.patience import PATIENCE_S

LONG_S = 0.4
"""Many looks."""
TRIES = 5
"""How often a test runs what blocks, until it is told."""


@step
async def sleeps(n: int) -> int:
    time.sleep(LONG_S)  # noqa: ASYNC251 - it is what is told
    return n


@step
def computes(n: int, *, for_s: float = LONG_S) -> int:
    until_s = time.thread_time() + for_s
    while time.thread_time() < until_s:
        n += 1
    return n


@step
async def streams(n: int) -> AsyncIterator[str]:
    yield "a"
    time.sleep(LONG_S)  # noqa: ASYNC251 - as above
    yield "b"


@step(thread=True)
def in_a_thread(n: int) -> int:
    time.sleep(LONG_S)
    return n


@step
async def waits(n: int) -> int:
    await trio.sleep(LONG_S)
    return n


@step
async def works(n: int) -> int:
    for _ in range(6):
        computes.call(n, for_s=0.06)
        await trio.lowlevel.checkpoint()
    return n


@pipeline
def sleeping(n: int) -> int:
    return sleeps(n)


@pipeline
def computing(n: int) -> int:
    return computes(n)


@pipeline
def streaming(n: int) -> str:
    return collect(streams(n))


@pipeline
def threaded(n: int) -> int:
    return in_a_thread(n)


@pipeline
def waiting(n: int) -> int:
    return waits(n)


@pipeline
def working(n: int) -> int:
    return works(n)


def told(
    each: Pipeline[..., object],
    caplog: pytest.LogCaptureFixture,
    *,
    times: int = 1,
    tries: int = 1,
    limit_s: float = 0.1,
    still_s: float = PATIENCE_S,
    world: World | None = None,
    waits_s: Callable[[], dict[str, float]] = dict,
) -> list[str]:
    """What is told of runs of it, if the machine is not busy, unless `waits_s` says otherwise.

    Of several `tries`, a busy machine may miss all but one.
    """
    detector = BlockingStepDetector(limit_s=limit_s, look_s=0.02, still_s=still_s, waits_s=waits_s)
    left = iter(range(tries))

    async def main() -> None:
        async with trio.open_nursery() as nursery, open_engine(world) as engine:
            nursery.start_soon(detector.watch)
            await trio.testing.wait_all_tasks_blocked()
            while not caplog.records and next(left, None) is not None:
                for _ in range(times):
                    await engine.run(each, n=1)
            nursery.cancel_scope.cancel()

    with caplog.at_level(logging.WARNING, "orchestra.server"):
        trio.run(main)
        for thread in threading.enumerate():
            if thread.name == "blocking-steps":  # it may be about to warn, in the next test
                thread.join()
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("still_s", [LONG_S / 2, 10 * PATIENCE_S])
def test_a_process_that_stood_still_says_so_afterwards(
    still_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Code in C keeps the GIL, so that no other thread runs, as if the process were suspended."""

    @step
    def keeps(n: int) -> int:
        ctypes.PyDLL(None).usleep(int(LONG_S * 1e6))
        return n

    @pipeline
    def keeping(n: int) -> int:
        return keeps(n)

    lines = told(keeping, caplog, still_s=still_s)
    text = r"this process stood still for \d+\.\d s, "
    assert any(re.match(text, line) for line in lines) == (still_s < LONG_S)


@pytest.mark.parametrize(
    ("each", "name", "line"),
    [
        (sleeping, "sleeps", "time.sleep(LONG_S)"),
        (computing, "computes", "n += 1"),
        (streaming, "streams", "time.sleep(LONG_S)"),
    ],
)
def test_a_step_that_blocks_is_told_once_with_its_line(
    each: Pipeline[..., object], name: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    (message, *others) = told(each, caplog, times=2, tries=TRIES)
    assert message.startswith(f"step {name!r} blocks: all other runs wait for it, at ")
    where = message.partition(" at ")[2].partition(";")[0]
    assert where.startswith("tests/server/processes/test_blocking_steps.py:")
    if line.startswith("time"):
        source = Path(__file__).read_text().splitlines()
        assert line in source[int(where.rpartition(":")[2]) - 1]
        assert others == []


def looks_up(word: str) -> str:
    """Look a word up."""
    time.sleep(LONG_S)
    return word


async def looks_it_up(word: str) -> str:
    """Look a word up."""
    return looks_up(word)


@tool(thread=True)
def looks_up_in_a_thread(word: str) -> str:
    """Look a word up."""
    return looks_up(word)


@step
async def beside(n: int) -> int:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looks_it_up, "a")
        nursery.start_soon(trio.sleep, 0)
    return n


@pipeline
def nursing(n: int) -> int:
    return beside(n)


def asking(looking: Callable[[str], object]) -> tuple[Pipeline[..., str], World]:
    """A pipeline whose model calls this tool once."""

    @pipeline
    def asking_it(n: int) -> str:
        return collect(generate(prompt("{n}", n=n), tools=[looking]))

    calls = ToolCall("1", looking.__name__, '{"word": "a"}')
    return asking_it, World(models={"default": ScriptedTurns.saying(*(calls, "b") * TRIES)})


@pytest.mark.parametrize(
    ("looking", "line"), [(looks_up, "time.sleep(LONG_S)"), (looks_it_up, "return looks_up(word)")]
)
def test_a_tool_that_blocks_is_told_as_well(
    looking: Callable[[str], object], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    each, world = asking(looking)
    (message,) = told(each, caplog, tries=TRIES, world=world)
    assert message.startswith(f"{looking.__name__!r} blocks: all other runs wait for it, at ")
    assert "@tool(thread=True)" in message
    where = message.partition(" at ")[2].partition(";")[0]
    assert line in Path(__file__).read_text().splitlines()[int(where.rpartition(":")[2]) - 1]


def test_so_is_what_a_step_starts_in_a_nursery(caplog: pytest.LogCaptureFixture) -> None:
    (message,) = told(nursing, caplog, tries=TRIES)
    assert message.startswith("'looks_it_up' blocks: ")


def test_a_tool_in_a_thread_is_not(caplog: pytest.LogCaptureFixture) -> None:
    each, world = asking(looks_up_in_a_thread)
    assert told(each, caplog, world=world) == []


def test_what_is_in_no_step_is_nobodys() -> None:
    for nobodys in (step_in, task_in):
        assert nobodys(inspect.currentframe()) is None
        assert nobodys(None) is None


@pytest.mark.parametrize("each", [threaded, waiting])
def test_a_step_that_lets_others_run_is_not_told(
    each: Pipeline[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    assert told(each, caplog) == []


def test_a_step_that_works_and_lets_others_run_is_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert told(working, caplog, limit_s=PATIENCE_S) == []


@pytest.mark.parametrize("holders", [1, 2])
def test_a_step_that_waits_for_a_core_is_not_told(
    holders: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a busy machine, or in a container at its CPU limit. Threads take turns with the GIL."""

    def waits_s() -> dict[str, float]:
        return {str(each): time.monotonic() / holders for each in range(holders)}

    assert told(computing, caplog, waits_s=waits_s) == []


def test_the_wait_of_a_thread_that_has_ended_excuses_no_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks = itertools.count()
    (message, *_) = told(computing, caplog, waits_s=lambda: {str(next(looks)): time.monotonic()})
    assert message.startswith("step 'computes' blocks: ")


def test_a_thread_whose_core_is_taken_waits_for_it() -> None:
    """What it waited and what it ran are not more than the time that has passed."""
    core = {min(os.sched_getaffinity(0))}
    seen: list[tuple[float, float, float]] = []

    def compete() -> None:
        os.sched_setaffinity(0, core)  # of this thread only
        began_s, waited_s, me = time.monotonic(), 0.0, str(threading.get_native_id())
        while waited_s < 0.05 and time.thread_time() < PATIENCE_S:
            waited_s = waits_s()[me]
        seen.append((waited_s, time.thread_time(), time.monotonic() - began_s))

    busy = f"import time\nwhile time.process_time() < {2 * PATIENCE_S}: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as other:
        os.sched_setaffinity(other.pid, core)
        thread = threading.Thread(target=compete)
        thread.start()
        thread.join()
        other.kill()
    ((waited_s, ran_s, passed_s),) = seen
    assert waited_s >= 0.05
    assert waited_s + ran_s <= passed_s + 0.05
