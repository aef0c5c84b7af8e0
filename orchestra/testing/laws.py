"""Laws: what holds of every run, whatever the pipeline and the world.

`check_laws(simulation)` checks all of them; each is a function of its own, so that a
failure names the law. They read the journal and the plan, and nothing else.
"""

from __future__ import annotations

from orchestra.compiler.blocks import Block, Operation
from orchestra.engine.output import join
from orchestra.events import (
    TERMINAL,
    ArmCommitted,
    Delta,
    RunFinished,
    RunStarted,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
)
from orchestra.graph.nodes import Fallback, Race
from orchestra.testing.simulate import Simulation

ENDS = (StepFinished, StepFailed, StepCancelled)


def check_laws(simulation: Simulation) -> None:
    """Every law of this file.

    Raises:
        AssertionError: a law is broken; the message says which, and shows the journal.
    """
    for law in LAWS:
        try:
            law(simulation)
        except AssertionError as error:
            log = "\n".join(map(str, simulation.events))
            raise AssertionError(f"{law.__name__}: {law.__doc__}\n{error}\n{log}") from None


def numbered_without_gaps(simulation: Simulation) -> None:
    """The events count from 1 without a gap, and time never goes back."""
    assert [event.seq for event in simulation.events] == list(range(1, len(simulation.events) + 1))
    times = [event.at_s for event in simulation.events]
    assert times == sorted(times)


def one_beginning_one_end(simulation: Simulation) -> None:
    """The first event and no other begins the run; the last and no other ends it."""
    begins = [isinstance(event, RunStarted) for event in simulation.events]
    ends = [isinstance(event, TERMINAL) for event in simulation.events]
    assert begins == [True] + [False] * (len(begins) - 1)
    assert ends == [False] * (len(ends) - 1) + [True]


def every_step_has_one_life(simulation: Simulation) -> None:
    """A step is skipped, or it starts and then finishes, fails or is cancelled; once."""
    lives: dict[str, list[str]] = {}
    for event in simulation.events:
        if isinstance(event, StepStarted | StepSkipped | StepFinished | StepFailed | StepCancelled):
            lives.setdefault(event.step, []).append(type(event).__name__)
    for step, life in lives.items():
        started = life[0] == "StepStarted" and life[1:] in [[end.__name__] for end in ENDS]
        assert started or life == ["StepSkipped"], f"{step}: {life}"
    for operation in _operations(simulation.plan.block):
        assert operation.name in lives, f"{operation.name} was never heard of"


def starts_when_its_last_input_exists(simulation: Simulation) -> None:
    """A step starts at the moment its last input exists, and never before."""
    started, there = _times(simulation)
    for operation in _operations(simulation.plan.block):
        begun = started.get(operation.name)
        if begun is None:
            continue
        block = simulation.plan.block
        inputs = [0]
        for reader in _operations(block):
            if operation.slot in (*reader.values, *reader.lanes):
                ready = started if operation.slot in reader.lanes else there
                assert reader.name in ready, f"{operation.name} began without {reader.name}"
                inputs.append(ready[reader.name])
        region = block.regions[operation.region]
        if region.inside is None:  # what starts an arm is its choice, not an input
            at_s = (
                max(simulation.events[seq - 1].at_s for seq in inputs if seq) if any(inputs) else 0
            )
            assert simulation.events[begun - 1].at_s == at_s, f"{operation.name} began late"
        assert begun > max(inputs), f"{operation.name} began before its inputs"


def the_result_is_the_deltas(simulation: Simulation) -> None:
    """The result of a run that streams is its deltas, joined; without a result it is not there."""
    last = simulation.events[-1]
    assert isinstance(last, RunFinished) == (simulation.error is None)
    if isinstance(last, RunFinished) and simulation.plan.streams:
        chunks = [event.chunk for event in simulation.events if isinstance(event, Delta)]
        annotation = simulation.plan.block.regions[0].source.chunk
        assert last.result == join(chunks, annotation) == simulation.value


def no_lane_overflows(simulation: Simulation) -> None:
    """No edge ever holds more chunks than its bound."""
    assert simulation.lane_peak <= simulation.world.limits.lane_chunks


def nothing_is_left(simulation: Simulation) -> None:
    """After a run there is none of its tasks."""
    assert simulation.tasks_left == 0, f"{simulation.tasks_left} tasks left"


def losers_are_stopped(simulation: Simulation) -> None:
    """Once a race has committed, no step of another arm starts, and none goes on."""
    block = simulation.plan.block
    for event in simulation.events:
        if not isinstance(event, ArmCommitted):
            continue
        choice = next((o for o in _operations(block) if o.name == event.step), None)
        if choice is None or not isinstance(choice.node, Race | Fallback):
            continue
        winner = choice.node.arm_names.index(event.arm)
        losing = {
            name
            for arm, region in enumerate(choice.regions)
            if arm != winner
            for name in _in_region(block, region)
        }
        for later in simulation.events[event.seq :]:
            if isinstance(later, StepStarted):
                assert later.step not in losing, f"{later.step} started after {event}"
            if isinstance(later, StepCancelled | StepFinished) and later.step in losing:
                assert later.at_s == event.at_s, f"{later.step} went on after {event}"


LAWS = (
    numbered_without_gaps,
    one_beginning_one_end,
    every_step_has_one_life,
    starts_when_its_last_input_exists,
    the_result_is_the_deltas,
    no_lane_overflows,
    nothing_is_left,
    losers_are_stopped,
)


def _operations(block: Block) -> list[Operation]:
    return [operation for operation in block.operations if operation is not None]


def _in_region(block: Block, region: int) -> list[str]:
    """The steps of a region and of those in it."""
    inside = {region}
    growing = True
    while growing:
        more = {
            index
            for index, plan in enumerate(block.regions)
            if plan.inside in inside and index not in inside
        }
        growing = bool(more)
        inside |= more
    return [operation.name for operation in _operations(block) if operation.region in inside]


def _times(simulation: Simulation) -> tuple[dict[str, int], dict[str, int]]:
    """The number of the event that started, and finished, each step."""
    started = {e.step: e.seq for e in simulation.events if isinstance(e, StepStarted)}
    finished = {e.step: e.seq for e in simulation.events if isinstance(e, StepFinished)}
    return started, finished
