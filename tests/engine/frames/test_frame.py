"""Frames and scopes: what starts when, what never does, and what nobody is left waiting for."""

from __future__ import annotations

import gc
from contextvars import ContextVar

import attrs
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import (
    Limits,
    Pipeline,
    Stream,
    collect,
    each,
    fallback,
    open_engine,
    pipeline,
    race,
    route,
    step,
)
from orchestra.engine.frames.frame import Frame
from orchestra.errors import DeadlineError, RunCancelledError
from orchestra.events import StepSkipped, StepStarted
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import narrow_limits, schedules, worlds
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from tests.engine.freed import assert_freed_when_done
from tests.engine.steps import both, breaks, fails, first, numbers, says, slowly, waits


def names(simulation: Simulation, kind: type[StepStarted | StepSkipped]) -> set[str]:
    return {event.step for event in simulation.events if isinstance(event, kind)}


# ------------------------------------------------------- streams that an arm shares with others


@step
async def after(n: int, after_s: float) -> int:
    await trio.sleep(after_s)
    return n


@pipeline
def loser_reads_shared(n: int) -> str:
    """The arm that loses is in the middle of a stream which somebody else reads to its end."""
    stream = numbers(n, every_s=0.1)
    return both(collect(stream), race(waits("quick", for_s=0.25), slowly(stream, each_s=1)))


@pipeline
def loser_is_shared(n: int) -> str:
    """The arm that loses is itself a stream which somebody else reads to its end."""
    stream = numbers(n, every_s=0.1)
    quick = numbers(1, every_s=0.05)
    return both(collect(stream), collect(race(quick, stream)))


@pipeline
def loser_is_gone_before(n: int) -> str:
    """The arm that loses has not come to read the stream, which starts later."""
    stream = numbers(after(n, 5), every_s=0.1)
    quick = race(waits("quick", for_s=1), slowly(stream, each_s=1))
    return both(collect(stream), quick)


@pipeline
def reader_leaves_route(n: int) -> str:
    """The arm that is taken is a shared stream, and its reader leaves early."""
    stream = numbers(n, every_s=0.1)
    return both(collect(stream), first(route(says("a"), {"a": stream, "b": numbers(1)}), most=2))


@pipeline
def route_fails(n: int) -> str:
    """A route without an arm for its label fails, in the arm of a fallback."""
    stream = numbers(n, every_s=0.1)
    routed = route(says("z"), {"a": stream, "b": numbers(n)})
    return both(collect(stream), collect(fallback(routed, numbers(2))))


@step
def looks(chunks: Stream[str]) -> str:
    return "looked"


@pipeline
def plain_reads(n: int) -> str:
    """A plain step can be given a stream, and cannot read it."""
    stream = numbers(n, every_s=0.1)
    return both(collect(stream), looks(stream))


@settings(max_examples=150)
@given(
    st.sampled_from(
        [
            loser_reads_shared,
            loser_is_shared,
            loser_is_gone_before,
            reader_leaves_route,
            route_fails,
        ]
    ),
    worlds(limits=narrow_limits()),
    st.integers(3, 12),
)
def test_a_reader_that_is_stopped_never_holds_a_stream_that_others_read(
    shared: Pipeline[..., object], world: World, n: int
) -> None:
    simulation = simulate(shared, world, n=n)
    check_laws(simulation)
    assert simulation.error is None
    assert str(simulation.value).startswith("".join(map(str, range(n))) + "|")


def test_a_reader_that_cannot_read_holds_nobody() -> None:
    simulation = simulate(plain_reads, World(limits=Limits(lane_chunks=1)), n=5)
    check_laws(simulation)
    assert simulation.error is None


# ------------------------------------------------------------------------------ what is skipped


@pipeline
def nested_arms(n: int) -> str:
    inner = fallback(waits(n, for_s=9), waits("never", for_s=1))
    return race(waits(n, for_s=1), both(inner, route(says(n), {"5": says("five")}, default="else")))


@settings(max_examples=100)
@given(worlds(cancels=True))
def test_what_never_starts_is_skipped_however_deep_it_lies(world: World) -> None:
    check_laws(simulate(nested_arms, world, n=4))


@pipeline
def no_such_arm(n: int) -> str:
    return route(says(n), {"a": waits("a", for_s=1), "b": both(waits("b", for_s=1), "c")})


def test_what_a_failed_route_would_have_started_is_skipped() -> None:
    simulation = simulate(no_such_arm, World(), n=1)
    check_laws(simulation)
    assert names(simulation, StepSkipped) == {"waits", "waits#2", "both"}
    reasons = {event.reason for event in simulation.events if isinstance(event, StepSkipped)}
    assert reasons == {"a step beside it failed with RouteError"}


# ----------------------------------------------------------------------------------- plain steps


@pipeline
def long_chain(n: int) -> str:
    value = says(n)
    for _ in range(1500):
        value = says(value)
    return value


def test_a_long_chain_of_plain_steps_is_no_deep_recursion() -> None:
    simulation = simulate(long_chain, World(), n=1)
    assert simulation.value == "1"
    assert len(names(simulation, StepStarted)) == 1501


@pipeline
def plain_failure(n: int) -> str:
    value = says(waits(n, for_s=1))
    return both(breaks(value), both(says(value), says(says(value))))


@given(schedules())
def test_no_plain_step_starts_once_one_beside_it_has_failed(schedule: int) -> None:
    simulation = simulate(plain_failure, World(schedule=schedule), n=1)
    check_laws(simulation)
    assert names(simulation, StepStarted) == {"waits", "says", "breaks"}


VARIABLE: ContextVar[str] = ContextVar("variable", default="nobody")


