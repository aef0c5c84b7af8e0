"""A step that shares its run's task: where it may, it is no second task, and nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar

import attrs
import pytest
import trio
from hypothesis import given

from orchestra import Pipeline, Stream, open_engine, pipeline, step
from orchestra.engine.run_id import RUN_ID
from orchestra.errors import RunCancelledError
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.engine.steps import both, numbers, waits

VARIABLE: ContextVar[str] = ContextVar("variable", default="nobody")


class Tasks(trio.abc.Instrument):
    """The names of the tasks that were started, and of those that have ended."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.started.append(task.name)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.ended.append(task.name)


sharing_waits = attrs.evolve(waits, shares_task=True)
sharing_numbers = attrs.evolve(numbers, shares_task=True)


@pipeline
def valued(n: int) -> str:
    return sharing_waits(n, for_s=1)


@pipeline
def streamed(n: int) -> Stream[str]:
    return sharing_numbers(n)


@pipeline
def ordinary(n: int) -> str:
    return waits(n, for_s=1)


@pipeline
def several(n: int) -> str:
    return both(sharing_waits(n, for_s=1), sharing_waits(n, for_s=2))


@pytest.mark.parametrize(("of", "tasks"), [(valued, 1), (streamed, 1), (ordinary, 2), (several, 4)])
def test_only_a_single_step_that_may_share_the_task_of_its_run_has_none_of_its_own(
    of: Pipeline[..., object], tasks: int
) -> None:

    async def main() -> Tasks:
        async with open_engine() as engine:
            trio.lowlevel.add_instrument(seen := Tasks())
            await engine.start(of, {"n": 3}).result()
            trio.lowlevel.remove_instrument(seen)
            return seen

    seen = virtual(main)
    assert len(seen.started) == tasks
    assert len(seen.ended) == tasks
    assert any("waits" in name or "numbers" in name for name in seen.ended), "it has its name"


@step
async def sets(n: int) -> str:
    VARIABLE.set("the step")
    return RUN_ID.get()


@step
async def sets_and_says(n: int) -> AsyncIterator[str]:
    VARIABLE.set("the step")
    yield RUN_ID.get()


sharing_sets = attrs.evolve(sets, shares_task=True)
sharing_sets_and_says = attrs.evolve(sets_and_says, shares_task=True)


@pipeline
def setting(n: int) -> str:
    return sharing_sets(n)


@pipeline
def setting_and_saying(n: int) -> Stream[str]:
    return sharing_sets_and_says(n)


@pytest.mark.parametrize("of", [setting, setting_and_saying])
@given(schedules())
def test_what_a_step_sets_is_not_set_for_who_runs_it(of: Pipeline[..., str], schedule: int) -> None:
    """`engine.run` works in its caller's task, whose context variables are not the step's."""

    async def main() -> None:
        async with open_engine() as engine:
            await engine.run(of, n=1)
            assert VARIABLE.get() == "nobody"
            run = engine.start(of, {"n": 1})
            assert await run.result() == run.id
            assert VARIABLE.get() == "nobody"

    virtual(main, schedule=schedule)


@pytest.mark.parametrize("of", [valued, streamed, setting])
@given(schedules())
def test_a_run_cancelled_before_it_has_begun_starts_no_step(
    of: Pipeline[..., object], schedule: int
) -> None:
    async def main() -> None:
        async with open_engine() as engine:
            run = engine.start(of, {"n": 1})
            run.cancel("told to")
            with pytest.raises(RunCancelledError, match="told to"):
                await run.result()
            assert [type(event).__name__ for event in run.journal.kept] == [
                "RunStarted",
                "StepSkipped",
                "RunCancelled",
            ]

    virtual(main, schedule=schedule)
