"""Laws of time: what was stopped and goes on is noticed, with who it was; and nothing else is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from orchestra import Limits, Policy, Stream, open_engine, pipeline, race, step
from orchestra.errors import DeadlineError
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Gives
from orchestra.testing.simulate import simulate
from orchestra.testing.world import World


@step
async def after(value: int, s: float) -> str:
    await trio.sleep(s)
    return str(value)


@step
async def stubborn(n: int) -> AsyncIterator[str]:
    try:
        yield str(n)
        await trio.sleep(9)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(3000)


@pipeline
def not_to_be_stopped(n: int) -> Stream[str]:
    return stubborn(n)


def test_a_run_that_goes_on_although_it_was_stopped_is_noticed_and_its_step_is_named() -> None:
    with pytest.raises(AssertionError, match="a_cancelled_run_ends_at_once") as caught:
        check_laws(simulate(not_to_be_stopped, World(cancel_at_s=2.5), n=1))
    assert "cancelled at 2.5 s, and went on until 3002.5 s\n  stubborn ended" in str(caught.value)
    with pytest.raises(AssertionError, match="deadline_s is 2, and it went on until 3002 s"):
        check_laws(simulate(not_to_be_stopped, World(limits=Limits(deadline_s=2)), n=1))


@step(policy=Policy(timeout_s=2))
async def swallows(n: int) -> int:
    with trio.CancelScope(shield=True):
        await trio.sleep(50)
    return n


@pipeline
def late_step(n: int) -> int:
    return swallows(n)


def test_a_step_that_goes_on_over_its_timeout_is_noticed() -> None:
    with pytest.raises(AssertionError, match="timeout_s=2, and went on for 50 s"):
        check_laws(simulate(late_step, n=1))


@step
async def runs_another(n: int) -> str:
    async with open_engine() as engine:
        return await engine.run(hurried, n)


@pipeline(deadline_s=1)
def hurried(n: int) -> str:
    return after(n, 9)


@pipeline(deadline_s=5)
def outer(n: int) -> str:
    return runs_another(n)


def test_the_deadline_of_a_run_in_a_step_is_not_the_runs_own() -> None:
    simulation = simulate(outer, n=1)
    assert simulation.lasted_s == 1
    check_laws(simulation)


@step
async def one_way(n: int) -> str:
    raise NotImplementedError(n)


@step
async def other_way(n: int) -> str:
    raise NotImplementedError(n)


@step(policy=Policy(timeout_s=1))
async def in_time(n: int) -> str:
    raise NotImplementedError(n)


@pipeline
def either_way(n: int) -> str:
    return race(one_way(n), other_way(n))


@pipeline
def limited(n: int) -> str:
    return in_time(n)


def test_arms_that_end_together_are_tried_in_both_orders_and_a_limit_goes_first() -> None:
    together = {"one_way": Gives("one", 1.0), "other_way": Gives("other", 1.0)}
    won = {
        simulate(either_way, World(schedule=seed, steps=together), n=1).value for seed in range(20)
    }
    assert won == {"one", "other"}
    for seed in range(20):
        late = simulate(limited, World(schedule=seed, steps={"in_time": Gives("x", 1.0)}), n=1)
        assert isinstance(late.error, DeadlineError)
        assert late.lasted_s == 1
