"""Laws of time: when steps start, how long they last, and that cancelled steps stop at once.

Virtual time is exact, so a cancelled run ends at the moment of its cancellation. A step that
shields itself from cancellation breaks this law: its caller has to wait.
"""

from __future__ import annotations

from typing import cast

from orchestra.accounts import Usage
from orchestra.compiler.blocks.slots import Operation
from orchestra.errors import DeadlineError
from orchestra.events import (
    ArmCommitted,
    ArmFailed,
    Event,
    RunFailed,
    RunFinished,
    StepStarted,
)
from orchestra.graph.control.agreeing import Quorum
from orchestra.graph.nodes import Call, Node
from orchestra.testing.log import Activation, Log

ROUNDING_S = 1e-9
"""The rounding error allowed for sums of times, such as a `Start`'s and a moment of its run."""


def starts_when_its_last_input_exists(log: Log) -> None:
    """A step starts at the moment its last input exists, and never before."""
    for activation, path, operation in log.operations():
        begun = log.started(path)
        if begun is not None:
            _starts_in_time(log, activation, operation, begun)


def _starts_in_time(
    log: Log, activation: Activation, operation: Operation[Node], begun: StepStarted
) -> None:
    inputs: list[Event] = []
    beside = operation.region == 0 and not activation.prefix  # its region is the run
    for path, reader in activation.operations.items():
        streams = operation.slot in reader.lanes
        if not streams and operation.slot not in reader.values:
            continue
        there = log.started(path) if streams else log.finished(path)
        assert there is not None, f"{begun.step} began without {path}"
        beside = beside or reader.region == operation.region
        inputs.append(there)
    at_s = max((event.at_s for event in inputs), default=0.0)
    assert all(event.seq < begun.seq for event in inputs), f"{begun.step} began before its inputs"
    if beside:  # its region had started, so it waited only for its inputs
        assert begun.at_s == at_s, f"{begun.step} began late"


def times_add_up(log: Log) -> None:
    """Durations are from start to end; the run's timings and usage are those of its steps."""
    timings = {}
    for path in log.lives:
        begun, done = log.started(path), log.finished(path)
        if begun is None or done is None:
            continue
        assert done.duration_s == done.at_s - begun.at_s, f"{path}: {done.duration_s}"
        assert (done.first_chunk_s is None) == (not done.chunks), f"{path}: {done.chunks}"
        first_s = done.first_chunk_s
        assert first_s is None or 0 <= first_s <= done.duration_s, f"{path}: {first_s}"
        if path in log.activations[0].operations:
            timings[path] = done.duration_s
    last = log.events[-1]
    if isinstance(last, RunFinished):
        assert last.timings_s == timings, f"the run has {last.timings_s}, its steps {timings}"
    _usage_adds_up(log)


def _usage_adds_up(log: Log) -> None:
    """The usage of a run is that of its steps, and what was reported after their ends."""
    usages = [each for life in log.lives.values() if (each := getattr(life[-1], "usage", None))]
    whole = getattr(log.events[-1], "usage", None) or Usage()
    for name in ("input_tokens", "output_tokens", "cost_nanodollars"):
        least, most = sum(getattr(each, name) for each in usages), getattr(whole, name)
        assert least <= most, f"its steps have {least} {name}, but the run {most}"


def a_cancelled_run_ends_at_once(log: Log) -> None:
    """A run does not go on after the moment at which its world cancels it."""
    moment_s, last = log.simulation.world.cancel_at_s, log.events[-1]
    if moment_s is not None:
        went_on = f"it was cancelled at {moment_s:g} s, and went on until {last.at_s:g} s"
        assert last.at_s <= moment_s + ROUNDING_S, "\n  ".join((went_on, *_late(log, moment_s)))


def a_run_ends_by_its_deadline(log: Log) -> None:
    """A run does not go on after its deadline, and does not fail with a DeadlineError earlier."""
    simulation, last = log.simulation, log.events[-1]
    deadline_s = simulation.plan.pipeline.deadline_s or simulation.world.limits.deadline_s
    error = simulation.error
    if deadline_s is None:
        return
    went_on = f"its deadline_s is {deadline_s:g}, and it went on until {last.at_s:g} s"
    assert last.at_s <= deadline_s + ROUNDING_S, "\n  ".join((went_on, *_late(log, deadline_s)))
    own = isinstance(last, RunFailed) and last.step is None  # not that of a run inside a step
    if own and isinstance(error, DeadlineError) and error.limit == "deadline_s":
        early = f"its deadline_s is {deadline_s:g}; it ended before"
        assert last.at_s > deadline_s - ROUNDING_S, early


def a_step_ends_by_its_timeout(log: Log) -> None:
    """A step does not go on after its `timeout_s`, which covers all attempts and the waits."""
    for _, path, operation in log.operations(Call):
        begun, timeout_s = log.started(path), cast("Call", operation.node).policy.timeout_s
        if begun is not None and timeout_s is not None:
            lasted_s = log.lives[path][-1].at_s - begun.at_s
            went_on = f"{path} has timeout_s={timeout_s:g}, and went on for {lasted_s:g} s"
            assert lasted_s <= timeout_s + ROUNDING_S, went_on


def a_step_outlives_its_children(log: Log) -> None:
    """A pipeline that a step runs begins after the step starts, and ends before the step ends."""
    for _, path, _ in log.operations(Call):
        for inner in (event for life in log.items(path).values() for event in life):
            begun, end = log.lives[path][0], log.lives[path][-1]
            assert begun.seq < inner.seq < end.seq, f"{inner} is outside the time of {path}"


def _late(log: Log, moment_s: float) -> list[str]:
    """The steps that ended later than this time."""
    return [
        f"{path} ended at {life[-1].at_s:g} s"
        for path, life in log.lives.items()
        if life[-1].at_s > moment_s and isinstance(life[0], StepStarted)
    ]


def who_disagrees_is_told(log: Log) -> None:
    """Before the moment of a quorum, fewer arms than it needs have a value and have not failed."""
    for activation, path, operation in log.operations(Quorum):
        node = cast("Quorum", operation.node)
        for commit in log.events_about(path, ArmCommitted):
            failed = {failure.arm for failure in log.events_about(path, ArmFailed)}
            there = {
                arm
                for arm, region in zip(node.arm_names, operation.regions, strict=True)
                if _made_before(log, activation, region, commit.at_s - ROUNDING_S)
            }
            agree = there - failed
            assert len(agree) < node.count, f"{path}: {agree} agreed before {commit}"


def _made_before(log: Log, activation: Activation, region: int, at_s: float) -> bool:
    """Whether a step of the region made its result before this time."""
    slot = activation.block.regions[region].source.slot
    own = any(each.slot == slot for each in activation.inside(region).values())
    return own and log.there_s(activation, region) < at_s