@step
async def sets(n: int, after_s: float) -> int:
    await trio.sleep(after_s)
    VARIABLE.set(f"sets({after_s})")
    return n


@step
def sets_plainly(n: int) -> int:
    VARIABLE.set("sets_plainly")
    return n


@step
async def sees(*inputs: int) -> str:
    return VARIABLE.get()


@step
def sees_plainly(*inputs: int) -> str:
    return VARIABLE.get()


@pipeline
def variables(n: int) -> str:
    one, other = sets(n, after_s=1), sets(sets_plainly(n), after_s=2)
    return both(sees(one, other), sees_plainly(one, sets_plainly(other)))


@given(schedules())
def test_a_step_sees_the_variables_of_whoever_started_the_run_and_of_nobody_else(
    schedule: int,
) -> None:
    """Which of its inputs comes last, and in whose task it is started, makes no difference."""

    async def main() -> object:
        VARIABLE.set("the caller")
        async with open_engine() as engine:
            started = engine.start(variables, {"n": 1})
            VARIABLE.set("the caller, later")
            return await started.result()

    assert virtual(main, schedule=schedule) == "the caller|the caller"


# ------------------------------------------------------------------- nothing starts while it ends


@step
async def stubborn(value: int, ticks: int) -> int:
    """A value, some ticks after it was cancelled."""
    try:
        await trio.sleep(9999)
    except trio.Cancelled:  # noqa: ASYNC103 - as stubborn steps do
        with trio.CancelScope(shield=True):
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
        return value  # noqa: ASYNC104
    return 0


@pipeline
def late_input(n: int, ticks: int) -> str:
    late = stubborn(n, ticks)
    inner = race(waits(late, for_s=1), both(waits(n, for_s=9), says(late)))
    return both(late, fallback(inner, waits(n, for_s=2)))


@settings(max_examples=300)
@given(st.integers(0, 8), schedules())
def test_an_input_that_comes_while_a_region_ends_starts_nothing_in_it(
    ticks: int, schedule: int
) -> None:
    """A nursery is gone for others a tick before it is gone for its own task."""
    world = World(schedule=schedule)
    cancelled = attrs.evolve(world, cancel_at_s=0.5)
    late = late_input.using(deadline_s=0.5)
    for top, around, error in (
        (late_input, cancelled, RunCancelledError),
        (late, world, DeadlineError),
    ):
        simulation = simulate(top, around, n=1, ticks=ticks)
        check_laws(simulation)
        assert type(simulation.error) is error


@step
async def deaf(n: int) -> int:
    with trio.CancelScope(shield=True):
        await trio.sleep(n)
    return n


@pipeline
def one_deaf(n: int) -> int:
    return deaf(n)


@given(schedules())
def test_a_run_that_was_cancelled_gives_nothing_of_a_step_that_did_not_hear(schedule: int) -> None:
    """Also of a step alone, whose end is the run's."""
    simulation = simulate(one_deaf, World(schedule=schedule, cancel_at_s=0.5), n=1)
    assert type(simulation.error).__name__ == "RunCancelledError"


# ----------------------------------------------------------------------------------------- memory


@step
async def items(n: int) -> list[int]:
    return list(range(n))


@step
async def same(item: int) -> int:
    await trio.lowlevel.checkpoint()
    return item


@pipeline
def many(n: int) -> list[int]:
    return each(items(n), lambda item: route(says(item), {}, default=same(item)), at_once=8)


def test_the_frames_of_items_that_are_done_are_gone() -> None:
    alive: list[int] = []

    class Counting(trio.abc.Instrument):
        def task_exited(self, task: trio.lowlevel.Task) -> None:
            if len(alive) < 50 and task.name == "same":
                alive.append(sum(isinstance(thing, Frame) for thing in gc.get_objects()))

    async def main() -> object:
        async with open_engine() as engine:
            run = engine.start(many, {"n": 2000})
            with trio.move_on_after(0.5):
                await run.wait_ended()
            trio.lowlevel.add_instrument(Counting())
            return await run.result()

    gc.collect()
    assert virtual(main) == list(range(2000))
    assert max(alive, default=0) <= 10


@pipeline
def ordinary(n: int) -> Stream[str]:
    return race(numbers(n), fallback(numbers(n, every_s=9), numbers(n, every_s=8)))


@pipeline
def raced(n: int) -> Stream[str]:
    return race(numbers(n, every_s=1), numbers(n, every_s=1))


def test_a_run_that_is_done_is_freed_with_its_last_reference() -> None:
    assert_freed_when_done({"n": 3}, many, nested_arms, variables, ordinary, raced)


@pipeline
def failing(n: int) -> str:
    return both(fails(n, after_s=1), waits(n, for_s=5))


def test_a_region_stops_at_its_first_failure_and_raises_the_steps_own_error() -> None:
    simulation = simulate(failing, World(), n=1)
    check_laws(simulation)
    assert isinstance(simulation.error, ValueError)
    assert simulation.lasted_s == 1


# ------------------------------------------------------- arms in arms


@pipeline
def in_arms_that_are_skipped(n: int, now: bool) -> int:
    value = after(n, after_s=0)
    for _ in range(400):
        value = route(now, {True: n, False: after(value, after_s=0)})
    return value


def test_arms_nested_hundreds_deep_are_skipped_in_order() -> None:
    run = simulate(in_arms_that_are_skipped, World(), n=1, now=True)
    assert run.value == 1
    skipped = [event.step for event in run.events if isinstance(event, StepSkipped)]
    assert len(skipped) == len(set(skipped)) == 800
    assert skipped[:2] + skipped[-2:] == ["route#399", "route#398", "after#400", "after#401"]
