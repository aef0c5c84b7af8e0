"""Polls: a quorum is what enough arms say, the best is the judge's, and nobody outlives either."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import (
    Context,
    Pipeline,
    best_of,
    each,
    fallback,
    injected,
    pipeline,
    quorum,
    race,
    step,
)
from orchestra.accounts import Usage
from orchestra.engine.regions.votes import Votes
from orchestra.errors import ArmsFailedError, JudgeError, NoQuorumError, RunError
from orchestra.events import (
    ArmCommitted,
    ArmFailed,
    RunFailed,
    RunFinished,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepSkipped,
)
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Fails, Gives, Hangs, Script
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.world import World
from tests.engine.regions.test_choose import (
    of,
    scripted,
    value_one,
    value_scripts,
    value_three,
    value_two,
)

NAMES = ("value_one", "value_two", "value_three")
three_values = dict.fromkeys(NAMES, value_scripts)


def polled(count: int, agree: Callable[[str, str], bool] | None = None) -> Pipeline[..., object]:
    @pipeline
    def chosen(n: int) -> str:
        return quorum(count, value_one(n), value_two(n), value_three(n), agree=agree)

    return chosen


def lawful(chosen: Pipeline[..., object], **scripts: Script) -> Simulation:
    simulation = simulate(chosen, scripted(**scripts), n=1)
    check_laws(simulation)
    return simulation


def longest(answers: list[str]) -> int:
    return answers.index(max(answers, key=len))


@pipeline
def judged(n: int) -> str:
    return best_of(value_one(n), value_two(n), value_three(n), judge=longest)


@settings(max_examples=200)
@given(worlds(steps=three_values), st.integers(1, 3))
def test_a_quorum_says_what_enough_arms_say(world: World, count: int) -> None:
    """And without one, the run fails when it is certain: as many are left as are too few."""
    simulation = simulate(polled(count), world, n=1)
    check_laws(simulation)
    scripts = [world.steps[name] for name in NAMES]
    said = [script.value for script in scripts if isinstance(script, Gives)]
    reached = {value for value in said if said.count(value) >= count}
    if reached:
        assert simulation.value in reached
        assert len(of(simulation, ArmCommitted)) == 1
        times = [
            sorted(s.after_s for s in scripts if isinstance(s, Gives) and s.value == value)
            for value in reached
        ]
        assert simulation.lasted_s == min(each[count - 1] for each in times)
    else:
        error = simulation.error
        assert isinstance(error, NoQuorumError)
        assert not of(simulation, ArmCommitted)
        assert set(error.values.values()) <= set(said)


@settings(max_examples=200)
@given(worlds(steps=three_values), st.integers(1, 3))
def test_the_best_is_the_judges_choice_among_those_that_did_not_fail(
    world: World, least: int
) -> None:
    """In the order of the arms, whichever was the first to be there."""
    seen: list[list[str]] = []

    def last(answers: list[str]) -> int:
        seen.append(answers)
        return len(answers) - 1

    @pipeline
    def chosen(n: int) -> str:
        return best_of(value_one(n), value_two(n), value_three(n), judge=last, least=least)

    simulation = simulate(chosen, world, n=1)
    check_laws(simulation)
    scripts = [world.steps[name] for name in NAMES]
    said = [script.value for script in scripts if isinstance(script, Gives)]
    if len(said) >= least:
        assert seen == [said]
        assert simulation.value == said[-1]
        assert simulation.lasted_s == max(script.after_s for script in scripts)  # type: ignore[union-attr]
    else:
        assert isinstance(simulation.error, ArmsFailedError)
        failures = sorted(script.after_s for script in scripts if isinstance(script, Fails))
        assert simulation.lasted_s == failures[3 - least]
        assert not seen


# ---------------------------------------------------------------------------- quorums, by example


def test_the_rest_is_cancelled_in_the_moment_of_the_quorum() -> None:
    done = lawful(polled(2), value_one=Gives("a", 1), value_two=Hangs(), value_three=Gives("a", 2))
    assert (done.value, done.lasted_s) == ("a", 2)
    (stopped,) = of(done, StepCancelled)
    assert attrs.astuple(stopped)[2:4] == ("value_two", "2 arms agree with 1:value_one")


def test_who_said_something_else_is_told_before_the_quorum() -> None:
    said = {"value_one": Gives("a", 2), "value_two": Gives("b", 1), "value_three": Gives("a", 3)}
    done = lawful(polled(2), **said)
    failed, committed = of(done, ArmFailed, ArmCommitted)
    assert (failed.arm, failed.error) == ("2:value_two", "DisagreedError")  # type: ignore[union-attr]
    assert failed.message == "arm 2:value_two gave 'b', but 2 agree with 1:value_one"  # type: ignore[union-attr]
    assert committed.arm == "1:value_one"  # type: ignore[union-attr]


def test_without_a_quorum_every_outcome_is_listed_and_nobody_is_waited_for() -> None:
    refused = Fails(ValueError("no"), 1)
    done = lawful(polled(3), value_one=Gives("a", 1.5), value_two=Hangs(), value_three=refused)
    assert done.lasted_s == 1
    done = lawful(
        polled(2), value_one=Gives("a", 1.5), value_two=Gives("b", 2), value_three=refused
    )
    assert isinstance(done.error, NoQuorumError)
    assert str(done.error) == (
        "no 2 of 3 arms of 'quorum' agree:\n  1:value_one: gave 'a'\n  2:value_two: gave 'b'\n"
        "  3:value_three: ValueError: no"
    )
    hanging = lawful(polled(3), value_one=Gives("a"), value_two=Gives("b", 1), value_three=Hangs())
    assert "agree; not waited for: 3:value_three:\n" in str(hanging.error)
    assert of(hanging, StepCancelled)[0].reason == "no 3 arms can agree any more"  # type: ignore[union-attr]
    last = hanging.events[-1]
    assert isinstance(last, RunFailed)
    assert last.step == "quorum"


def test_agree_says_what_is_the_same_answer_and_the_first_of_them_is_the_result() -> None:
    def caseless(one: str, other: str) -> bool:
        return one.casefold() == other.casefold()

    said: dict[str, Script] = {
        "value_one": Gives("YES", 2),
        "value_two": Gives("yes", 1),
        "value_three": Hangs(),
    }
    assert lawful(polled(2, caseless), **said).value == "yes"


def test_what_agree_raises_is_the_error_of_the_arm() -> None:
    def fussy(one: str, other: str) -> bool:
        raise LookupError(one, other)

    done = lawful(polled(2, fussy), **{name: Gives("a") for name in NAMES})
    assert isinstance(done.error, NoQuorumError)
    assert [type(error) for error in done.error.errors.values()] == [LookupError, LookupError]


@step
async def plus(n: int) -> int:
    return n + 1


@pipeline
def of_inputs(n: int) -> int:
    return quorum(1, n, plus(n))


def test_an_arm_that_is_there_already_may_decide_before_the_others_start() -> None:
    for schedule in range(8):
        simulation = simulate(of_inputs, World(schedule=schedule), n=1)
        check_laws(simulation)
        assert simulation.value in {1, 2}
        assert of(simulation, StepSkipped, StepCancelled, StepFinished)


@step
async def costly(n: int, seconds: float, context: Context = injected) -> int:
    context.used(Usage(input_tokens=n))
    await trio.sleep(seconds)
    return n


@pipeline
def all_of_it_costs(n: int) -> int:
    return quorum(2, costly(n, 1.0), costly(n, 2.0), costly(n, 9.0))


def test_what_losers_cost_is_in_the_accounts() -> None:
    done = simulate(all_of_it_costs, World(), n=5)
    check_laws(done)
    (stopped,) = of(done, StepCancelled)
    assert stopped.usage == Usage(input_tokens=5)  # type: ignore[union-attr]
    last = done.events[-1]
    assert isinstance(last, RunFinished)
    assert last.usage == Usage(input_tokens=15)


def close(one: int, other: int) -> bool:
    return abs(one - other) < 2


@given(st.lists(st.none() | st.integers(0, 6), min_size=1, max_size=6), st.data())
def test_votes_count_what_agrees_with_the_first_of_a_group(
    outcomes: list[int | None], data: st.DataObject
) -> None:
    """Never a quorum once it was said that there is none, and none but of answers that agree."""
    count = data.draw(st.integers(1, len(outcomes)))
    votes = Votes(count, len(outcomes), close)  # type: ignore[arg-type]
    hopeless = False
    for arm, outcome in enumerate(outcomes):
        if outcome is None:
            votes.leave()
        else:
            votes.add(str(arm), outcome)
        if votes.winner is not None:
            assert not hopeless
            first, *others = [value for _, value in votes.winner]
            assert len(others) == count - 1
            assert all(close(first, other) for other in others)  # type: ignore[arg-type]
            return
        hopeless = hopeless or votes.is_impossible()
    assert votes.is_impossible()


# ---------------------------------------------------------------------------- judges, by example


@step
async def judge(answers: list[str], *, wants: str = "b", context: Context = injected) -> int:
    context.used(Usage(output_tokens=1))
    return answers.index(wants)


@pipeline
def judged_by_a_step(n: int) -> str:
    kept = partial(judge, wants=value_two(n))
    return best_of(value_one(n), value_three(n), judge=kept)


def test_a_judge_is_a_step_of_its_own() -> None:
    """With its own usage and its own failure; it may be given wires besides the answers."""
    said: dict[str, Script] = {name: Gives("b") for name in NAMES}
    said |= {"value_one": Gives("a"), "value_two": Gives("b", 1)}
    done = lawful(judged_by_a_step, **said)
    assert done.value == "b"
    told = next(e for e in of(done, StepFinished) if e.step == "judge")  # type: ignore[union-attr]
    assert told.usage == Usage(output_tokens=1)  # type: ignore[union-attr]
    done = lawful(judged_by_a_step, **said | {"value_two": Gives("c")})
    assert isinstance(done.error, ValueError)
    assert [e.step for e in of(done, StepFailed)] == ["judge"]  # type: ignore[union-attr]


def test_a_pipeline_may_judge() -> None:
    @pipeline
    def court(answers: list[str]) -> int:
        return judge(answers, wants="c")

    @pipeline
    def chosen(n: int) -> str:
        return best_of(value_one(n), value_two(n), judge=court)

    assert lawful(chosen, value_one=Gives("a"), value_two=Gives("c")).value == "c"


@pytest.mark.parametrize("index", [-1, 2, True])
def test_an_index_that_is_none_is_told_with_those_that_are(index: int) -> None:
    @pipeline
    def chosen(n: int) -> str:
        return best_of(value_one(n), value_two(n), judge=lambda _: index)

    error = lawful(chosen, value_one=Gives("a"), value_two=Gives("b")).error
    assert isinstance(error, JudgeError)
    assert str(error) == (
        f"the judge of 2 answers returned {index!r}; it must return the index of the best one, a "
        "whole number from 0 to 1"
    )


def test_too_few_survivors_are_told_with_each_error() -> None:
    failing = {name: Fails(ValueError(name), 1) for name in NAMES}
    error = lawful(judged, **failing).error
    assert isinstance(error, ArmsFailedError)
    assert str(error).startswith("every arm of 'best_of' failed:\n  1:value_one: ValueError: ")

    @pipeline
    def two_of(n: int) -> str:
        return best_of(value_one(n), value_two(n), judge=longest, least=2)

    done = lawful(two_of, value_one=Fails(ValueError("x"), 1), value_two=Hangs())
    assert done.lasted_s == 1
    assert str(done.error).startswith(
        "all but 1 of the arms of 'best_of' failed, and least=2:\n  1:val"
    )


# ------------------------------------------------------------------------------- in one another


@step
async def late(n: int) -> str:
    await trio.sleep(50)
    return "late"


@pipeline
def nested(n: int) -> str:
    agreed = quorum(2, value_one(n), value_two(n), value_three(n))
    return race(fallback(agreed, best_of(value_one(n), value_two(n), judge=longest)), late(n))


@settings(max_examples=100)
@given(worlds(steps=three_values, cancels=True))
def test_polls_stand_in_other_constructs_and_may_be_cancelled_at_any_moment(world: World) -> None:
    simulation = simulate(nested, world, n=1)
    check_laws(simulation)
    assert simulation.error is None or isinstance(simulation.error, RunError)


@step
def numbered(n: int) -> list[int]:
    return list(range(n))


@pipeline
def one_for_each(n: int) -> list[int]:
    def body(item: int) -> int:
        agreed = quorum(2, plus(item), plus(item), costly(item, 9.0))
        return best_of(agreed, costly(item, 1.0), judge=lambda found: found.index(max(found)))

    return each(numbered(n), body, at_once=2)


def test_every_item_has_a_poll_of_its_own() -> None:
    done = simulate(one_for_each, World(), n=3)
    check_laws(done)
    assert done.value == [1, 2, 3]
    assert done.lasted_s == 2
