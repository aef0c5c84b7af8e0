"""Simulate: one run of a pipeline in virtual time, in about a millisecond.

The clock jumps to the next deadline whenever every task waits, so a run with a
thirty-second outage takes no longer than one without. The order in which ready tasks
run is seeded by the world: Hypothesis by itself pins it, and would try one schedule.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio
import trio.testing
from trio._core import _run as trio_run

from orchestra.compiler.plan import Plan
from orchestra.engine.engine import Engine, open_engine
from orchestra.engine.run import Run
from orchestra.events import Event
from orchestra.graph.pipelines import Pipeline
from orchestra.testing.scripts import rescript
from orchestra.testing.world import World

FAR_S = 1e6  # virtual seconds after which a run that still waits is one that hangs
TIDY_S = 1e5  # ... and the same for the ending of a run that was cancelled


@attrs.frozen
class Simulation:
    """What one simulated run did."""

    plan: Plan
    world: World
    events: tuple[Event, ...]
    value: object
    """Its result; None where it has none."""
    error: Exception | None
    """What `run()` would raise; None where it succeeded."""
    lasted_s: float
    """Virtual seconds from its start to its last event."""
    tasks_left: int
    """Tasks that were still there after its end. More than none is a bug."""
    lane_peak: int
    """The most chunks that ever waited on one edge."""


class HangError(AssertionError):
    """A simulated run was still waiting in the far future: nothing will ever wake it."""


def simulate(pipeline: Pipeline[..., object], world: World, /, **inputs: object) -> Simulation:
    """One run of a pipeline in a world, in virtual time.

    Raises:
        CheckError: the pipeline has problems, or names what the world does not have.
        InputError: an input is missing, unknown, or of the wrong type.
        HangError: the run would never end.
    """

    async def main() -> Simulation:
        async with open_engine(world, limits=world.limits) as engine:
            return await _simulate(engine, rescript(engine.plan(pipeline), world.steps), inputs)

    async def _simulate(engine: Engine, plan: Plan, inputs: dict[str, object]) -> Simulation:
        before = trio.lowlevel.current_statistics().tasks_living
        began_s = trio.current_time()
        run = engine.start(plan, inputs)
        await _to_the_end(run, world)
        lasted_s = trio.current_time() - began_s
        await engine.wait_idle()
        await trio.testing.wait_all_tasks_blocked()
        left = trio.lowlevel.current_statistics().tasks_living - before
        value, error = await _outcome(run)
        return Simulation(
            plan, world, run.journal.kept, value, error, lasted_s, left, run.lane_peak
        )

    with _seeded(world.schedule):
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def _to_the_end(run: Run, world: World) -> None:
    with trio.move_on_after(FAR_S if world.cancel_at_s is None else world.cancel_at_s):
        await run.wait_ended()
        return
    if world.cancel_at_s is None:
        raise HangError(_hanging(run))
    run.cancel("the world said so")
    with trio.move_on_after(TIDY_S):
        await run.wait_ended()
        return
    raise HangError(_hanging(run))


def _hanging(run: Run) -> str:
    log = "\n".join(f"  {event}" for event in run.journal.kept[-20:])
    return f"run of {run.pipeline!r} still waits after {FAR_S:g} virtual seconds; it said last:\n{log}"


async def _outcome(run: Run) -> tuple[object, Exception | None]:
    try:
        return await run.result(), None
    except Exception as error:  # noqa: BLE001 - it is what we are asked for
        return None, error


@contextmanager
def _seeded(schedule: int) -> Iterator[None]:
    """Trio's scheduler seeded with the schedule, and as it was afterwards."""
    was = trio_run._ALLOW_DETERMINISTIC_SCHEDULING  # noqa: SLF001 - traps.md, 1
    state = trio_run._r.getstate()  # noqa: SLF001
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
    trio_run._r.seed(schedule)  # noqa: SLF001
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = was  # noqa: SLF001
        trio_run._r.setstate(state)  # noqa: SLF001
