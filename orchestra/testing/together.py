"""Together: several runs of several callers in one simulation, in virtual time.

Effects of policies between callers (limits, budgets, a cache, coalescing) appear only where
runs meet: all runs are in one engine, and each starts at its own time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from heapq import merge
from typing import Any

import attrs
import trio

from orchestra.accounts import Caller
from orchestra.engine.engine import Engine
from orchestra.errors import DefinitionError
from orchestra.eventclass import not_default
from orchestra.events import Event
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.wrapping import refuse_others
from orchestra.groups import in_order
from orchestra.testing import valid
from orchestra.testing.pace import FAR_S, JUMPS
from orchestra.testing.playing.reset import forget_earlier_runs
from orchestra.testing.simulate import Ended, Plans, Simulation, played, run_ids, to_the_end
from orchestra.testing.timeline import hypothesis_notes, timeline
from orchestra.testing.virtual import in_jumps
from orchestra.testing.world import World

__all__ = ["Start", "simulate_all"]

_LATEST_S = FAR_S / 4  # a run that starts then may still last as long as in `simulate`


def _early(instance: object, field: valid.Field, value: float | None) -> None:
    valid.maybe_moment(instance, field, value)
    if value is None or value > _LATEST_S:
        raise ValueError(
            f"Start({field.name}={value!r:.80}): it must be the start time of the run, in seconds "
            f"from the beginning, 0 to {_LATEST_S:g}; a later one counts as never"
        )


@attrs.frozen(repr=False)
class Start:
    """One of several runs: its pipeline, inputs, caller, and start time."""

    pipeline: Pipeline[..., Any]
    inputs: Mapping[str, object] = attrs.field(validator=valid.by_name)
    caller: Caller = attrs.field(default=Caller(), validator=valid.caller)
    at_s: float = attrs.field(default=0.0, validator=_early, kw_only=True)
    """The start time, in virtual seconds."""
    cancel_at_s: float | None = attrs.field(
        default=None, validator=valid.maybe_moment, kw_only=True
    )
    """Cancel the run this long after its own start."""

    def __attrs_post_init__(self) -> None:
        refuse_others(self.pipeline)

    def __repr__(self) -> str:
        """As source code, without default values."""
        written = [self.pipeline.name, repr(self.inputs)]
        written += [repr(self.caller)] if self.caller != Caller() else []
        written += not_default(self, "at_s", "cancel_at_s")
        return f"Start({', '.join(written)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Like `repr`; otherwise Hypothesis would print every field."""
        del cycle
        printer.text(repr(self))


def simulate_all(starts: Iterable[Start], world: World = World(), /) -> list[Simulation[Any]]:
    """Simulate several runs in one world and one engine, in virtual time, in this order.

    Each starts at its own time; among equal times, the schedule decides the order. A script
    applies to the steps of that name in all pipelines. Turns of a `ScriptedTurns` are given in
    the order of the calls. `tasks_left` and `left` are the same in each simulation: the tasks that
    existed when all runs had ended.

    Equal worlds and starts give equal events. For a failing example, Hypothesis prints the events
    of all runs in order of time, each line with its run's position in the list.

    Raises:
        RunError, CheckError, DefinitionError, InputError, HangError: as `simulate`.
        DefinitionError: the world has a `caller` or `cancel_at_s`, which each `Start` has here.
        LimitExceededError: more runs are in flight than `World(limits=Limits(runs=...))` allows.
    """
    listed = tuple(starts)
    _refuse_what_is_each_ones(listed, world)
    pipelines = list(dict.fromkeys(start.pipeline for start in listed))
    forget_earlier_runs(world)

    run_all = partial(_run, listed, world)
    jumps = JUMPS * max(1, len(listed))
    found = in_jumps(partial(played, world, pipelines, run_all), world.schedule, jumps)
    hypothesis_notes(
        "the runs by their places in the list, in virtual seconds:",
        lambda: timeline(_by_moment(listed, found), several=True),
        [
            (each.pipeline.name, run.error, run.events)
            for each, run in zip(listed, found, strict=True)
        ],
    )
    return found


def _refuse_what_is_each_ones(starts: Sequence[object], world: World) -> None:
    for each in starts:
        if not isinstance(each, Start):
            raise DefinitionError(
                f"simulate_all([{each!r:.80}, ...], ...): each run needs a `Start`; write "
                "simulate_all([Start(pipeline, {'question': 'Why?'}, caller)], World(...))"
            )
    for name in ("caller", "cancel_at_s"):
        if (value := getattr(world, name)) != getattr(World(), name):
            raise DefinitionError(
                f"simulate_all(..., World({name}={value!r:.80})): each run has its own; "
                f"write Start(..., {name}={value!r:.80})"
            )


async def _run(starts: Sequence[Start], world: World, engine: Engine, plans: Plans) -> list[Ended]:
    """Run all to their ends, and return them in the order of the list."""
    ids = run_ids(world, len(starts))

    async def one(place: int) -> Ended:
        start = starts[place]
        await trio.sleep_until(start.at_s)
        own = attrs.evolve(world, caller=start.caller, cancel_at_s=start.cancel_at_s)
        plan, run_id = plans[start.pipeline], ids[place]
        run = engine.start(plan, start.inputs, caller=start.caller, run_id=run_id)
        return run, own, await to_the_end(run, own)

    return await in_order(one, range(len(starts)), len(starts))


def _by_moment(starts: Sequence[Start], runs: Sequence[Simulation[Any]]) -> list[Event]:
    """The events of all runs in one list, numbered by the positions of their runs."""
    moved = [
        [attrs.evolve(event, seq=place, at_s=start.at_s + event.at_s) for event in run.events]
        for place, (start, run) in enumerate(zip(starts, runs, strict=True))
    ]
    return list(merge(*moved, key=lambda event: event.at_s))
