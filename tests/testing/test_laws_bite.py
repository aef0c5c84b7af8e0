"""The laws bite: of each there is a doctored run that it refuses, and nothing else is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeAlias

import attrs
import pytest
import trio

from orchestra import (
    Context,
    Failed,
    Limits,
    Pipeline,
    Policy,
    Retry,
    Stream,
    best_of,
    collect,
    each,
    fallback,
    injected,
    pipeline,
    quorum,
    race,
    route,
    step,
)
from orchestra.accounts import Usage
from orchestra.errors import OverloadedError
from orchestra.events import (
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
from orchestra.testing import laws, timing
from orchestra.testing.laws import LAWS, check_laws
from orchestra.testing.log import Log
from orchestra.testing.scripts import Attempts, Streams
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.world import World

Law: TypeAlias = Callable[[Log], None]
Doctor: TypeAlias = Callable[[Simulation], Simulation]
ORDINARY = World()


@step
async def some(n: int) -> list[int]:
    return list(range(n))


@step
async def after(value: object, s: float, fails: bool = False) -> str:
    await trio.sleep(s)
    if fails:
        raise ValueError("told to fail")
    return str(value)


@step
async def letters(value: object) -> AsyncIterator[str]:
    for letter in str(value):
        yield letter
        await trio.sleep(1)


@step
async def joined(parts: list[str]) -> str:
    return "".join(parts)


@pipeline
def everything(n: int) -> Stream[str]:
    """A bit of everything: a list, a race, a fallback, a route, and a stream at the end."""
    items = each(some(n), lambda item: after(after(item, 1), 1), at_once=2)
    raced = race(after("won", 2), after(after("lost", 1), 5), stagger_s=0.5)
    saved = fallback(after("bad", 1, fails=True), after("saved", 1))
    taken = route(after(n, 3), {"4": after("taken", 1), "5": after(after("not", 1), 1)})
    return letters(joined([joined(items), raced, saved, taken]))


@pipeline
def failing(n: int) -> str:
    """A failure beside something that runs and something that waits."""
    return joined([after(n, 1, fails=True), after(after(n, 4), 1)])


@pipeline
def single(n: int) -> str:
    return after(n, 1)


def run(of: Pipeline[..., object], world: World = ORDINARY, n: int = 4) -> Simulation:
    simulation = simulate(of, world, n=n)
    check_laws(simulation)
    return simulation


@step
async def cut(n: int) -> AsyncIterator[str]:
    yield "a"
    raise ValueError("cut")


@pipeline
def collects_a_cut_stream(n: int) -> str:
    return collect(cut(n))


@pipeline
def fails_in_a_race(n: int) -> Stream[str]:
    return race(cut(n), letters(after(n, 9)))


@pipeline
def fails_in_an_each(n: int) -> list[str]:
    return each(some(n), lambda item: after(item, 1, fails=True), at_once=1)


@step
async def checked(n: int) -> int:
    if n % 2:
        raise ValueError("odd")
    return n


@pipeline
def bears_failures(n: int) -> list[int | Failed[int]]:
    return each(some(n), checked, at_once=1, failures_max=2)


@pipeline
def unsteady(n: int) -> Stream[str]:
    return letters.using(Policy(retry=Retry(attempts_max=3, delay_s=1, delay_max_s=1)))(n)


TRIES = Attempts.failing(2, OverloadedError("busy"), Streams(((1, "a"),)))
RETRIED = run(unsteady, World(jitter=1.0, steps={"letters": TRIES}))


@pipeline
def restarts(n: int) -> Stream[str]:
    return fallback(cut(n), letters(after(n, 1)), restart=True)


@pipeline
def agreeing(n: int) -> str:
    said = after("a", 1), after(after("a", 2), 1), after("b", 2), after("c", 9)
    return quorum(2, *said, after(n, 1, fails=True))


@pipeline
def disagreeing(n: int) -> str:
    return quorum(2, after(n, 1, fails=True), after(n, 2, fails=True), after(n, 9))


@step
async def spent(n: int, *, context: Context = injected) -> int:
    context.used(Usage(3, 2))
    return n


@pipeline
def spending(n: int) -> int:
    return spent(n)


@pipeline
def surviving(n: int) -> str:
    return best_of(after(n, 1, fails=True), after(n, 2), judge=lambda values: 0)


@pipeline(deadline_s=3)
def limited(n: int) -> str:
    return after.using(Policy(timeout_s=1))(n, 2)


@pipeline(deadline_s=3)
def too_late(n: int) -> str:
    return after(n, 4)


@pipeline
def in_turn(n: int) -> str:
    return quorum(2, after(n, 3), after("b", 9), after(n, 1), stagger_s=2)


@step
async def runs(n: int, *, context: Context = injected) -> str:
    return await context.run(single, n)


@pipeline
def has_a_child(n: int) -> str:
    return runs(n)


WHOLE = run(everything)
CHILD = run(has_a_child)
AGREED = run(agreeing)
DISAGREED = run(disagreeing)
SURVIVED = run(surviving)
SPENT = run(spending)
IN_TURN = run(in_turn)
RESTARTED = run(restarts)
IN_RACE = run(fails_in_a_race)
IN_EACH = run(fails_in_an_each)
BORNE = run(bears_failures)
TOO_MANY = run(bears_failures, n=9)
CUT = run(collects_a_cut_stream)
FAILED = run(failing)
STOPPED = run(everything, World(cancel_at_s=1.75))
VALUE = run(single)
LIMITED = run(limited)
LATE = run(too_late)


def with_events(simulation: Simulation, events: Iterable[Event]) -> Simulation:
    """The run with these events, numbered anew."""
    numbered = tuple(attrs.evolve(event, seq=seq) for seq, event in enumerate(events, 1))
    return attrs.evolve(simulation, events=numbered)


def find(simulation: Simulation, kind: type[Event], **fields: object) -> Event:
    """The first event of a kind with these fields."""
    return next(
        event
        for event in simulation.events
        if isinstance(event, kind)
        and all(getattr(event, name) == value for name, value in fields.items())
    )


def without(kind: type[Event], **fields: object) -> Doctor:
    def doctor(simulation: Simulation) -> Simulation:
        gone = find(simulation, kind, **fields)
        return with_events(simulation, (e for e in simulation.events if e is not gone))

    return doctor


def twice(kind: type[Event], **fields: object) -> Doctor:
    def doctor(simulation: Simulation) -> Simulation:
        one = find(simulation, kind, **fields)
        found = ([event, event] if event is one else [event] for event in simulation.events)
        return with_events(simulation, (event for both in found for event in both))

    return doctor


def changed(kind: type[Event], *, to: dict[str, object], **fields: object) -> Doctor:
    """One event with other fields, in its place."""

    def doctor(simulation: Simulation) -> Simulation:
        one = find(simulation, kind, **fields)
        other = attrs.evolve(one, **to)  # type: ignore[arg-type]
        events = tuple(other if event is one else event for event in simulation.events)
        return attrs.evolve(simulation, events=events)

    return doctor


def moved(
    kind: type[Event], *, before: type[Event], at: dict[str, object], **fields: object
) -> Doctor:
    """One event before another, at the time of that."""

    def doctor(simulation: Simulation) -> Simulation:
        one, place = find(simulation, kind, **fields), find(simulation, before, **at)
        early = attrs.evolve(one, at_s=place.at_s)
        events: list[Event] = []
        for event in simulation.events:
            if event is place:
                events.append(early)
            if event is not one:
                events.append(event)
        return with_events(simulation, events)

    return doctor


def added(after: type[Event], event: Event, **fields: object) -> Doctor:
    """One more event after another, at the time of that."""

    def doctor(simulation: Simulation) -> Simulation:
        place = find(simulation, after, **fields)
        events: list[Event] = []
        for each_event in simulation.events:
            events.append(each_event)
            if each_event is place:
                events.append(attrs.evolve(event, at_s=place.at_s))
        return with_events(simulation, events)

    return doctor


def blamed_on(name: str) -> Doctor:
    """A run whose last event names this step, which failed because of another."""

    def doctor(simulation: Simulation) -> Simulation:
        where = getattr(find(simulation, StepFailed, step=name), "where", None)
        return changed(RunFailed, to={"step": name, "where": where})(simulation)

    return doctor


def renumbered(simulation: Simulation) -> Simulation:
    *events, last = simulation.events
    return attrs.evolve(simulation, events=(*events, attrs.evolve(last, seq=last.seq + 1)))


def back_in_time(simulation: Simulation) -> Simulation:
    one, two, *events = simulation.events
    return attrs.evolve(simulation, events=(attrs.evolve(one, at_s=9.0), two, *events))


def longer(simulation: Simulation) -> Simulation:
    return attrs.evolve(simulation, lasted_s=simulation.lasted_s + 1)


def late(kind: type[Event], **fields: object) -> Doctor:
    """One event, and all after it, half a second later."""

    def doctor(simulation: Simulation) -> Simulation:
        one = find(simulation, kind, **fields)
        events = tuple(
            attrs.evolve(event, at_s=event.at_s + 0.5) if event.seq >= one.seq else event
            for event in simulation.events
        )
        return attrs.evolve(simulation, events=events, lasted_s=simulation.lasted_s + 0.5)

    return doctor


def replaced(field: str, value: object) -> Doctor:
    return lambda simulation: attrs.evolve(simulation, **{field: value})  # type: ignore[arg-type]


def early(simulation: Simulation) -> Simulation:
    """The last event half a second before its time."""
    *events, last = simulation.events
    at_s = last.at_s - 0.5
    events.append(attrs.evolve(last, at_s=at_s))
    return attrs.evolve(simulation, events=tuple(events), lasted_s=at_s)


SHORT = Limits(deadline_s=1)
AFTER = "each[0]/after#2"
started, skipped = StepStarted(0, 0.0, "x"), StepSkipped(0, 0.0, "x", "why")
retried = StepRetried(0, 0.0, "x", 1, 1.0, "OverloadedError", "busy")
third = attrs.evolve(retried, attempt=3)
finished, cancelled = StepFinished(0, 0.0, "x", 0.0), StepCancelled(0, 0.0, "x", "why")


def item_failed(index: int) -> ItemFailed:
    return ItemFailed(0, 0.0, "each", index, "ValueError", "odd")


def of(event: Event, name: str) -> Event:
    return attrs.evolve(event, step=name)  # type: ignore[arg-type]


BITES: list[tuple[Law, Simulation, Doctor]] = [
    (laws.numbered_without_gaps, WHOLE, renumbered),
    (laws.numbered_without_gaps, WHOLE, back_in_time),
    (laws.numbered_without_gaps, WHOLE, longer),
    (laws.one_beginning_one_end, WHOLE, without(RunStarted)),
    (laws.one_beginning_one_end, WHOLE, twice(RunStarted)),
    (laws.one_beginning_one_end, WHOLE, without(RunFinished)),
    (laws.one_beginning_one_end, WHOLE, twice(RunFinished)),
    (laws.one_beginning_one_end, WHOLE, added(RunFinished, of(skipped, "x"))),
    (laws.the_end_tells_the_outcome, WHOLE, changed(RunFinished, to={"result": "other"})),
    (laws.the_end_tells_the_outcome, WHOLE, replaced("error", ValueError("x"))),
    (laws.the_end_tells_the_outcome, WHOLE, without(RunFinished)),
    (laws.the_end_tells_the_outcome, STOPPED, changed(RunCancelled, to={"reason": "other"})),
    (laws.the_end_tells_the_outcome, STOPPED, replaced("error", None)),
    (laws.the_end_tells_the_outcome, FAILED, changed(RunFailed, to={"error": "KeyError"})),
    (laws.the_end_tells_the_outcome, FAILED, changed(RunFailed, to={"message": "other"})),
    (laws.the_end_tells_the_outcome, FAILED, changed(RunFailed, to={"step": "joined"})),
    (laws.the_end_tells_the_outcome, FAILED, changed(RunFailed, to={"where": "other:1"})),
    (laws.the_end_tells_the_outcome, FAILED, replaced("error", None)),
    (laws.the_end_tells_the_outcome, IN_RACE, blamed_on("race")),
    (laws.the_end_tells_the_outcome, IN_EACH, blamed_on("each")),
    (laws.every_step_has_one_life, WHOLE, without(StepStarted, step="letters")),
    (laws.every_step_has_one_life, WHOLE, without(StepFinished, step="letters")),
    (laws.every_step_has_one_life, WHOLE, without(StepFinished, step=AFTER)),
    (laws.every_step_has_one_life, WHOLE, without(StepSkipped)),
    (laws.every_step_has_one_life, WHOLE, twice(StepSkipped)),
    (laws.every_step_has_one_life, WHOLE, twice(StepFinished, step="letters")),
    (laws.every_step_has_one_life, WHOLE, added(RunStarted, of(skipped, "letters"))),
    (laws.every_step_has_one_life, WHOLE, added(RunStarted, of(skipped, "nobody"))),
    (laws.every_step_has_one_life, STOPPED, changed(StepSkipped, to={"reason": ""})),
    (laws.every_step_has_one_life, STOPPED, changed(StepCancelled, to={"reason": ""})),
    (timing.starts_when_its_last_input_exists, WHOLE, late(StepStarted, step="letters")),
    (timing.starts_when_its_last_input_exists, WHOLE, late(StepStarted, step="some")),
    (timing.starts_when_its_last_input_exists, WHOLE, late(StepStarted, step=AFTER)),
    (
        timing.starts_when_its_last_input_exists,
        WHOLE,
        moved(StepStarted, step="letters", before=StepFinished, at={"step": "joined"}),
    ),
    (
        timing.starts_when_its_last_input_exists,
        WHOLE,
        moved(StepStarted, step=AFTER, before=StepFinished, at={"step": "each[0]/after"}),
    ),
    (timing.starts_when_its_last_input_exists, WHOLE, without(StepFinished, step="some")),
    (timing.times_add_up, WHOLE, changed(StepFinished, step="letters", to={"duration_s": 0.5})),
    (timing.times_add_up, WHOLE, changed(StepFinished, step="letters", to={"first_chunk_s": None})),
    (timing.times_add_up, WHOLE, changed(StepFinished, step="letters", to={"first_chunk_s": 99.0})),
    (timing.times_add_up, WHOLE, changed(StepFinished, step="letters", to={"chunks": 0})),
    (timing.times_add_up, WHOLE, changed(RunFinished, to={"timings_s": {}})),
    (timing.times_add_up, SPENT, changed(RunFinished, to={"usage": None})),
    (timing.times_add_up, SPENT, changed(RunFinished, to={"usage": Usage(3, 1)})),
    (timing.a_cancelled_run_ends_at_once, STOPPED, late(StepCancelled)),
    (timing.a_cancelled_run_ends_at_once, WHOLE, replaced("world", World(cancel_at_s=1))),
    (timing.a_run_ends_by_its_deadline, LATE, late(StepCancelled)),
    (timing.a_run_ends_by_its_deadline, LATE, early),
    (timing.a_run_ends_by_its_deadline, WHOLE, replaced("world", World(limits=SHORT))),
    (timing.a_step_ends_by_its_timeout, LIMITED, late(StepFailed)),
    (laws.the_result_is_the_deltas, WHOLE, without(Delta)),
    (laws.the_result_is_the_deltas, WHOLE, changed(Delta, to={"chunk": "?"})),
    (laws.the_result_is_the_deltas, VALUE, added(StepStarted, Delta(0, 0.0, "x"))),
    (laws.a_cut_stream_never_looks_complete, CUT, added(StepFailed, of(finished, "collect"))),
    (laws.no_lane_overflows, WHOLE, replaced("lane_peak", Limits().lane_chunks + 1)),
    (laws.nothing_is_left, WHOLE, replaced("tasks_left", 1)),
    (laws.a_failure_stops_what_is_beside_it, FAILED, added(StepFailed, of(started, "joined"))),
    (
        laws.a_failure_stops_what_is_beside_it,
        FAILED,
        late(StepCancelled, step="after#2"),
    ),
    (laws.losers_are_stopped, WHOLE, twice(ArmCommitted, step="race")),
    (laws.losers_are_stopped, WHOLE, twice(ArmFailed, step="fallback")),
    (
        laws.losers_are_stopped,
        WHOLE,
        moved(ArmCommitted, step="fallback", before=ArmFailed, at={"step": "fallback"}),
    ),
    (laws.losers_are_stopped, WHOLE, changed(ArmCommitted, step="fallback", to={"arm": "1:after"})),
    (laws.losers_are_stopped, WHOLE, late(StepCancelled)),
    (laws.losers_are_stopped, WHOLE, without(ArmCommitted, step="race")),
    (
        laws.losers_are_stopped,
        WHOLE,
        moved(ArmCommitted, step="race", before=StepStarted, at={"step": "after#5"}),
    ),
    (laws.polls_stop_when_they_are_decided, AGREED, twice(ArmCommitted)),
    (laws.polls_stop_when_they_are_decided, AGREED, without(ArmCommitted)),
    (laws.polls_stop_when_they_are_decided, AGREED, twice(ArmFailed)),
    (laws.polls_stop_when_they_are_decided, AGREED, changed(ArmCommitted, to={"arm": "3:after"})),
    (laws.polls_stop_when_they_are_decided, AGREED, late(StepCancelled)),
    (laws.polls_stop_when_they_are_decided, DISAGREED, late(StepCancelled)),
    (laws.polls_stop_when_they_are_decided, SURVIVED, without(ArmFailed)),
    (
        laws.polls_stop_when_they_are_decided,
        AGREED,
        moved(ArmCommitted, before=ArmFailed, at={"error": "DisagreedError"}),
    ),
    (laws.every_step_has_one_life, RETRIED, added(StepFinished, of(retried, "letters"))),
    (laws.retries_keep_to_their_rule, RETRIED, without(StepRetried)),
    (laws.retries_keep_to_their_rule, RETRIED, twice(StepRetried)),
    (laws.retries_keep_to_their_rule, RETRIED, added(StepRetried, of(third, "letters"), attempt=2)),
    (laws.retries_keep_to_their_rule, RETRIED, changed(StepRetried, to={"delay_s": 1.5})),
    (laws.retries_keep_to_their_rule, RETRIED, changed(StepRetried, to={"delay_s": -1.0})),
    (laws.retries_keep_to_their_rule, RETRIED, changed(StepRetried, to={"delay_s": 99.0})),
    (
        laws.retries_keep_to_their_rule,
        RETRIED,
        changed(StepFinished, to={"first_chunk_s": 1.0}),
    ),
    (laws.retries_keep_to_their_rule, WHOLE, added(StepStarted, of(retried, "some"), step="some")),
    (laws.a_restart_is_told, RESTARTED, without(ArmRestarted)),
    (laws.a_restart_is_told, RESTARTED, without(ArmFailed)),
    (laws.a_restart_is_told, RESTARTED, twice(ArmRestarted)),
    (laws.a_restart_is_told, RESTARTED, changed(ArmRestarted, to={"arm": "1:cut"})),
    (
        laws.a_restart_is_told,
        WHOLE,
        added(ArmCommitted, ArmRestarted(0, 0.0, "fallback", "2:after"), step="fallback"),
    ),
    (laws.the_result_is_the_deltas, RESTARTED, without(ArmRestarted)),
    (laws.routes_take_one_arm, WHOLE, added(StepStarted, of(started, "after#8"), step="route")),
    (laws.arms_wait_for_their_turn, WHOLE, without(ArmFailed, step="fallback")),
    (laws.arms_wait_for_their_turn, WHOLE, without(StepStarted, step="race")),
    (
        laws.arms_wait_for_their_turn,
        WHOLE,
        moved(StepStarted, step="after#2", before=StepStarted, at={"step": "after"}),
    ),
    (
        laws.arms_wait_for_their_turn,
        IN_TURN,
        changed(StepStarted, to={"at_s": 1.0}, step="after#3"),
    ),
    (
        laws.each_keeps_to_its_bound,
        WHOLE,
        moved(StepStarted, step="each[2]/after", before=StepStarted, at={"step": AFTER}),
    ),
    (
        laws.arms_wait_for_their_turn,
        IN_TURN,
        changed(StepStarted, to={"at_s": 1.0}, step="after#3"),
    ),
    (
        laws.each_keeps_to_its_bound,
        WHOLE,
        lambda s: with_events(s, (e for e in s.events if "each[1]" not in getattr(e, "step", ""))),
    ),
    (laws.items_fail_within_their_bound, BORNE, twice(ItemFailed)),
    (laws.items_fail_within_their_bound, BORNE, without(ItemFailed)),
    (laws.items_fail_within_their_bound, BORNE, added(ItemFailed, item_failed(0), index=1)),
    (laws.items_fail_within_their_bound, TOO_MANY, added(ItemFailed, item_failed(7), index=5)),
    (
        laws.items_fail_within_their_bound,
        TOO_MANY,
        added(ItemFailed, StepStarted(0, 0.0, "each[5]/checked"), index=5),
    ),
    (laws.items_fail_within_their_bound, WHOLE, added(StepStarted, item_failed(0), step="each")),
    (timing.who_disagrees_is_told, AGREED, without(ArmFailed, error="DisagreedError")),
    (
        timing.a_step_outlives_its_children,
        CHILD,
        moved(StepFinished, step="runs", before=StepFinished, at={"step": "runs[0]/single/after"}),
    ),
]


@pytest.mark.parametrize(
    ("law", "simulation", "doctor"), BITES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_law_refuses_a_doctored_run(law: Law, simulation: Simulation, doctor: Doctor) -> None:
    doctored = doctor(simulation)
    assert doctored != simulation
    with pytest.raises(AssertionError) as caught:
        law(Log(doctored))
    assert str(caught.value), "a law that is broken says by what"
    with pytest.raises(AssertionError):
        check_laws(doctored)


def test_every_law_is_checked_and_bites() -> None:
    assert {law for law, _, _ in BITES} == set(LAWS)


def test_a_broken_law_is_named_and_the_journal_is_shown() -> None:
    with pytest.raises(AssertionError) as caught:
        check_laws(attrs.evolve(WHOLE, tasks_left=2, left=("a at b.py:1", "c at d.py:2")))
    law, broken, one, other, first, *_ = str(caught.value).splitlines()
    assert law == "nothing_is_left: When a run has ended, none of its tasks is left."
    assert (broken, one, other) == ("2 tasks left:", "  a at b.py:1", "  c at d.py:2")
    assert first.startswith("    1  0 s  run.started")
