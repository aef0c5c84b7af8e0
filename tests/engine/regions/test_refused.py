"""Refusals: `validate` says which answers are good enough, `on` which errors go to the next arm."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import Pipeline, Stream, complete, fallback, first_content, pipeline, race, step
from orchestra.errors import (
    ArmsFailedError,
    ModelError,
    NoContentError,
    OverloadedError,
    RateLimitError,
    RefusedError,
)
from orchestra.events import ArmFailed, Delta, RunFailed, StepCancelled, StepSkipped
from orchestra.graph.rules.commits import Commit
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Fails, Gives, Hangs, Script, Streams
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.world import World
from tests.engine.regions.test_choose import (
    agrees,
    arm,
    of,
    one,
    scripted,
    scripts,
    three,
    two,
    value_one,
    value_scripts,
    value_three,
    value_two,
)
from tests.engine.regions.test_commits import kinds, three_scripts
from tests.testing.sketches.drawing import commits

NAMES = ("one", "two", "three")


def without_b(said: str) -> bool:
    return "b" not in said


def picky(kind: str, rule: Commit) -> tuple[Pipeline[..., object], float]:
    @pipeline
    def chosen(n: int) -> Stream[str]:
        arms = one(n), two(n), three(n)
        if kind == "fallback":
            return fallback(*arms, commit=rule, validate=without_b)
        stagger_s = 2.0 if kind == "staggered" else 0.0
        return race(*arms, commit=rule, validate=without_b, stagger_s=stagger_s)

    return chosen, {"race": 0.0, "staggered": 2.0, "fallback": float("inf")}[kind]


@settings(max_examples=200)
@given(worlds(steps=three_scripts), kinds, commits())
def test_an_arm_that_is_refused_has_failed_and_no_word_of_it_is_seen(
    world: World, kind: str, rule: Commit
) -> None:
    """As by hand; what is accepted is what was said when the rule was met, however it arrived."""
    chosen, stagger_s = picky(kind, rule)
    arms = [arm(world.steps[name], rule, without_b) for name in NAMES]  # type: ignore[arg-type]
    simulation = simulate(chosen, world, n=1)
    agrees(simulation, arms, stagger_s)
    if rule == complete():
        assert "b" not in (simulation.value or "")  # type: ignore[operator]
        assert not any(e.chunk == "b" for e in simulation.events if isinstance(e, Delta))


@settings(max_examples=200)
@given(worlds(steps={f"value_{name}": value_scripts for name in NAMES}), st.booleans())
def test_a_value_is_refused_as_a_stream_is(world: World, falls: bool) -> None:
    @pipeline
    def chosen(n: int) -> str:
        arms = value_one(n), value_two(n), value_three(n)
        return (fallback if falls else race)(*arms, validate=without_b)

    arms = [arm(world.steps[f"value_{name}"], accepts=without_b) for name in NAMES]  # type: ignore[arg-type]
    agrees(simulate(chosen, world, n=1), arms, float("inf") if falls else 0.0)


errors = st.sampled_from([RateLimitError("no"), OverloadedError("no"), ValueError("no")])
failing = st.builds(Fails, errors, st.integers(0, 3).map(float)) | scripts


@settings(max_examples=150)
@given(
    worlds(steps=dict.fromkeys(NAMES, failing)),
    st.sampled_from([ModelError, RateLimitError, (OverloadedError, NoContentError), RefusedError]),
)
def test_only_the_errors_it_is_for_go_to_the_next_arm(
    world: World, on: type[Exception] | tuple[type[Exception], ...]
) -> None:
    """As by hand: arm after arm, until one speaks, or fails with what this is not for."""

    @pipeline
    def chosen(n: int) -> Stream[str]:
        return fallback(one(n), two(n), three(n), on=on)

    simulation = simulate(chosen, world, n=1)
    check_laws(simulation)
    tried = 0
    for name in NAMES:
        script = world.steps[name]
        error, said = _says(script)
        if said:
            assert simulation.value == (None if error else said)
            break
        error = error or NoContentError("silent")
        if not isinstance(error, on):
            assert type(simulation.error) is type(error)
            break
        tried += 1
    else:
        assert isinstance(simulation.error, ArmsFailedError)
    assert len(of(simulation, ArmFailed)) == tried


def _says(script: Script) -> tuple[Exception | None, str]:
    if isinstance(script, Fails):
        return script.error, ""
    assert isinstance(script, Streams)
    return script.error, "".join(str(chunk) for _, chunk in script.chunks)


# --------------------------------------------------------------------------- what examples show


def test_a_refused_arm_says_by_whom_and_what_it_said() -> None:
    said = Streams(((1, "ab"), (1, "c")))
    world = scripted(one=said, two=said, three=said)
    simulation = simulate(picky("fallback", complete())[0], world, n=1)
    error = simulation.error
    assert isinstance(error, ArmsFailedError)
    assert str(error.errors["1:one"]) == "arm 1:one was refused by without_b: 'abc'"
    assert {type(each) for each in error.errors.values()} == {RefusedError}


def test_a_refused_arm_is_cancelled_in_that_instant() -> None:
    world = scripted(one=Streams(((1, "b"), (9, "a"))), two=Hangs(), three=Streams(((4, "c"),)))
    simulation = simulate(picky("race", complete())[0], world, n=1)
    check_laws(simulation)
    assert simulation.value == "c"
    simulation = simulate(picky("race", first_content())[0], world, n=1)
    check_laws(simulation)
    stopped = next(e for e in of(simulation, StepCancelled) if e.step == "one")  # type: ignore[union-attr]
    assert stopped.at_s == 1


def fussy(said: str) -> bool:
    raise LookupError(said)


@pipeline
def asks_the_fussy(n: int) -> str:
    return fallback(value_one(n), value_two(n), validate=fussy, on=LookupError)


def test_what_validate_raises_is_the_error_of_the_arm() -> None:
    simulation = simulate(asks_the_fussy, World(), n=1)
    check_laws(simulation)
    assert isinstance(simulation.error, ArmsFailedError)
    assert {type(error) for error in simulation.error.errors.values()} == {LookupError}


@step
async def numbered(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


@pipeline
def long_enough(n: int) -> Stream[int]:
    return race(numbered(n), validate=lambda said: len(said) > 2, commit=complete())


def test_chunks_that_are_no_text_are_validated_as_a_list() -> None:
    assert simulate(long_enough, World(), n=3).value == [0, 1, 2]
    error = simulate(long_enough, World(), n=2).error
    assert isinstance(error, ArmsFailedError)
    assert "was refused by long_enough.<locals>.<lambda>: [0, 1]" in str(error)


@pipeline
def limited(n: int) -> str:
    return fallback(value_one(n), value_two(n), on=ModelError)


def test_an_error_that_no_arm_is_for_is_the_runs_own_and_blames_its_step() -> None:
    world = scripted(value_one=Fails(ValueError("a bug"), 2), value_two=Gives("never"))
    simulation = simulate(limited, world, n=1)
    check_laws(simulation)
    assert isinstance(simulation.error, ValueError)
    last = simulation.events[-1]
    assert isinstance(last, RunFailed)
    assert (last.step, last.at_s) == ("value_one", 2)
    assert [e.step for e in of(simulation, StepSkipped)] == ["value_two"]  # type: ignore[union-attr]
    assert not of(simulation, ArmFailed)


@pytest.mark.parametrize("kind", ["race", "fallback"])
def test_the_winner_is_not_asked_again(kind: str) -> None:
    """Once, and never of a loser behind the commit."""
    asked: list[str] = []

    def accepts(said: str) -> bool:
        asked.append(said)
        return True

    @pipeline
    def chosen(n: int) -> Stream[str]:
        return (race if kind == "race" else fallback)(one(n), two(n), validate=accepts)

    said = Streams(((1, "a"), (1, "b")))
    simulate(chosen, scripted(one=said, two=said), n=1)
    assert asked == ["a"]
