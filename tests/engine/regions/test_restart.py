"""Restart: a fallback that takes back what its arm has said, and tells everyone who heard it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import Limits, Pipeline, Stream, fallback, first_content, pipeline
from orchestra.engine.journal import Journal
from orchestra.engine.lanes.output import Output
from orchestra.errors import ArmsFailedError, ModelError
from orchestra.events import (
    ArmCommitted,
    ArmFailed,
    ArmRestarted,
    Delta,
    Event,
    RunFailed,
    RunFinished,
    Snapshot,
    StepSkipped,
)
from orchestra.graph.rules.commits import Commit
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Streams
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import narrow_limits, worlds
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from tests.engine.regions.test_choose import arm, of, one, scripted, three, two
from tests.engine.regions.test_commits import three_scripts
from tests.testing.sketches.drawing import commits

NAMES = ("one", "two", "three")


def restarting(rule: Commit) -> Pipeline[..., object]:
    @pipeline
    def chosen(n: int) -> Stream[str]:
        return fallback(one(n), two(n), three(n), commit=rule, restart=True)

    return chosen


@attrs.frozen
class Foreseen:
    """By hand: what a restarting fallback comes to."""

    value: str | None
    ends_s: float
    committed: tuple[str, ...]
    failed: tuple[str, ...]


def foreseen(world: World, rule: Commit) -> Foreseen:
    """Arm after arm, each from the end of the one before, until one has ended well."""
    at_s = 0.0
    committed: list[str] = []
    failed: list[str] = []
    for name in NAMES:
        tried = arm(world.steps[name], rule)  # type: ignore[arg-type]
        at_s += tried.ends_s
        if tried.content_s is not None:
            committed.append(name)
            if not tried.fails:
                return Foreseen(tried.said, at_s, tuple(committed), tuple(failed))
        failed.append(name)
    return Foreseen(None, at_s, tuple(committed), tuple(failed))


def names(events: Iterable[Event]) -> tuple[str, ...]:
    return tuple(event.arm.partition(":")[2] for event in events)  # type: ignore[union-attr]


def agrees(simulation: Simulation, by_hand: Foreseen) -> None:
    check_laws(simulation)
    assert simulation.value == by_hand.value
    assert simulation.lasted_s == by_hand.ends_s
    assert names(of(simulation, ArmCommitted)) == by_hand.committed
    assert names(of(simulation, ArmFailed)) == by_hand.failed
    assert names(of(simulation, ArmRestarted)) == by_hand.committed[1:]
    assert (simulation.error is None) == (by_hand.value is not None)
    assert isinstance(simulation.error, ArmsFailedError | None)


@settings(max_examples=200)
@given(worlds(steps=three_scripts), commits())
def test_the_result_is_the_last_arms_alone_and_every_restart_is_told(
    world: World, rule: Commit
) -> None:
    """Arms that fail before and after their commits, in any mixture, as by hand."""
    agrees(simulate(restarting(rule), world, n=1), foreseen(world, rule))


@settings(max_examples=100)
@given(worlds(steps=three_scripts, cancels=True, limits=narrow_limits()), commits())
def test_a_restart_can_be_cancelled_at_any_moment(world: World, rule: Commit) -> None:
    check_laws(simulate(restarting(rule), world, n=1))


def heard(batches: Iterable[Sequence[Event]]) -> str:
    """What a client has of the output that does as the events say."""
    text = ""
    for event in (event for batch in batches for event in batch):
        match event:
            case ArmRestarted():
                text = ""
            case Snapshot(output=output):
                text = output
            case Delta(chunk=chunk):
                text += chunk
    return text


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["a", "b", "", None]), max_size=40),
    st.integers(1, 5),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_whoever_comes_back_when_ever_has_what_was_said_since_the_last_restart(
    said: list[str | None], kept: int, reads: list[int]
) -> None:
    """None is a restart; snapshots take the place of what is no longer kept."""

    async def main() -> None:
        limits = Limits(journal_events=kept)
        journal = Journal(limits, Output(str, limits), trio.current_time())
        batches: list[Sequence[Event]] = []
        seq = 0
        for place, chunk in enumerate(said):
            if chunk is None:
                journal.restart("fallback", "2:two")
            else:
                journal.delta_soon(chunk)
            if place in reads:
                batches.append(journal.newer(seq))
                seq = journal.seq
        batches.append(journal.newer(seq))
        last = max((n for n, chunk in enumerate(said) if chunk is None), default=-1)
        since = "".join(filter(None, said[last + 1 :]))
        assert heard(batches) == heard([journal.newer(0)]) == since
        assert journal.output.joined() == since
        for event in (event for batch in batches for event in batch):
            if isinstance(event, Snapshot):
                assert event.restarts == said[: event.seq].count(None)

    virtual(main, schedule=0)


# --------------------------------------------------------------------------- what examples show

CUT = Streams(((1, "Pa"), (1, "ri")), ModelError("cut"), 1)


def test_an_answer_that_breaks_off_is_replaced_by_a_whole_one() -> None:
    world = scripted(one=CUT, two=Streams(((1, "Vien"), (1, "na"))))

    @pipeline
    def chosen(n: int) -> Stream[str]:
        return fallback(one(n), two(n), restart=True)

    simulation = simulate(chosen, world, n=1)
    check_laws(simulation)
    assert simulation.value == "Vienna"
    told = [e for e in simulation.events if isinstance(e, Delta | ArmFailed | ArmRestarted)]
    assert [(type(e), e.at_s) for e in told] == [
        (Delta, 1),
        (Delta, 2),
        (ArmFailed, 3),
        (ArmRestarted, 4),
        (Delta, 4),
        (Delta, 5),
    ]
    assert isinstance(simulation.events[-1], RunFinished)


def test_without_restart_a_failure_after_the_commit_stays_the_runs() -> None:
    @pipeline
    def chosen(n: int) -> Stream[str]:
        return fallback(one(n), two(n))

    simulation = simulate(chosen, scripted(one=CUT), n=1)
    check_laws(simulation)
    assert isinstance(simulation.error, ModelError)
    assert not of(simulation, ArmRestarted, ArmFailed)


def test_what_the_next_arm_is_not_for_fails_the_run_after_the_commit_too() -> None:
    @pipeline
    def chosen(n: int) -> Stream[str]:
        return fallback(one(n), two(n), on=TimeoutError, restart=True)

    simulation = simulate(chosen, scripted(one=CUT), n=1)
    check_laws(simulation)
    assert isinstance(simulation.error, ModelError)
    last = simulation.events[-1]
    assert isinstance(last, RunFailed)
    assert last.step == "one"
    assert [e.step for e in of(simulation, StepSkipped)] == ["two"]  # type: ignore[union-attr]


def test_when_all_break_off_the_error_lists_each() -> None:
    simulation = simulate(restarting(first_content()), scripted(one=CUT, two=CUT, three=CUT), n=1)
    check_laws(simulation)
    assert isinstance(simulation.error, ArmsFailedError)
    assert list(simulation.error.errors) == ["1:one", "2:two", "3:three"]
    assert len(of(simulation, ArmRestarted)) == 2
