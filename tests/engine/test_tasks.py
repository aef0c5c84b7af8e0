"""Lives: what a step raises, swallows or is given, its life is told once, and to the right one."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Pipeline, Stream, collect, each, open_engine, pipeline, race, step
from orchestra.engine.run import Run
from orchestra.errors import ArmsFailedError, RunCancelledError, StepFailedError
from orchestra.events import (
    Event,
    RunCancelled,
    RunFailed,
    StepCancelled,
    StepFailed,
    StepFinished,
)
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import narrow_limits, schedules, worlds
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from tests.engine.steps import both, first, numbers, says, slowly, waits

ORDINARY = World()


def of(simulation: Simulation, step: str) -> list[Event]:
    return [event for event in simulation.events if getattr(event, "step", None) == step]


def lawful(pipeline: Pipeline[..., object], world: World = ORDINARY, n: int = 1) -> Simulation:
    simulation = simulate(pipeline, world, n=n)
    check_laws(simulation)
    return simulation


# -------------------------------------------------------------------------- what a step raises


@step
async def with_nursery(n: int) -> str:
    """A step with tasks of its own, of which `n` fail."""

    async def fail(number: int) -> None:
        raise ValueError(f"task {number}")

    async with trio.open_nursery() as nursery:
        for number in range(n):
            nursery.start_soon(fail, number)
        await trio.sleep(1)
    return "none failed"


@pipeline
def nursery_inside(n: int) -> str:
    return both(with_nursery(n), waits(n, for_s=5))


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_steps_own_nursery_never_shows_as_a_group(n: int) -> None:
    simulation = lawful(nursery_inside, n=n)
    if n == 0:
        assert simulation.value == f"none failed|{n}"
    elif n == 1:
        assert isinstance(simulation.error, ValueError)
    else:
        assert isinstance(simulation.error, StepFailedError)
        assert sorted(map(str, simulation.error.errors)) == ["task 0", "task 1", "task 2"]


@given(worlds(cancels=True))
def test_a_steps_own_nursery_can_be_cancelled(world: World) -> None:
    lawful(nursery_inside, world, n=0)


@step
async def fails_when_cancelled(n: int) -> str:
    try:
        await trio.sleep(100)
    finally:
        raise ValueError("in its finally")


@step
async def fails_beside_cancelled(n: int) -> str:
    """One of its tasks is cancelled, and another fails while it is."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(fails_when_cancelled.call, n)
    return ""


@pipeline
def careless(n: int) -> str:
    return both(fails_when_cancelled(n), fails_beside_cancelled(n))


@given(schedules())
def test_a_step_that_fails_while_it_is_cancelled_has_failed_and_the_run_is_cancelled(
    schedule: int,
) -> None:
    """Its error is told, and the cancellation goes on."""
    simulation = lawful(careless, World(cancel_at_s=1, schedule=schedule))
    assert isinstance(simulation.error, RunCancelledError)
    for name in ("fails_when_cancelled", "fails_beside_cancelled"):
        assert isinstance(of(simulation, name)[-1], StepFailed)
    assert isinstance(simulation.events[-1], RunCancelled)


@pipeline
def careless_loser(n: int) -> str:
    return race(waits(n, for_s=1), fails_when_cancelled(n))


def test_an_error_of_a_loser_changes_nothing_for_the_winner() -> None:
    simulation = lawful(careless_loser)
    assert simulation.value == "1"
    assert isinstance(of(simulation, "fails_when_cancelled")[-1], StepFailed)


# ---------------------------------------------------------------------- what a step swallows


@step
async def swallows(n: int) -> str:
    with trio.CancelScope() as scope:
        try:
            await trio.sleep(100)
        except trio.Cancelled:  # noqa: ASYNC103 - as careless steps do
            scope.cancel()
    return "did not hear"


@step
async def swallows_and_yields(n: int) -> AsyncIterator[str]:
    for _ in range(n):
        try:
            await trio.sleep(1)
            yield "a"
        except BaseException:  # noqa: ASYNC103 - as careless steps do
            yield "b"  # noqa: ASYNC104


@pipeline
def deaf(n: int) -> str:
    return both(swallows(n), collect(swallows_and_yields(n)))


@given(worlds(cancels=True), st.integers(0, 40))
def test_a_step_that_swallows_its_cancellation_keeps_nobody_else_from_it(
    world: World, n: int
) -> None:
    simulation = lawful(deaf, world, n=n)
    assert isinstance(simulation.error, RunCancelledError)


@step
async def refuses_to_end(n: int) -> AsyncIterator[str]:
    """Asked eight times by `Cancelled`, and then once to close, it still goes on."""
    refused = 0
    while True:  # noqa: ASYNC913
        try:
            yield "a"
        except BaseException:  # noqa: ASYNC103 - as careless steps do
            refused += 1
            if refused == 10:  # it is the garbage collector that asks
                raise


