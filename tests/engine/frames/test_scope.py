"""The error of a region is its first."""

from __future__ import annotations

import trio
from hypothesis import given

from orchestra import pipeline, step
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.world import World


@step
async def fails_first() -> int:
    """The error that counts."""
    await trio.sleep(1)
    raise ValueError("the first")


@step
async def fails_while_it_is_stopped() -> int:
    """An error that the first one causes."""
    try:
        await trio.sleep(2)
    finally:
        raise KeyError("the second")


@step
def add(one: int, other: int) -> int:
    """Both."""
    return one + other


@pipeline
def twice_wrong() -> int:
    """Two steps that fail, one because of the other."""
    return add(fails_first(), fails_while_it_is_stopped())


@given(worlds())
def test_the_error_of_a_run_is_the_first_one(world: World) -> None:
    """What goes wrong while the others are being stopped does not hide it."""
    run = simulate(twice_wrong, world)
    check_laws(run)
    assert isinstance(run.error, ValueError)
