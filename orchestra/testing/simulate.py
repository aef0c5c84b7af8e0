"""Simulate: one run of a pipeline in virtual time, in about a millisecond.

A run with a thirty-second outage takes no longer than one without. The world determines the
order in which ready tasks run: see `virtual`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from random import Random
from typing import Any, AnyStr, Generic, ParamSpec, TypeAlias, TypeVar, cast, overload

import attrs
import trio
import trio.testing

from orchestra.compiler.checks.tools import with_tools
from orchestra.compiler.plan import Plan, plan
from orchestra.engine.engine import Engine, open_engine
from orchestra.engine.inputs import by_name
from orchestra.engine.run import Run, T_co
from orchestra.errors import CheckError, InputError
from orchestra.events import Event, StepCancelled, StepFailed, StepFinished, StepStarted
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.wrapping import refuse_others
from orchestra.problem import Problem
from orchestra.protocols import Stream
from orchestra.testing.pace import JUMPS
from orchestra.testing.playing.hedged import teach_hedges
from orchestra.testing.playing.playing import rescript, rescripted
from orchestra.testing.playing.reset import forget_earlier_runs, update_clocks
from orchestra.testing.playing.task_tree import all_tasks, leaf_tasks, tasks_since, tasks_with_lines
from orchestra.testing.timeline import hypothesis_notes, timeline
from orchestra.testing.virtual import FAR_S, HangError, in_jumps
from orchestra.testing.world import World

__all__ = ["HangError", "Simulation", "simulate"]

P = ParamSpec("P")
T = TypeVar("T")

Plans: TypeAlias = Mapping[Pipeline[..., Any], Plan]
Ended: TypeAlias = tuple[Run, World, float]
"""A run that has ended, its world, and the virtual seconds that it took."""

_EVENTS = 10_000_000  # more than any simulated run has
_SEAMS = ("model", "embedder", "store")
_LONG_S = FAR_S / 4  # a longer run hangs, and so does a longer end of a cancelled run


@attrs.frozen
class Simulation(Generic[T_co]):
    """The record of one simulated run."""

    plan: Plan = attrs.field(repr=False)
    world: World
    events: tuple[Event, ...] = attrs.field(repr=lambda events: f"<{len(events)} events>")
    value: T_co | None
    """The result; None if there is none."""
    error: Exception | None
    """The error that `run()` would raise; None after a success."""
    lasted_s: float
    """Virtual seconds from its start to its last event."""
    tasks_left: int
    """How many tasks still existed after its end. More than 0 is a bug."""
    left: tuple[str, ...] = attrs.field(repr=False)
    """The name and line of each of these tasks."""
    lane_peak: int
    """The largest number of chunks that waited on one edge."""
    children: tuple[Plan, ...] = attrs.field(default=(), repr=False)
    """The plans of the pipelines that steps have run."""

    def result(self) -> T_co:
        """The result, as `run()` would return it.

        Raises:
            Exception: its `error`, if there is one.
        """
        if self.error is not None:
            raise self.error
        return cast("T_co", self.value)


@overload
def simulate(  # type: ignore[overload-overlap]
    pipeline: Pipeline[P, Stream[AnyStr]], world: World = ..., /, *args: P.args, **inputs: P.kwargs
) -> Simulation[AnyStr]: ...
@overload
def simulate(
    pipeline: Pipeline[P, Stream[T]], world: World = ..., /, *args: P.args, **inputs: P.kwargs
) -> Simulation[list[T]]: ...
@overload
def simulate(
    pipeline: Pipeline[P, T], world: World = ..., /, *args: P.args, **inputs: P.kwargs
) -> Simulation[T]: ...
def simulate(
    pipeline: Pipeline[..., Any], world: World = World(), /, *args: Any, **inputs: Any
) -> Simulation[Any]:
    """Run a pipeline in a world, by default a plain one, in virtual time.

    Inputs are given by name, or by position after the world. The journal keeps every event,
    whatever the world's `journal_events`, since laws are about all of them. While a step's
    thread runs, the whole run stands still.

    Equal worlds give equal events. For a failing example, Hypothesis prints the events.

    Raises:
        RunError: Trio is running here: simulate in a plain function.
        CheckError: the pipeline has problems, or names what the world does not have.
        DefinitionError: the first argument is not a pipeline; or a script, or times of a hedged
            race, match nothing in it.
        InputError: an input is missing, unknown, or of the wrong type.
        HangError: the run would never end.
    """
    refuse_others(pipeline)
    _refuse_no_world(pipeline, world, inputs)
    forget_earlier_runs(world)

    async def one(engine: Engine, plans: Plans) -> list[Ended]:
        given = by_name(pipeline, args, inputs)
        (run_id,) = run_ids(world, 1)
        run = engine.start(plans[pipeline], given, caller=world.caller, run_id=run_id)
        return [(run, world, await to_the_end(run, world))]

    (simulation,) = in_jumps(partial(played, world, [pipeline], one), world.schedule, JUMPS)
    hypothesis_notes(
        f"the run of {pipeline.name!r}, in virtual seconds:",
        lambda: timeline(simulation.events),
        [(pipeline.name, simulation.error, simulation.events)],
    )
    return simulation


def _refuse_no_world(
    pipeline: Pipeline[..., Any], world: object, inputs: Mapping[str, object]
) -> None:
    if not isinstance(world, World):
        raise InputError(
            f"simulate({pipeline.name}, {world!r:.80}, ...): the argument after the pipeline "
            f"must be a World; write simulate({pipeline.name}, World(), {world!r:.80}, ...), or "
            "pass the inputs by name"
        )
    if isinstance(inputs.get("world"), World) and "world" not in pipeline.inputs:
        raise InputError(
            f"simulate({pipeline.name}, world=...): pipeline {pipeline.name!r} has no input "
            "'world', and keywords are for inputs; pass the world after the pipeline: "
            f"simulate({pipeline.name}, World(...), ...)",
            field="world",
        )


def _planned(pipeline: Pipeline[..., Any], *names: tuple[str, ...]) -> Plan:
    """The plan. Raises CheckError."""
    found = _plan_or_problems(pipeline, *names)
    if isinstance(found, Plan):
        return found
    raise CheckError(pipeline.name, found)


@lru_cache(maxsize=256)
def _plan_or_problems(
    pipeline: Pipeline[..., Any], *names: tuple[str, ...]
) -> Plan | tuple[Problem, ...]:
    """The plan, cached: a test simulates one pipeline often, and planning is half of each run.

    Problems are cached, too: Hypothesis repeats an example that fails some hundred times.
    """
    models, embedders, stores = (dict[str, None].fromkeys(each) for each in names)
    try:
        return plan(pipeline, World(models=models, embedders=embedders, stores=stores))
    except CheckError as error:
        return error.problems


async def played(
    world: World,
    pipelines: Sequence[Pipeline[..., Any]],
    run_all: Callable[[Engine, Plans], Awaitable[list[Ended]]],
) -> list[Simulation[Any]]:
    """Run `run_all` in an engine of this world; return all simulations. Raises as `simulate`."""
    limits = attrs.evolve(world.limits, journal_events=_EVENTS)
    async with open_engine(world.bound(), limits=limits, jitter=world.draw()) as engine:
        names = [tuple(world.names(seam)) for seam in _SEAMS]
        given = (*pipelines, *world.children)
        tools = (tool for each in given for tool in with_tools(each))
        listed = dict.fromkeys((*given, *tools))
        plans = rescript([_planned(each, *names) for each in listed], world.steps)
        scripted = dict(zip(listed, plans, strict=True))

        def made(pipeline: Pipeline[..., Any], _: object) -> Plan:
            known = scripted.get(pipeline)
            return known or rescripted(_planned(pipeline, *names), world.steps)

        engine.shared.plans.make = made
        engine.shared.kept.instead = world.kept
        teach_hedges(engine.shared.hedges, plans, world.hedged)
        before = set(all_tasks())
        update_clocks(world)
        ended = await run_all(engine, scripted)
        update_clocks(world)
        left = await _left_in(engine, before)
        children = engine.shared.plans.kept
        return [await _simulation_of(*each, left, children) for each in ended]


def run_ids(world: World, count: int) -> list[str]:
    """Ids for `count` runs in this world; equal worlds give equal ids."""
    draw = Random(world.schedule)  # noqa: S311 - no secret
    return [f"{draw.getrandbits(128):032x}" for _ in range(count)]


async def to_the_end(run: Run, world: World) -> float:
    """Wait until a run has ended, and cancel it when the world says so; returns its duration."""
    began_s = trio.current_time()
    if world.cancel_at_s is not None:
        with trio.move_on_after(world.cancel_at_s):
            await run.wait_ended()
            return trio.current_time() - began_s
        run.cancel("the world said so")
    with trio.move_on_after(_LONG_S):
        await run.wait_ended()
        return trio.current_time() - began_s
    raise HangError(_hanging(run))


async def _left_in(engine: Engine, before: Container[trio.lowlevel.Task]) -> tuple[str, ...]:
    """Close the objects that runs keep open, and return the tasks that are left behind."""
    await engine.wait_idle()
    engine.shared.kept.close()
    await engine.shared.kept.wait_closed()
    await trio.testing.wait_all_tasks_blocked()
    return tasks_since(before)


async def _simulation_of(
    run: Run, world: World, lasted_s: float, left: tuple[str, ...], children: tuple[Plan, ...]
) -> Simulation[Any]:
    """The simulation of an ended run."""
    error, events = run.error, run.journal.kept
    value = await run.result() if error is None else None
    return Simulation(
        run.plan, world, events, value, error, lasted_s, len(left), left, run.lane_peak, children
    )


def _hanging(run: Run) -> str:
    going: dict[str, str] = {}
    for event in run.journal.kept:
        if isinstance(event, StepStarted):
            going[event.step] = ""
        elif isinstance(event, StepFinished | StepFailed | StepCancelled):
            going.pop(event.step, None)
    lines = [
        f"  {line}" for task in all_tasks() if task.name in going for line in _task_lines(task)
    ]
    return "\n".join(
        (
            f"run of {run.pipeline!r} still waits in the far future; these steps go on:",
            *lines,
            "its last events:",
            timeline(run.journal.kept[-20:]),
        )
    )


def _task_lines(task: trio.lowlevel.Task) -> Iterator[str]:
    """A running step and its own child tasks, each with its line."""
    yield from tasks_with_lines([task])
    yield from (
        f"  {each}"
        for each in tasks_with_lines([each for each in leaf_tasks(task) if each is not task])
    )