@pipeline
def endless(n: int) -> str:
    return slowly(refuses_to_end(n), each_s=1)


def test_a_generator_that_refuses_to_end_is_refused_itself() -> None:
    simulation = lawful(endless, World(cancel_at_s=2.5))
    (_, failed) = of(simulation, "refuses_to_end")
    assert isinstance(failed, StepFailed)
    assert failed.message == "async generator ignored GeneratorExit"


@step
async def keeps_a_cancelled(n: int) -> str:
    """It raises a `Cancelled` outside the scope that it belongs to."""
    kept: list[trio.Cancelled] = []
    with trio.move_on_after(n):
        try:
            await trio.sleep(100)
        except trio.Cancelled as cancelled:
            kept.append(cancelled)
            raise
    raise kept[0]


@pipeline
def astray(n: int) -> str:
    return both(keeps_a_cancelled(n), waits(n, for_s=5))


def test_a_cancelled_that_nobody_has_sent_is_a_failure_of_the_step() -> None:
    """It would stop the whole run without a word about why."""
    simulation = lawful(astray)
    assert isinstance(simulation.error, StepFailedError)
    assert "it raised trio.Cancelled without being cancelled" in str(simulation.error)
    assert simulation.lasted_s == 1


# ------------------------------------------------------------------ what is read by nobody


@pipeline
def left_early(n: int) -> str:
    return waits(first(numbers(n, every_s=1)), for_s=9)


@given(schedules())
def test_a_producer_that_nobody_reads_is_stopped_and_the_run_goes_on(schedule: int) -> None:
    simulation = lawful(left_early, World(schedule=schedule), n=100)
    assert simulation.value == "0"
    assert simulation.lasted_s == 10
    (_, cancelled) = of(simulation, "numbers")
    assert isinstance(cancelled, StepCancelled)
    assert cancelled.reason == "nobody reads its stream any more"
    assert cancelled.at_s == 1


@pipeline
def left_as_it_ends(n: int) -> str:
    return waits(first(numbers(n, every_s=1), most=n), for_s=9)


@given(schedules(), st.integers(1, 3))
def test_a_producer_that_ends_as_its_reader_leaves_has_one_life(schedule: int, n: int) -> None:
    simulation = lawful(left_as_it_ends, World(schedule=schedule), n=n)
    assert isinstance(of(simulation, "numbers")[-1], StepFinished | StepCancelled)


@step
async def is_cut(n: int) -> AsyncIterator[str]:
    yield "a"
    yield "b"
    raise ValueError("cut")


@step
async def reads_all(chunks: Stream[str]) -> str:
    return "".join([chunk async for chunk in chunks])


@pipeline
def read_while_cut(n: int) -> str:
    stream = is_cut(n)
    return both(collect(stream), both(reads_all(stream), collect(each(stream, says, at_once=1))))


@given(worlds(limits=narrow_limits()))
def test_a_cut_stream_never_looks_complete_to_whoever_reads_it_to_its_end(world: World) -> None:
    """Also not in the moment of the failure, when a reader may have been woken already."""
    simulation = lawful(read_while_cut, world)
    assert str(simulation.error) == "cut"
    finished = {event.step for event in simulation.events if isinstance(event, StepFinished)}
    assert not finished & {"collect", "reads_all", "each", "collect#2"}


# -------------------------------------------------------------------------- what stops the process


def interrupts(n: object) -> str:
    signal.raise_signal(signal.SIGINT)
    return "a"


def exits(n: object) -> str:
    raise SystemExit(3)


async def interrupts_later(n: object) -> str:
    await trio.lowlevel.checkpoint()
    return interrupts(n)


async def interrupts_beside(n: object) -> str:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupts_later, n)
        nursery.start_soon(interrupts_later, n)
        await trio.sleep(9999)
    return ""


async def interrupts_streaming(n: object) -> AsyncIterator[str]:
    yield "a"
    yield interrupts(n)


def stopping(function: Callable[..., object]) -> Pipeline[..., object]:
    stops = step(function)

    @pipeline(name="stopping")
    def defined(n: int) -> object:
        stopped: Any = stops(waits(n, for_s=1))
        if function is interrupts_streaming:
            stopped = collect(stopped)
        return both(race(stopped, waits(n, for_s=9)), says(waits(n, for_s=2)))

    return defined


@pytest.mark.parametrize(
    ("function", "raised"),
    [
        (interrupts, KeyboardInterrupt),
        (interrupts_later, KeyboardInterrupt),
        (interrupts_beside, KeyboardInterrupt),
        (interrupts_streaming, KeyboardInterrupt),
    ],
)
def test_what_stops_the_process_leaves_bare_and_the_journal_is_still_complete(
    function: Callable[..., object], raised: type[BaseException]
) -> None:
    runs: list[Run] = []

    async def start() -> None:
        async with open_engine() as engine:
            runs.append(engine.start(stopping(function), {"n": 1}))
            await trio.sleep_forever()

    async def run() -> None:
        async with open_engine() as engine:
            await engine.run(stopping(function), n=1)

    with pytest.raises(raised):
        virtual(run)
    with pytest.raises(raised):
        virtual(start)
    events = runs[0].journal.kept
    last = events[-1]
    assert isinstance(last, RunCancelled)
    assert last.reason == f"{raised.__name__} was raised"
    lives = [getattr(event, "step", None) for event in events]
    assert lives.count(function.__name__) == 2
    assert lives.count("race") == 2
    assert lives.count("both") == 1


