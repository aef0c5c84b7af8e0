"""Commit rules: until one is met an arm may fail freely, and nobody sees what it has said."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import (
    Limits,
    Pipeline,
    Stream,
    chars,
    chunks,
    complete,
    each,
    fallback,
    first_content,
    pipeline,
    race,
    step,
)
from orchestra.engine.lanes.arm_buffer import ArmBuffer
from orchestra.errors import (
    ArmsFailedError,
    DefinitionError,
    EdgeTypeError,
    LimitExceededError,
    NoContentError,
)
from orchestra.events import ArmCommitted, ArmFailed, Delta, StepCancelled
from orchestra.graph.rules.commits import FIRST_CONTENT, Chars, Chunks, Commit, Complete
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Fails, Gives, Hangs, Streams
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import narrow_limits, worlds
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
)
from tests.testing.sketches.drawing import commits

rules = commits()


def choosing(kind: str, rule: Commit) -> tuple[Pipeline[..., object], float]:
    """A choice of three streams under a rule, and the time between their starts."""

    @pipeline
    def chosen(n: int) -> Stream[str]:
        arms = one(n), two(n), three(n)
        if kind == "fallback":
            return fallback(*arms, commit=rule)
        return race(*arms, commit=rule, stagger_s=2.0 if kind == "staggered" else 0.0)

    return chosen, {"race": 0.0, "staggered": 2.0, "fallback": float("inf")}[kind]


kinds = st.sampled_from(["race", "staggered", "fallback"])
three_scripts = {"one": scripts, "two": scripts, "three": scripts}


@settings(max_examples=200)
@given(worlds(steps=three_scripts), kinds, rules)
def test_under_every_rule_a_choice_is_made_as_by_hand_and_nothing_is_spliced(
    world: World, kind: str, rule: Commit
) -> None:
    """The answer is one arm's own, from its first content to its end; or one typed error."""
    chosen, stagger_s = choosing(kind, rule)
    arms = [arm(world.steps[name], rule) for name in ("one", "two", "three")]  # type: ignore[arg-type]
    agrees(simulate(chosen, world, n=1), arms, stagger_s)


@settings(max_examples=200)
@given(worlds(steps=three_scripts, cancels=True, limits=narrow_limits()), kinds, rules)
def test_what_is_held_can_be_cancelled_at_any_moment(world: World, kind: str, rule: Commit) -> None:
    check_laws(simulate(choosing(kind, rule)[0], world, n=1))


@given(st.lists(st.sampled_from(["", "a", "bc"]), max_size=8), rules)
def test_what_is_held_is_what_was_said_from_the_first_content_on(
    said: list[str], rule: Commit
) -> None:
    held = ArmBuffer("1:one", rule, Limits())
    met = [held.add(chunk) for chunk in said]
    first = next((place for place, chunk in enumerate(said) if chunk), len(said))
    assert held.chunks == said[first:]
    assert met == sorted(met), "what was enough stays enough"


# --------------------------------------------------------------------------- what examples show


def test_an_arm_that_is_cut_after_some_content_is_replaced_as_a_whole() -> None:
    """The 200 that turns into an error: nothing of it was seen, and the second answer is whole."""
    cut = Streams(((1, "Pa"), (1, "ri")), ValueError("cut"), 1)
    world = scripted(one=cut, two=Streams(((1, "Par"), (1, "is"))))
    simulation = simulate(choosing("fallback", complete())[0], world, n=1)
    check_laws(simulation)
    assert simulation.value == "Paris"
    assert [event.chunk for event in simulation.events if isinstance(event, Delta)] == ["Par", "is"]
    (failed,) = of(simulation, ArmFailed)
    (commit,) = of(simulation, ArmCommitted)
    assert (failed.at_s, commit.at_s) == (3, 5)


def test_at_the_commit_the_losers_are_cancelled_in_that_instant() -> None:
    world = scripted(
        one=Streams(((1, "a"), (9, "b"))), two=Streams(((2, "c"), (1, "d"))), three=Hangs()
    )
    simulation = simulate(choosing("race", chunks(2))[0], world, n=1)
    check_laws(simulation)
    assert simulation.value == "cd"
    assert {event.at_s for event in of(simulation, StepCancelled)} == {3}


