"""The outlet: what a step puts is an event of the journal at once, and is held back by it alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Limits, Stream, open_engine, pipeline, step
from orchestra.engine.frames.outlet import Outlet
from orchestra.engine.journal import Journal
from orchestra.engine.lanes.outflow import Restart
from orchestra.engine.lanes.output import Output
from orchestra.errors import LimitExceededError, RunCancelledError
from orchestra.events import ArmRestarted, Delta, StepFailed, StepFinished
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from tests.engine.steps import numbers


@step
async def rushes(n: int) -> AsyncIterator[str]:
    """Chunks without a single wait between them."""
    for number in range(n):
        yield str(number % 10)


@step
async def says_and_fails(n: int) -> AsyncIterator[str]:
    """Chunks, and then it raises."""
    for number in range(n):
        yield str(number % 10)
    raise ValueError("told to fail")


@pipeline
def rushed(n: int) -> Stream[str]:
    return rushes(n)


@pipeline
def broken(n: int) -> Stream[str]:
    return says_and_fails(n)


@pipeline
def paced(n: int) -> Stream[str]:
    return numbers(n)


def refused(error: Exception) -> None:
    raise AssertionError("the journal keeps every chunk of this test") from error


def outlet(limits: Limits) -> tuple[Outlet, Journal]:
    journal = Journal(limits, Output(str, limits), trio.current_time())
    return Outlet(journal, limits.lane_chunks, lambda: None, refused), journal


@given(st.integers(0, 40), schedules())
def test_what_a_step_says_before_it_fails_is_in_the_journal_before_that(
    n: int, schedule: int
) -> None:
    events = simulate(broken, World(schedule=schedule), n=n).events
    told = [type(event) for event in events if isinstance(event, Delta | StepFailed)]
    assert told == [Delta] * n + [StepFailed]


@given(st.integers(0, 40), schedules())
def test_no_chunk_of_a_step_stands_behind_its_end(n: int, schedule: int) -> None:
    events = simulate(paced, World(schedule=schedule), n=n).events
    end = next((at for at, event in enumerate(events) if isinstance(event, StepFinished)), None)
    assert end is not None
    assert not any(isinstance(event, Delta) for event in events[end:])


@given(st.integers(1, 20), schedules())
def test_a_step_that_never_waits_lets_the_others_run_once_in_a_bound(
    bound: int, schedule: int
) -> None:
    async def main() -> None:
        said: list[int] = []

        async def watch() -> None:
            while True:
                said.append(run.journal.output.size_bytes)
                await trio.lowlevel.checkpoint()

        async with open_engine(limits=Limits(lane_chunks=bound)) as engine:
            run = engine.start(rushed, {"n": 100})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await run.result()
                nursery.cancel_scope.cancel()
        assert max(b - a for a, b in pairwise(said)) <= 2 * bound + 1

    virtual(main, schedule=schedule)


@step
async def stubborn(n: int) -> AsyncIterator[str]:
    """Chunks that cannot be cancelled."""
    for number in range(n):
        with trio.CancelScope(shield=True):
            yield str(number)


@pipeline
def told_anyway(n: int) -> Stream[str]:
    return stubborn(n)


def test_an_output_that_is_too_much_ends_also_a_step_that_shields_its_yield() -> None:
    run = simulate(told_anyway, World(limits=Limits(output_chunks=3)), n=40)
    assert isinstance(run.error, LimitExceededError)
    assert len([event for event in run.events if isinstance(event, Delta)]) == 3


@step
async def stubborn_and_slow(n: int) -> AsyncIterator[str]:
    """A chunk every second, and none of this can be cancelled."""
    with trio.CancelScope(shield=True):
        for number in range(n):
            await trio.sleep(1)
            yield str(number)


@pipeline
def told_slowly(n: int) -> Stream[str]:
    return stubborn_and_slow(n)


@pytest.mark.parametrize("cancel_at_s", [0.5, 3.0, 3.5, 4.0, 4.5])
def test_an_output_that_is_too_much_for_a_run_that_is_cancelled_already_ends_it_too(
    cancel_at_s: float,
) -> None:
    world = World(cancel_at_s=cancel_at_s, limits=Limits(output_chunks=3))
    run = simulate(told_slowly, world, n=8)
    assert isinstance(run.error, RunCancelledError | LimitExceededError)
    assert run.lasted_s <= 8


def test_a_restart_is_an_event_between_the_chunks() -> None:
    async def main() -> None:
        lane, journal = outlet(Limits())
        await lane.put("a")
        await lane.put(Restart("choose", "second"))
        await lane.put("b")
        lane.close()
        assert await lane.receive() == ()
        assert [type(event) for event in journal.kept] == [Delta, ArmRestarted, Delta]
        assert journal.output.joined() == "b"

    virtual(main, schedule=0)


def test_nothing_is_written_for_a_reader_who_has_left_also_while_it_waited() -> None:
    async def main() -> None:
        lane, journal = outlet(Limits(window_chunks=1))
        async with trio.open_nursery() as nursery:
            with journal.attach():
                await lane.put("a")
                nursery.start_soon(lane.put, "b")
                await trio.testing.wait_all_tasks_blocked()
                lane.leave()
        await lane.put("c")
        assert journal.output.joined() == "a"

    virtual(main, schedule=0)
