"""The laws of a run, over random pipelines, schedules, limits and moments of cancellation."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestra import Limits, Stream, each, pipeline, step
from orchestra.compiler.check import check
from orchestra.errors import RunCancelledError
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import narrow_limits, schedules, worlds
from orchestra.testing.world import World
from tests.testing.sketches.drawing import sketches
from tests.testing.sketches.oracle import Bad, Ok, Tie, foresee
from tests.testing.sketches.polls import Agreeing
from tests.testing.sketches.sketches import (
    Eaching,
    EachingStream,
    Falling,
    Racing,
    Sketch,
    build,
)

RUNS = 500
UNLIMITED = Limits(lane_chunks=100_000)
ALL = list(HealthCheck)
F = TypeVar("F", bound=Callable[..., object])


def many(law: F) -> F:
    """The law, which is tried `RUNS` times, in CI too."""
    tried = settings(max_examples=RUNS, suppress_health_check=ALL)
    made: F = pytest.mark.in_full(tried(law))
    return made


def _foreseen(sketch: Sketch, n: int) -> Ok | Bad:
    pipeline = build(sketch)
    problems = check(pipeline)
    assume(not problems)
    try:
        return foresee(sketch, n)
    except Tie:
        assume(False)
        raise


def _by_time(sketch: Sketch) -> bool:
    """Whether the result depends on when chunks come, which narrow edges change."""
    return any(
        isinstance(part, Racing | Agreeing)
        or (isinstance(part, EachingStream) and not part.ordered)
        for part in sketch.parts
    )


def _same(sketch: Sketch, one: object, other: object) -> bool:
    """Whether two results are equal, but for the order that an unordered `each` leaves open."""
    unordered = any(isinstance(part, Eaching) and not part.ordered for part in sketch.parts)
    if unordered and isinstance(one, list) and isinstance(other, list):
        return sorted(one) == sorted(other)
    return one == other


@many
@given(sketches(), st.integers(0, 50), schedules())
def test_a_run_gives_what_recursion_gives_and_lasts_its_critical_path(
    sketch: Sketch, n: int, schedule: int
) -> None:
    """Without limits, the result is plain recursion's and the time is the critical path's."""
    _agrees(sketch, n, schedule)


@many
@given(sketches(fails=True), st.integers(0, 50), schedules())
def test_a_failure_ends_the_run_at_the_moment_it_happens(
    sketch: Sketch, n: int, schedule: int
) -> None:
    """With failing steps too: what wins, what falls back and what fails, and when."""
    _agrees(sketch, n, schedule)


@settings(max_examples=60, suppress_health_check=ALL)
@given(sketches(fails=True, most=6), st.data(), schedules())
def test_an_output_that_restarts_is_the_last_arms_alone(
    sketch: Sketch, data: st.DataObject, schedule: int
) -> None:
    """Whatever the arms are made of, and whatever else reads what they read."""
    flows = [number for number in range(len(sketch.parts)) if sketch.streams(number)]
    assume(len(flows) > 1)
    arms = st.lists(st.sampled_from(flows), min_size=2, max_size=3, unique=True).map(tuple)
    last = sketch.parts[-1]
    if isinstance(last, Falling):
        last = attrs.evolve(last, restart=False)
    restarting = Falling(data.draw(arms), restart=True)
    _agrees(Sketch((*sketch.parts[:-1], last, restarting)), 3, schedule)


def _agrees(sketch: Sketch, n: int, schedule: int) -> None:
    foreseen = _foreseen(sketch, n)
    world = World(schedule=schedule, limits=UNLIMITED, jitter=1.0)
    run = simulate(build(sketch), world, n=n)
    check_laws(run)
    assert (run.error is not None) == isinstance(foreseen, Bad), run.error
    assert run.lasted_s == foreseen.at_s
    if isinstance(foreseen, Ok):
        assert _same(sketch, run.value, foreseen.value)


@many
@given(sketches(), st.integers(0, 50), worlds(limits=narrow_limits()))
def test_narrow_edges_change_the_time_but_never_the_result(
    sketch: Sketch, n: int, world: World
) -> None:
    """Backpressure holds producers back; where time decides nothing, the result is the same."""
    foreseen = _foreseen(sketch, n)
    run = simulate(build(sketch), world, n=n)
    check_laws(run)
    if not _by_time(sketch):
        assert (run.error is not None) == isinstance(foreseen, Bad), run.error
        assert isinstance(foreseen, Bad) or _same(sketch, run.value, foreseen.value)


@many
@given(sketches(fails=True), st.integers(0, 50), worlds(limits=narrow_limits(), cancels=True))
def test_a_run_can_be_cancelled_at_any_moment(sketch: Sketch, n: int, world: World) -> None:
    """It ends at that moment, if it had not ended; with every law, and nothing left."""
    assume(not check(build(sketch)))
    run = simulate(build(sketch), world, n=n)
    check_laws(run)
    assert world.cancel_at_s is not None
    assert run.lasted_s <= world.cancel_at_s
    if isinstance(run.error, RunCancelledError):
        assert run.lasted_s == world.cancel_at_s


def test_there_are_at_least_two_thousand_simulated_runs() -> None:
    """Each of them a pipeline, a schedule, and limits or a moment of its own."""
    laws = [
        test_a_run_gives_what_recursion_gives_and_lasts_its_critical_path,
        test_a_failure_ends_the_run_at_the_moment_it_happens,
        test_narrow_edges_change_the_time_but_never_the_result,
        test_a_run_can_be_cancelled_at_any_moment,
    ]
    runs = [getattr(law, "_hypothesis_internal_use_settings").max_examples for law in laws]  # noqa: B009
    again = settings.get_current_profile_name() == "again"  # a tenth: tests/conftest.py
    assert runs == [RUNS // 10 if again else RUNS] * len(laws)
    assert RUNS * len(laws) >= 2000


@step
async def letters(value: object) -> AsyncIterator[str]:
    for letter in str(value):
        yield letter


@step
async def a_and_again(chunks: Stream[str], again: Stream[str]) -> str:
    return "".join([chunk async for chunk in chunks] + [chunk async for chunk in again])


@step
async def passed(chunks: Stream[str]) -> AsyncIterator[str]:
    async for chunk in chunks:
        yield chunk


@pipeline
def parts_and_meets(n: int) -> str:
    read = letters(n)
    return a_and_again(passed(read), read)


def test_a_lane_that_may_grow_is_no_smaller_than_one_that_may_not() -> None:
    """A run with more room in a lane than in its output was accused."""
    simulation = simulate(parts_and_meets, World(limits=Limits(output_chunks=2)), n=1234)
    assert simulation.lane_peak == 4
    check_laws(simulation)


@step
async def of_asyncio(n: int) -> int:
    await asyncio.sleep(n)
    return n


@pipeline
def waits_for_asyncio(n: int) -> int:
    return of_asyncio(n)


def test_a_failure_that_is_told_with_what_to_write_instead_breaks_no_law() -> None:
    simulation = simulate(waits_for_asyncio, n=1)
    check_laws(simulation)
    assert isinstance(simulation.error, RuntimeError)
    assert "write trio.sleep" in str(simulation.events[-1])


@step
async def doubled(n: int) -> int:
    return 2 * n


@pipeline
def doubles(ns: list[int]) -> list[int]:
    return each(ns, doubled, at_once=3)


@pipeline
def squares(rows: list[list[int]]) -> list[list[int]]:
    return each(rows, doubles, at_once=3)


def _calls(simulation: Simulation[object]) -> int:
    """The calls of functions, Python's and C's, that it takes to check a run."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        check_laws(simulation)
    finally:
        sys.setprofile(None)
    return calls


def test_an_item_costs_the_laws_as_much_in_many_as_in_few() -> None:
    """Also of an `each` in an `each`."""
    pairs: list[tuple[Simulation[object], Simulation[object]]] = [
        (simulate(doubles, ns=[1] * 25), simulate(doubles, ns=[1] * 200)),
        (simulate(squares, rows=[[1]] * 25), simulate(squares, rows=[[1]] * 200)),
    ]
    for few, many in pairs:
        assert _calls(many) < 9 * _calls(few)