async def exits_later(n: object) -> str:
    await trio.lowlevel.checkpoint()
    return exits(n)


async def exits_streaming(n: object) -> AsyncIterator[str]:
    yield "a"
    yield exits(n)


async def raises_generator_exit(n: object) -> str:
    raise GeneratorExit


@pytest.mark.parametrize(
    "stops",
    [
        step(exits),
        step(thread=True, name="exits_in_a_thread")(exits),
        step(exits_later),
        step(exits_streaming),
        step(raises_generator_exit),
    ],
    ids=lambda stops: stops.name,
)
def test_a_step_that_ends_the_program_ends_its_run_only(stops: Any) -> None:
    @pipeline(name="exiting")
    def exiting(n: int) -> object:
        stopped = stops(n)
        return collect(stopped) if stops.name == "exits_streaming" else stopped

    @pipeline(name="beside")
    def beside(n: int) -> object:
        return waits(n, for_s=9)

    async def main() -> None:
        async with open_engine() as engine:
            other = engine.start(beside, {"n": 1})
            with pytest.raises(StepFailedError, match="raise an error that says what is wrong"):
                await engine.run(exiting, n=1)
            assert not other.journal.ended
            other.cancel("enough")

    trio.run(main)


@step
def first_of(items: list[int]) -> int:
    """The first, if there is one."""
    return next(iter(items))


@pipeline
def takes_first(items: list[int]) -> int:
    return first_of(items)


def test_a_step_that_takes_the_next_of_nothing_is_told_what_to_write() -> None:
    """Python would tell whoever waits for the run of a coroutine that raised StopIteration."""

    async def main() -> None:
        async with open_engine() as engine:
            with pytest.raises(StepFailedError, match=r"write `next\(iterator, None\)`") as raised:
                await engine.run(takes_first, [])
            assert [type(each) for each in raised.value.errors] == [StopIteration]

    virtual(main)


# ------------------------------------------------------------------------ where an error came from


@step
async def same_error(n: int, after_s: float) -> str:
    await trio.sleep(after_s)
    raise SAME


SAME = ValueError("the same object each time")


@pipeline
def same_twice(n: int) -> str:
    return race(same_error(n, after_s=1), both(same_error(n, after_s=2), "x"))


@pipeline
def same_once(n: int) -> str:
    return both(race(waits(n, for_s=1), same_error(n, after_s=9)), same_error(n, after_s=3))


def test_an_error_that_is_raised_many_times_is_blamed_on_the_step_that_raised_it_now() -> None:
    for _ in range(3):
        assert isinstance(lawful(same_twice).error, ArmsFailedError)
        simulation = lawful(same_once)
        assert simulation.error is SAME
        (last,) = simulation.events[-1:]
        assert isinstance(last, RunFailed)
        assert last.step == "same_error#2"
    notes = SAME.__notes__
    assert len(notes) == len(set(notes)), "a note is made once"
    assert any("in step 'same_error#2' of pipeline 'same_once', called at" in n for n in notes)


class StonyError(Exception):
    """An error that takes no notes and has no words."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} cannot be set")

    def add_note(self, note: str, /) -> None:
        raise AttributeError("no notes")

    def __str__(self) -> str:
        raise RuntimeError("no words")


@step
async def stony(n: int) -> str:
    raise StonyError


@pipeline
def fails_stonily(n: int) -> str:
    return stony(n)


def test_an_error_of_any_class_is_the_runs_own() -> None:
    simulation = simulate(fails_stonily, World(), n=1)
    assert isinstance(simulation.error, StonyError)
    assert isinstance(simulation.events[-1], RunFailed)
    assert "while it was asked for its message" in simulation.events[-1].message


@pipeline
def inner(n: int) -> str:
    return both(waits(n, for_s=1), same_error(n, after_s=2))


@step
async def runs_another(n: int) -> str:
    async with open_engine() as engine:
        return await engine.run(inner, n)


@pipeline
def outer(n: int) -> str:
    return waits(runs_another(n), for_s=1)


def test_an_error_that_passes_two_runs_names_a_step_of_each() -> None:
    SAME.__notes__ = []
    simulation = lawful(outer)
    assert simulation.error is SAME
    assert [note.rpartition(",")[0] for note in SAME.__notes__] == [
        "in step 'same_error' of pipeline 'inner'",
        "in step 'runs_another' of pipeline 'outer'",
    ]
