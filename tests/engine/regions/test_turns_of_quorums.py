"""Quorums whose other arms wait for their turn: what is not needed is not asked."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import Pipeline, collect, pipeline, quorum
from orchestra.compiler.check import check
from orchestra.errors import NoQuorumError
from orchestra.events import ArmCommitted, StepCancelled, StepSkipped, StepStarted
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Fails, Gives, Hangs, Script
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.world import World
from tests.compiler.checks.test_starvation import source
from tests.engine.regions.test_agree import NAMES, lawful, three_values
from tests.engine.regions.test_choose import of, value_one, value_three, value_two

STAGGERS = (0.0, 0.75, 2.0, inf)
REFUSED = Fails(ValueError("no"), 1)


def staggered(count: int, stagger_s: float) -> Pipeline[..., object]:
    @pipeline
    def chosen(n: int) -> str:
        return quorum(count, value_one(n), value_two(n), value_three(n), stagger_s=stagger_s)

    return chosen


def starts(simulation: Simulation) -> list[float]:
    """When which arm has started, in the order of the arms."""
    found = {e.step: e.at_s for e in simulation.events if isinstance(e, StepStarted)}
    return [found[name] for name in NAMES if name in found]


def foreseen(scripts: list[Script], count: int, stagger_s: float) -> tuple[list[float], float]:
    """When each arm starts, and when it is decided, by hand: moment after moment."""
    begun: list[float] = []
    now_s, due_s = 0.0, 0.0
    while True:
        said = [_said(s, at_s, now_s) for s, at_s in zip(scripts, begun, strict=False)]
        most = max((said.count(value) for value in said if value is not None), default=0)
        working = sum(_ends_s(s, at_s) > now_s for s, at_s in zip(scripts, begun, strict=False))
        idle = len(scripts) - len(begun)
        decided = most >= count or most + working + idle < count
        if decided:
            return begun, now_s
        needed = most + working < count
        if idle and (len(begun) < count or needed or now_s >= due_s):
            begun.append(now_s)
            due_s = now_s + (stagger_s if len(begun) >= count else 0.0)
            continue
        ends = [_ends_s(s, at_s) for s, at_s in zip(scripts, begun, strict=False)]
        now_s = min([end for end in ends if end > now_s] + ([due_s] if idle else []))


def _ends_s(script: Script, begun_s: float) -> float:
    return begun_s + (script.after_s if isinstance(script, Gives | Fails) else inf)


def _said(script: Script, begun_s: float, now_s: float) -> object:
    if not isinstance(script, Gives) or _ends_s(script, begun_s) > now_s:
        return None
    return script.value


@settings(max_examples=200)
@given(worlds(steps=three_values), st.integers(1, 3), st.sampled_from(STAGGERS))
def test_an_arm_starts_in_its_turn_or_when_it_is_needed(
    world: World, count: int, stagger_s: float
) -> None:
    """Not before, and not when enough have agreed; and it all is decided as early as can be."""
    simulation = simulate(staggered(count, stagger_s), world, n=1)
    check_laws(simulation)
    scripts = [world.steps[name] for name in NAMES]
    begun, decided_s = foreseen(scripts, count, stagger_s)
    assert simulation.lasted_s == decided_s
    # in the moment of the decision, the schedule may have started another one already
    sure = [at_s for at_s in begun if at_s < decided_s]
    assert starts(simulation)[: len(sure)] == sure
    assert all(at_s == decided_s for at_s in starts(simulation)[len(sure) :])
    assert (simulation.error is None) == bool(of(simulation, ArmCommitted))


@settings(max_examples=60)
@given(worlds(steps=three_values, cancels=True), st.sampled_from(STAGGERS))
def test_it_may_be_cancelled_while_an_arm_waits_for_its_turn(
    world: World, stagger_s: float
) -> None:
    check_laws(simulate(staggered(2, stagger_s), world, n=1))


# ----------------------------------------------------------------------------------- by example


def test_an_arm_that_is_not_needed_is_never_asked() -> None:
    said: dict[str, Script] = dict(
        zip(NAMES, [Gives("a", 0.5), Gives("a", 1), Hangs()], strict=True)
    )
    done = lawful(staggered(2, 2.0), **said)
    assert (done.value, done.lasted_s) == ("a", 1)
    assert starts(done) == [0, 0]
    (skipped,) = of(done, StepSkipped)
    assert (skipped.step, skipped.reason) == ("value_three", "2 arms agree with 1:value_one")  # type: ignore[union-attr]


def test_one_that_is_late_is_not_waited_for_longer_than_the_stagger() -> None:
    done = lawful(
        staggered(2, 2.0), value_one=Gives("a", 1), value_two=Hangs(), value_three=Gives("a", 1)
    )
    assert (done.value, done.lasted_s, starts(done)) == ("a", 3, [0, 0, 2])
    (stopped,) = of(done, StepCancelled)
    assert stopped.step == "value_two"  # type: ignore[union-attr]


@pytest.mark.parametrize("other", [REFUSED, Gives("b", 1)])
def test_a_failure_or_another_answer_starts_the_next_at_once(other: Script) -> None:
    done = lawful(
        staggered(2, inf), value_one=Gives("a", 1), value_two=other, value_three=Gives("a", 1)
    )
    assert (done.value, done.lasted_s, starts(done)) == ("a", 2, [0, 0, 1])


def test_as_many_are_started_as_are_needed() -> None:
    done = lawful(
        staggered(1, inf), value_one=REFUSED, value_two=REFUSED, value_three=Gives("c", 1)
    )
    assert (done.value, starts(done)) == ("c", [0, 1, 2])


def test_an_arm_that_could_not_help_is_not_started() -> None:
    done = lawful(staggered(3, inf), value_one=REFUSED, value_two=Hangs(), value_three=Hangs())
    assert (done.lasted_s, starts(done)) == (1, [0, 0, 0])
    done = lawful(staggered(2, inf), value_one=REFUSED, value_two=REFUSED, value_three=Hangs())
    assert isinstance(done.error, NoQuorumError)
    assert starts(done) == [0, 0]
    assert "not waited for: 3:value_three" in str(done.error)


@pytest.mark.parametrize(("stagger_s", "problems"), [(1.0, 0), (inf, 1)])
def test_arms_that_read_one_stream_must_start_by_time(stagger_s: float, problems: int) -> None:
    """The third would hold back the stream whose end the first two need."""

    @pipeline
    def chosen(n: int) -> str:
        chunks = source(n)
        arms = collect(chunks), collect(chunks), collect(chunks)
        return quorum(2, *arms, stagger_s=stagger_s)

    found = check(chosen)
    assert [problem.code for problem in found] == ["stream-waits-for-its-end"] * problems
    if not problems:
        done = simulate(chosen, World(), n=1000)
        check_laws(done)
        assert done.lasted_s == stagger_s