@pytest.mark.parametrize(
    ("rule", "at_s"), [(first_content(), 1), (chunks(2), 3), (chars(4), 5), (complete(), 9)]
)
def test_each_rule_says_when(rule: Commit, at_s: float) -> None:
    said = Streams(((1, "a"), (1, ""), (1, "bb"), (2, "c")), None, 4)
    simulation = simulate(choosing("fallback", rule)[0], scripted(one=said), n=1)
    (commit,) = of(simulation, ArmCommitted)
    assert commit.at_s == at_s
    first = next(event for event in simulation.events if isinstance(event, Delta))
    assert first.at_s == at_s
    assert simulation.value == "abbc"


@pytest.mark.parametrize("rule", [chunks(5), chars(5), complete()])
def test_a_short_answer_that_ends_well_is_committed_to_at_its_end(rule: Commit) -> None:
    said = Streams(((1, "ok"),), None, 2)
    simulation = simulate(
        choosing("race", rule)[0], scripted(one=said, two=Hangs(), three=Hangs()), n=1
    )
    assert (simulation.value, simulation.lasted_s) == ("ok", 3)


def test_silence_is_no_complete_answer() -> None:
    quiet = Streams(((1, ""), (1, "")))
    world = scripted(one=quiet, two=quiet, three=quiet)
    error = simulate(choosing("fallback", complete())[0], world, n=1).error
    assert isinstance(error, ArmsFailedError)
    assert all(isinstance(each_, NoContentError) for each_ in error.errors.values())


@pytest.mark.parametrize(
    ("limits", "limit"),
    [(Limits(held_chunks=2), "held_chunks"), (Limits(held_bytes=2), "held_bytes")],
)
def test_an_arm_that_says_more_than_may_be_held_has_failed(limits: Limits, limit: str) -> None:
    long = Streams(((1, "a"), (1, "b"), (1, "c"), (1, "d")))
    world = World(limits=limits, steps={"one": long, "two": Streams(((1, "ok"),))})
    simulation = simulate(choosing("fallback", complete())[0], world, n=1)
    check_laws(simulation)
    assert simulation.value == "ok"
    (failed,) = of(simulation, ArmFailed)
    assert isinstance(failed, ArmFailed)
    assert failed.at_s == 3
    assert failed.message == (
        f"arm 1:one gave more than 2 {limit.removeprefix('held_')} before commit=complete() was "
        f"met; commit earlier, or raise Limits({limit}=...)"
    )


def test_a_rule_that_is_met_by_the_last_chunk_that_may_be_held_is_met() -> None:
    held = ArmBuffer("1:one", Chunks(3), Limits(held_chunks=2))
    assert [held.add(chunk) for chunk in "abc"] == [False, False, True]
    with pytest.raises(LimitExceededError) as caught:
        ArmBuffer("1:one", Complete(), Limits(held_bytes=1)).add("ab")
    assert caught.value.limit == "held_bytes"


def test_characters_are_counted_of_text_and_bytes_only() -> None:
    held = ArmBuffer("1:one", Chars(5), Limits())
    assert [held.add(chunk) for chunk in (b"abc", None, "de")] == [False, False, True]
    with pytest.raises(
        EdgeTypeError, match=r"arm 1:one gave 7, an instance of int, but commit=chars\(5\) coun"
    ):
        ArmBuffer("1:one", Chars(5), Limits()).add(7)


@step
async def numbered(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


@pipeline
def counts_numbers(n: int) -> Stream[int]:
    return fallback(numbered(n), each(numbered(n), lambda m: m, at_once=1), commit=chunks(2))


def test_chunks_of_any_type_are_counted() -> None:
    assert simulate(counts_numbers, World(), n=4).value == [0, 1, 2, 3]


@pipeline
def whole_value(n: int) -> str:
    return fallback(value_one(n), "other", commit=complete())


def test_a_value_is_complete_when_it_is_there() -> None:
    assert simulate(whole_value, scripted(value_one=Gives("a", 1)), n=1).value == "a"
    assert (
        simulate(whole_value, scripted(value_one=Fails(ValueError("no"), 1)), n=1).value == "other"
    )


def test_rules_are_values_and_say_how_they_are_written() -> None:
    assert [repr(rule) for rule in (first_content(), chunks(2), chars(80), complete())] == [
        "first_content()",
        "chunks(2)",
        "chars(80)",
        "complete()",
    ]
    assert (first_content(), chunks(2), complete()) == (FIRST_CONTENT, Chunks(2), Complete())


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
def test_a_rule_counts_to_a_whole_number(count: object) -> None:
    says = r"test_commits.py:\d+: chunks\(.*\): the number of chunks that commit to an arm must be"
    with pytest.raises(DefinitionError, match=says):
        chunks(count)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r": chars\("):
        chars(count)  # type: ignore[arg-type]
