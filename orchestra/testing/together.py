"""Together: several runs of several callers in one simulation, in virtual time.

What policies do between callers (limits, budgets, a cache, coalescing) shows only where runs
meet: they are in one engine, and each starts at its own moment.
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
from orchestra.events import Event
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.wrapping import refuse_others
from orchestra.testing import valid
from orchestra.testing.pace import FAR_S, JUMPS
from orchestra.testing.playing.reset import forget_earlier_runs
from orchestra.testing.simulate import Ended, Plans, Simulation, played, run_ids, to_the_end
from orchestra.testing.timeline import hypothesis_notes, timeline
from orchestra.testing.virtual import in_jumps
from orchestra.testing.world import World

__all__ = ["Start", "simulate_all"]

_LATEST_S = FAR_S / 4  # a run that begins here has as long to go as one of `simulate`


def _early(instance: object, field: valid.Field, value: float | None) -> None:
    valid.maybe_moment(instance, field, value)
    if value is None or value > _LATEST_S:
        raise ValueError(
            f"Start({field.name}={value!r:.80}): it is when the run starts, in seconds from the "
            f"beginning, 0 to {_LATEST_S:g}; what is later is taken for what never comes"
        )


@attrs.frozen(repr=False)
class Start:
    """One run of several: its pipeline and inputs, whose it is, and when it starts."""

    pipeline: Pipeline[..., Any]
    inputs: Mapping[str, object] = attrs.field(validator=valid.by_name)
    caller: Caller = attrs.field(default=Caller(), validator=valid.caller)
    at_s: float = attrs.field(default=0.0, validator=_early, kw_only=True)
    """When it starts, in virtual seconds."""
    cancel_at_s: float | None = attrs.field(
        default=None, validator=valid.maybe_moment, kw_only=True
    )
    """Cancel the run this long after its own start."""

    def __attrs_post_init__(self) -> None:
        refuse_others(self.pipeline)

    def __repr__(self) -> str:
        """As it is written, without what is as by default."""
        said = [self.pipeline.name, repr(self.inputs)]
        said += [repr(self.caller)] if self.caller != Caller() else []
        said += [f"at_s={self.at_s!r}"] if self.at_s else []
        said += [f"cancel_at_s={self.cancel_at_s!r}"] if self.cancel_at_s is not None else []
        return f"Start({', '.join(said)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As `repr`; by itself Hypothesis prints every field."""
        del cycle
        printer.text(repr(self))


def simulate_all(starts: Iterable[Start], world: World = World(), /) -> list[Simulation[Any]]:
    """Several runs in one world and one engine, in virtual time: what each did, in this order.

    Each starts at its own moment; of those that start at the same, the schedule says which is
    first. A script is for the steps of that name in all pipelines that have one. Turns of a
    `ScriptedTurns` are given in the order in which the runs ask. `tasks_left` and `left`, the
    same in each, are what was there when all had ended.

    Equal worlds and starts give equal events. Under Hypothesis, a failing example tells the events
    of all runs by the moment, each line with its run's place in the list.

    Raises:
        RunError, CheckError, DefinitionError, InputError, HangError: as of `simulate`.
        DefinitionError: the world has a `caller` or `cancel_at_s`, which are each run's own here.
        LimitExceededError: more are in flight at once than `World(limits=Limits(runs=...))` lets.
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
        lambda: timeline(_by_moment(listed, found)),
    )
    return found


def _refuse_what_is_each_ones(starts: Sequence[object], world: World) -> None:
    for each in starts:
        if not isinstance(each, Start):
            raise DefinitionError(
                f"simulate_all([{each!r:.80}, ...], ...): it starts each with a `Start`; write "
                "simulate_all([Start(pipeline, {'question': 'Why?'}, caller)], World(...))"
            )
    for name in ("caller", "cancel_at_s"):
        if (value := getattr(world, name)) != getattr(World(), name):
            raise DefinitionError(
                f"simulate_all(..., World({name}={value!r:.80})): of several runs each has its "
                f"own; write Start(..., {name}={value!r:.80})"
            )


async def _run(starts: Sequence[Start], world: World, engine: Engine, plans: Plans) -> list[Ended]:
    """Each run when it has ended, in the order of the list."""
    ended: dict[int, Ended] = {}
    ids = run_ids(world, len(starts))
    failed: list[Exception] = []

    async def one(place: int, start: Start) -> None:
        await trio.sleep_until(start.at_s)
        own = attrs.evolve(world, caller=start.caller, cancel_at_s=start.cancel_at_s)
        plan, run_id = plans[start.pipeline], ids[place]
        try:
            run = engine.start(plan, start.inputs, caller=start.caller, run_id=run_id)
            ended[place] = run, own, await to_the_end(run, own)
        except Exception as error:  # noqa: BLE001 - the first of several is raised, and no group
            failed.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for place, start in enumerate(starts):
            nursery.start_soon(one, place, start)
    if failed:
        raise failed[0]
    return [ended[place] for place in range(len(starts))]


def _by_moment(starts: Sequence[Start], runs: Sequence[Simulation[Any]]) -> list[Event]:
    """The events of all of them, as if of one run, numbered by the places of their runs."""
    moved = [
        [attrs.evolve(event, seq=place, at_s=start.at_s + event.at_s) for event in run.events]
        for place, (start, run) in enumerate(zip(starts, runs, strict=True))
    ]
    return list(merge(*moved, key=lambda event: event.at_s))
