"""On whose behalf a run is, and what is written down of its steps' calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

import pytest
import trio

from orchestra import pipeline, step
from orchestra.accounts import Caller, Usage
from orchestra.engine.engine import open_engine
from orchestra.events import RunCancelled, RunFinished, StepCached, StepCancelled, StepFinished
from orchestra.policies.account import NOBODY, PRESENT
from orchestra.protocols import Context, injected
from orchestra.testing.virtual import virtual

ADA = Caller("acme", "ada")


@step
async def calls(n: int, *, context: Context = injected) -> str:
    account = PRESENT.get()
    assert account is cast("object", context)
    account.record(StepCached, "fast", 0.9)
    account.used(Usage(n, cost_nanodollars=5))
    account.used(Usage(n, settled=True))

    async def beside() -> None:
        await trio.sleep(1)
        account.used(Usage(0, 1, cost_nanodollars=2))
        account.record(StepCached, "fast", 1.0)

    account.spawn(beside, "beside")
    return f"{account.caller.tenant} {account.run_id == context.run_id}"


@step
def plain(said: str, *, context: Context = injected) -> str:
    assert PRESENT.get() is cast("object", context)
    return f"{said} {context.step}"


@step
async def waits(said: str, seconds: float) -> str:
    assert PRESENT.get() is NOBODY
    await trio.sleep(seconds)
    return said


@pipeline
def calling(n: int, seconds: float) -> str:
    return waits(plain(calls(n)), seconds)


def run(main: Callable[[], Awaitable[None]]) -> None:
    virtual(main)


def test_a_step_calls_on_behalf_of_whoever_has_started_its_run() -> None:
    async def main() -> None:
        async with open_engine() as engine:
            run = engine.start(calling, {"n": 3, "seconds": 5.0}, caller=ADA)
            before = run.usage
            await trio.sleep(0.5)
            assert (before, run.usage) == (None, Usage(3, cost_nanodollars=5))
            await trio.sleep(1)
            assert run.usage == Usage(3, 1, cost_nanodollars=7), "of a step that has ended, too"
            assert await run.result() == "organisation:acme True plain"
            finished = {e.step: e.usage for e in run.journal.kept if isinstance(e, StepFinished)}
            assert finished["calls"] == Usage(3, cost_nanodollars=5)
            notes = [event for event in run.journal.kept if isinstance(event, StepCached)]
            assert [(e.at_s, e.step, e.similarity) for e in notes] == [
                (0.0, "calls", 0.9),
                (1.0, "calls", 1.0),
            ]
            (last,) = (event for event in run.journal.kept if isinstance(event, RunFinished))
            assert last.usage == run.usage == Usage(3, 1, cost_nanodollars=7)

    run(main)


def test_what_a_cancelled_run_has_used_is_told() -> None:
    async def main() -> None:
        async with open_engine() as engine:
            run = engine.start(calling, {"n": 3, "seconds": 0.5}, caller=ADA)
            with trio.move_on_after(0.1):
                await run.result()
            run.cancel("enough")
            await run.wait_ended()
            last = run.journal.kept[-1]
            assert isinstance(last, RunCancelled)
            assert last.usage == Usage(3, cost_nanodollars=5)
            await trio.sleep(2)  # what comes after the end changes nothing
            assert run.journal.kept[-1] is last
            assert run.usage == last.usage
            (stopped,) = (e for e in run.journal.kept if isinstance(e, StepCancelled))
            assert stopped.usage is None

    run(main)


@step
async def spawns(n: int, *, context: Context = injected) -> str:
    async def fails() -> None:
        await trio.sleep(n)
        async with trio.open_nursery():
            raise ValueError("x")

    PRESENT.get().spawn(fails, "what is beside")
    return context.step


@pipeline
def spawning(n: int, seconds: float) -> str:
    return waits(spawns(n), seconds)


def test_what_is_spawned_and_fails_is_logged_and_runs_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with open_engine() as engine:
            innocent = engine.start(spawning, {"n": 9999, "seconds": 3.0})
            assert await engine.run(spawning, 1, 2.0) == "spawns"
            assert await innocent.result() == "spawns"

    run(main)
    assert [each.getMessage() for each in caplog.records] == [
        "the background task what is beside failed: x"
    ]


def test_outside_of_a_run_nobody_calls() -> None:
    assert PRESENT.get() is NOBODY
    NOBODY.used(Usage(1))
    NOBODY.record(StepCached, "fast", 1.0)
    assert NOBODY.caller.tenant == ""
    assert Caller(user="bob").tenant == "user:bob"


def test_what_nobody_spawns_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="a flight"):
        NOBODY.spawn(trio.lowlevel.checkpoint, "a flight")
