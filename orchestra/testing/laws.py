"""Laws: statements that are true of every run, whatever the pipeline and the world.

`check_laws(simulation)` checks all of them. Each is a function of its own, so that a failure names
the law. They read only the journal and the plan. Virtual time is exact: an event that must follow
at once has the same time. So a step that shields itself from cancellation breaks some laws.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import cast

from orchestra.annotations.shapes import same
from orchestra.compiler.blocks.slots import Operation
from orchestra.engine.lanes.output import join
from orchestra.errors import RunCancelledError
from orchestra.events import (
    TERMINAL,
    ArmCommitted,
    ArmFailed,
    ArmRestarted,
    Delta,
    Event,
    ItemFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepRetried,
    StepSkipped,
    StepStarted,
)
from orchestra.graph.calls.raised import name_and_message
from orchestra.graph.control.agreeing import Comparison, Quorum, Survivors
from orchestra.graph.nodes import Call, Choice, Collect, Each, Fallback, Node, Race, Route
from orchestra.testing import timing
from orchestra.testing.log import Activation, Log
from orchestra.testing.simulate import Simulation
from orchestra.testing.timeline import in_hypothesis, timeline

ARMS = (ArmCommitted, ArmFailed, ArmRestarted)
ENDS = (StepFinished, StepFailed, StepCancelled)


def check_laws(simulation: Simulation) -> None:
    """Check every law of this file.

    Raises:
        AssertionError: a law is broken; the message says which, and shows the journal.
    """
    log = Log(simulation)
    for law in LAWS:
        try:
            law(log)
        except AssertionError as error:
            shown = "" if in_hypothesis() else f"\n{timeline(simulation.events)}"  # it prints them
            raise AssertionError(f"{law.__name__}: {law.__doc__}\n{error}{shown}") from None


def numbered_without_gaps(log: Log) -> None:
    """The events are numbered from 1 without gaps, and time never goes back."""
    for number, event in enumerate(log.events, 1):
        assert event.seq == number, f"the event at position {number} has seq {event.seq}"
    for event, later in pairwise(log.events):
        assert event.at_s <= later.at_s, f"{later} is before {event}"
    last_s, lasted_s = log.events[-1].at_s, log.simulation.lasted_s
    assert last_s == lasted_s, f"the last event is at {last_s:g} s, but the run lasted {lasted_s:g}"


def one_beginning_one_end(log: Log) -> None:
    """Only the first event begins the run, and only the last event ends it."""
    begins = [event for event in log.events if isinstance(event, RunStarted)]
    ends = [event for event in log.events if isinstance(event, TERMINAL)]
    assert begins == [log.events[0]], f"the first event is {log.events[0]}; begins: {begins}"
    assert ends == [log.events[-1]], f"the last event is {log.events[-1]}; ends: {ends}"


def the_end_tells_the_outcome(log: Log) -> None:
    """The last event has the result or error of `run()`, and the step that raised the error."""
    last, error = log.events[-1], log.simulation.error
    match last:
        case RunFinished():
            assert error is None, f"it finished, but `run()` raises {error!r}"
            value = log.simulation.value
            assert same(last.result, value), f"it has {last.result!r}, but `run()` gives {value!r}"
        case RunCancelled():
            raised = f"it was cancelled ({last.reason}), but `run()` raises {error!r}"
            assert isinstance(error, RunCancelledError), raised
            assert error.reason == last.reason, raised
        case RunFailed():
            raised = f"it has {last.error}: {last.message}, but `run()` raises {error!r}"
            assert not isinstance(error, RunCancelledError | None), raised
            assert (last.error, last.message) == name_and_message(error), raised
            assert last.step is None or last.step == _innermost(log, last), "another step raised it"
        case _:
            raise AssertionError(f"{last} does not end a run")


def _innermost(log: Log, end: RunFailed) -> str | None:
    """The innermost step that failed with the error of a run."""
    failed = [
        event.step
        for event in log.events
        if isinstance(event, StepFailed)
        and (event.error, event.message, event.at_s) == (end.error, end.message, end.at_s)
    ]
    named = [e for e in log.lives.get(str(end.step), ()) if isinstance(e, StepFailed)]
    if (end.error, end.message, end.where) not in [(e.error, e.message, e.where) for e in named]:
        return None
    inside = (path for path in log.inside(str(end.step)) if path in failed)
    return next(inside, end.step)


def every_step_has_one_life(log: Log) -> None:
    """Each step is skipped; or it starts once, and then finishes, fails or is cancelled once."""
    known = {path for _, path, _ in log.operations()}
    for path in known:
        assert path in log.lives, f"{path} has no events"
    for path, life in log.lives.items():
        assert path in known, f"{path} is not a step"
        kinds = [type(event) for event in life if not isinstance(event, StepRetried)]
        assert isinstance(life[-1], ENDS) or len(life) == 1, f"{path}: {life}"
        started = kinds[0] is StepStarted and kinds[1:] in [[end] for end in ENDS]
        assert started or kinds == [StepSkipped], f"{path}: {life}"
        assert all(getattr(event, "reason", "why") for event in life), f"{path}: no reason"


def the_result_is_the_deltas(log: Log) -> None:
    """The result of a run that streams is its deltas since the last restart, joined."""
    last, plan = log.events[-1], log.simulation.plan
    void = max((e.seq for e in log.events if isinstance(e, ArmRestarted)), default=0)
    chunks = [e.chunk for e in log.events if isinstance(e, Delta) and e.seq > void]
    if not plan.streams:
        assert not chunks, f"it does not stream, but has deltas {chunks!r:.200}"
    elif isinstance(last, RunFinished):
        joined = join(chunks, plan.block.regions[0].source.chunk)
        assert last.result == joined, f"its result is {last.result!r}, but its deltas {joined!r}"


def a_cut_stream_never_looks_complete(log: Log) -> None:
    """A step that reads a whole stream finishes only if the stream has finished."""
    for activation, path, reader in log.operations(Collect, Each):
        for source, operation in activation.operations.items():
            if reader.slot in operation.lanes and log.finished(path) is not None:
                assert log.finished(source) is not None, f"{path} finished, but {source} did not"


def no_lane_overflows(log: Log) -> None:
    """No edge ever holds more chunks than its limit, or than `output_chunks` if it may grow."""
    limits = log.simulation.world.limits
    grows = any(activation.block.rejoins for activation in log.activations)
    most = max(limits.lane_chunks, limits.output_chunks if grows else 0)
    held = log.simulation.lane_peak
    assert held <= most, f"{held} chunks waited on one edge, whose limit is {most}"


def nothing_is_left(log: Log) -> None:
    """When a run has ended, none of its tasks is left."""
    left = log.simulation.tasks_left
    assert left == 0, "\n  ".join((f"{left} tasks left:", *log.simulation.left))


def a_failure_stops_what_is_beside_it(log: Log) -> None:
    """Once a step has failed, no step of its region starts, and the running ones stop at once."""
    for activation, path, operation in log.operations():
        failure = log.lives[path][-1]
        if isinstance(failure, StepFailed):
            _stop_at(log, failure, activation.inside(operation.region), failure.step)


def losers_are_stopped(log: Log) -> None:
    """A race commits before it finishes; from then on no step of another arm starts or goes on."""
    for activation, path, operation in log.operations(Race, Fallback):
        commits = log.events_about(path, ArmCommitted)
        assert commits or log.finished(path) is None, f"{path} finished without a commit"
        if isinstance(operation.node, Fallback) and operation.node.restart:
            continue
        failures = log.events_about(path, ArmFailed)
        assert len(commits) <= 1, f"{path} committed twice"
        _each_fails_once(path, failures)
        for commit in commits:
            _is_last_and_whole(commit, failures)
            names = cast("Choice", operation.node).arm_names
            for name, region in zip(names, operation.regions, strict=True):
                if name != commit.arm:
                    _stop_at(log, commit, activation.inside(region), commit.arm)


def polls_stop_when_they_are_decided(log: Log) -> None:
    """Once a quorum is reached, or too many arms have failed, no step of any arm goes on."""
    for activation, path, operation in log.operations(Comparison):
        node = cast("Comparison", operation.node)
        needed = node.count if isinstance(node, Quorum) else cast("Survivors", node).least
        commits = log.events_about(path, ArmCommitted)
        failures = log.events_about(path, ArmFailed)
        _each_fails_once(path, failures)
        assert len(commits) <= isinstance(node, Quorum), f"{path} committed to {len(commits)}"
        for commit in commits:
            _is_last_and_whole(commit, failures)
        done = log.finished(path) is not None
        assert not done or commits or isinstance(node, Survivors), f"{path} has no winner"
        spare = len(node.arms) - needed
        assert not done or len(failures) <= spare, f"{path} finished with too few arms"
        lost = {node.arm_names[arm] for arm in log.without_value(activation, path, operation)}
        known = isinstance(node, Quorum) or lost <= {failure.arm for failure in failures}
        assert not done or known, f"{path} has no value of {lost}, but only {failures}"
        deciding: list[Event] = [*commits, *failures[spare : spare + 1]]
        for decided in deciding:
            for region in operation.regions:
                _stop_at(log, decided, activation.inside(region), f"{path} was decided")


def a_restart_is_told(log: Log) -> None:
    """A committed arm is replaced only after it failed; an `ArmRestarted` names the new arm."""
    for activation, path, operation in log.operations(Race, Fallback):
        events = [e for e in log.events if isinstance(e, ARMS) and e.step == path]
        open_, committed, due = "", False, ""
        for event in events:
            match event:
                case ArmCommitted(arm=arm):
                    assert not open_, f"{path} committed to {arm} and {open_}"
                    open_, due, committed = arm, arm if committed else "", not activation.prefix
                case ArmFailed(arm=arm):
                    assert open_ in {"", arm}, f"{arm} failed after the commit to {open_}"
                    open_ = ""
                case ArmRestarted(arm=arm):
                    assert arm == due, f"{path} restarted with {arm}"
                    due = ""
        restarts = isinstance(operation.node, Fallback) and operation.node.restart
        restarted = any(isinstance(event, ArmRestarted) for event in events)
        assert restarts or not restarted, f"{path} restarted, but may not"
        finished = isinstance(log.events[-1], RunFinished)
        assert not (due and finished), f"{path} has no ArmRestarted for {due}"


def _is_last_and_whole(commit: ArmCommitted, failures: list[ArmFailed]) -> None:
    assert all(f.seq < commit.seq for f in failures), f"{commit.step}: a late failure"
    failed = [failure.arm for failure in failures]
    assert commit.arm not in failed, f"{commit.step} committed to {commit.arm}, which had failed"


def _each_fails_once(path: str, failures: list[ArmFailed]) -> None:
    arms = [failure.arm for failure in failures]
    assert len(set(arms)) == len(arms), f"an arm of {path} failed twice: {arms}"


def _stop_at(log: Log, event: Event, steps: dict[str, Operation[Node]], why: str) -> None:
    for path in steps:
        for later in log.lives.get(path, ()):
            if later.seq > event.seq:
                begins = isinstance(later, StepStarted | StepRetried)
                assert not begins, f"{path} started after {why}"
                skipped = isinstance(later, StepSkipped)
                assert skipped or later.at_s == event.at_s, f"{path} went on after {why}"


def retries_keep_to_their_rule(log: Log) -> None:
    """A step is retried as often as its rule allows, after its delay, and before any output."""
    for _, path, operation in log.operations(Call):
        rule, life = cast("Call", operation.node).policy.retry, log.lives[path]
        retries = [event for event in life if isinstance(event, StepRetried)]
        numbers = [event.attempt for event in retries]
        assert numbers == list(range(1, len(retries) + 1)), f"{path}: {numbers}"
        if rule is None:
            assert not retries, f"{path} has no retry rule, but was retried"
            continue
        assert len(retries) < rule.attempts_max, f"{path} was retried too often"
        longest_s = rule.delay_max_s + rule.retry_after_max_s
        assert all(0 <= event.delay_s <= longest_s for event in retries), f"{path} waits too long"
        for retry, later in pairwise(life[1:]):
            assert isinstance(retry, StepRetried), f"{path} went on after {retry}"
            waited = later.at_s > retry.at_s + retry.delay_s - timing.ROUNDING_S
            assert waited or isinstance(later, StepCancelled), f"{path} was retried too early"
        done = log.finished(path)
        if done is not None and done.first_chunk_s is not None and retries:
            begun_s = done.at_s - done.duration_s + done.first_chunk_s
            late = begun_s - (retries[-1].at_s + retries[-1].delay_s)
            assert late > -timing.ROUNDING_S, f"{path} was retried after its first chunk"


def routes_take_one_arm(log: Log) -> None:
    """At most one arm of a route starts steps."""
    for activation, path, operation in log.operations(Route):
        taken = [r for r in operation.regions if _first(log, activation, r) is not None]
        assert len(taken) <= 1, f"{path} took several arms"


def arms_wait_for_their_turn(log: Log) -> None:
    """An arm starts when all arms before it have failed; in a race also `stagger_s` after the last.

    In a quorum, the arms beyond the first `count` wait that long, or until an earlier arm ends.
    """
    for activation, path, operation in log.operations(Race, Fallback, Quorum):
        choice, node = log.started(path), cast("Choice", operation.node)
        if choice is None:
            begun = [_first(log, activation, region) for region in operation.regions]
            assert not any(begun), f"{path} never started, but arms of it did: {begun}"
            continue
        failures = log.events_about(path, ArmFailed)
        due_s = choice.at_s
        for arm, region in enumerate(operation.regions):
            ends = [f.at_s for f in failures if f.arm in node.arm_names[:arm]]
            if isinstance(node, Quorum) and arm >= node.count:
                ends += [log.there_s(activation, each) for each in operation.regions[:arm]]
                due_s = min(due_s + _stagger_s(node), max(due_s, min(ends)))
            elif arm and not isinstance(node, Quorum):
                due_s = min(due_s + _stagger_s(node), max(ends) if len(ends) == arm else inf)
            first = _first(log, activation, region)
            waited = first is None or first.at_s > due_s - timing.ROUNDING_S
            assert waited, f"{first} did not wait for its turn"


def _stagger_s(node: Choice) -> float:
    """The least time between two arms; 0 for a hedged race, whose delay only the engine knows."""
    if not isinstance(node, Race | Quorum):
        return inf
    return 0.0 if isinstance(node, Race) and node.hedge is not None else node.stagger_s


def each_keeps_to_its_bound(log: Log) -> None:
    """An `each` starts its items in order, and at most `at_once` of them are under way."""
    for _, path, operation in log.operations(Each):
        node = cast("Each", operation.node)
        items = log.items(path)
        assert sorted(items) == list(range(len(items))), f"{path} left out an item"
        changes: list[tuple[int, int]] = []
        for life in items.values():
            seqs = [event.seq for event in life]
            changes += [(min(seqs), 1), (max(seqs) + 1, -1)]
        running = 0
        for _, change in sorted(changes):
            running += change
            assert running <= cast("int", node.at_once), f"{path} had {running} items under way"


def items_fail_within_their_bound(log: Log) -> None:
    """An item of an `each` fails at most once; more than `failures_max` failures end the `each`."""
    for activation, path, operation in log.operations(Each):
        most = cast("Each", operation.node).failures_max
        failures = log.events_about(path, ItemFailed)
        indices = [event.index for event in failures]
        assert len(set(indices)) == len(indices), f"an item of {path} failed twice: {indices}"
        assert most is not None or not failures, f"no item of {path} may fail, but {failures} did"
        lost = log.without_value(activation, path, operation) if log.finished(path) else set()
        assert lost <= {*indices}, f"{path} has no value of {lost}, but only {indices} failed"
        over = failures[most:] if most is not None else []
        assert len(over) <= 1, f"{path} went on after {over[:1]}"
        for event in over:
            assert log.finished(path) is None, f"{path} finished with {len(failures)} failed items"
            inside = dict.fromkeys(log.inside(path), operation)
            _stop_at(log, event, {path: operation, **inside}, f"too many items of {path} failed")


def _first(log: Log, activation: Activation, region: int) -> StepStarted | None:
    """The first start of a step in a region."""
    started = filter(None, map(log.started, activation.inside(region)))
    return min(started, key=lambda event: event.seq, default=None)


LAWS = (
    numbered_without_gaps,
    one_beginning_one_end,
    the_end_tells_the_outcome,
    every_step_has_one_life,
    timing.starts_when_its_last_input_exists,
    timing.times_add_up,
    timing.a_cancelled_run_ends_at_once,
    timing.a_run_ends_by_its_deadline,
    timing.a_step_ends_by_its_timeout,
    timing.a_step_outlives_its_children,
    timing.who_disagrees_is_told,
    the_result_is_the_deltas,
    a_cut_stream_never_looks_complete,
    no_lane_overflows,
    nothing_is_left,
    a_failure_stops_what_is_beside_it,
    losers_are_stopped,
    polls_stop_when_they_are_decided,
    retries_keep_to_their_rule,
    a_restart_is_told,
    routes_take_one_arm,
    arms_wait_for_their_turn,
    each_keeps_to_its_bound,
    items_fail_within_their_bound,
)
