"""Choices: content decides, the losers are closed at that moment, and nothing is spliced."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import Pipeline, Stream, collect, each, fallback, pipeline, race, route, step
from orchestra.errors import ArmsFailedError, NoContentError, RouteError
from orchestra.events import (
    ArmCommitted,
    ArmFailed,
    Event,
    RunFailed,
    StepCancelled,
    StepFailed,
    StepSkipped,
)
from orchestra.graph.rules.commits import FIRST_CONTENT, Chars, Chunks, Commit, Complete
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Fails, Gives, Hangs, Script, Streams
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import narrow_limits, schedules, worlds
from orchestra.testing.world import World
from orchestra.values import Label
from tests.engine.steps import both, numbers, says, waits


def of(simulation: Simulation, *kinds: type[Event]) -> list[Event]:
    return [event for event in simulation.events if isinstance(event, kinds)]


# ---------------------------------------------------- three arms that do what a script tells them


@step
async def one(n: int) -> AsyncIterator[str]:
    yield "scripted"


@step
async def two(n: int) -> AsyncIterator[str]:
    yield "scripted"


@step
async def three(n: int) -> AsyncIterator[str]:
    yield "scripted"


@step
async def value_one(n: int) -> str:
    return "scripted"


@step
async def value_two(n: int) -> str:
    return "scripted"


@step
async def value_three(n: int) -> str:
    return "scripted"


@pipeline
def race_streams(n: int) -> Stream[str]:
    return race(one(n), two(n), three(n))


@pipeline
def race_staggered(n: int) -> Stream[str]:
    return race(one(n), two(n), three(n), stagger_s=2)


@pipeline
def race_values(n: int) -> str:
    return race(value_one(n), value_two(n), value_three(n))


@pipeline
def fall_back(n: int) -> Stream[str]:
    return fallback(one(n), two(n), three(n))


@pipeline
def fall_back_values(n: int) -> str:
    return fallback(value_one(n), value_two(n), value_three(n))


ticks = st.integers(0, 4).map(float)
errors = st.none() | st.just(ValueError("scripted"))
scripts = st.builds(
    Streams,
    st.lists(st.tuples(ticks, st.sampled_from(["", "", "a", "b"])), max_size=4).map(tuple),
    errors,
    ticks,
)
value_scripts = st.builds(Gives, st.sampled_from("abc"), ticks) | st.builds(
    Fails, st.just(ValueError("scripted")), ticks
)
three_scripts = {"one": scripts, "two": scripts, "three": scripts}


@attrs.frozen
class Arm:
    """What a script means for a choice, from the moment its arm is started."""

    content_s: float | None
    """When it has content; None if it fails before."""
    failure_s: float
    """When it fails, if it has no content."""
    said: str
    """What it says from its content on."""
    fails: bool
    """Whether it fails after its content."""
    ends_s: float


def enough(rule: Commit, said: list[str]) -> bool:
    """Whether an arm has said enough, by hand."""
    match rule:
        case Chunks(count):
            return len([chunk for chunk in said if chunk]) >= count
        case Chars(count):
            return len("".join(said)) >= count
        case Complete():
            return False
    return any(said)


def anything(_: str) -> bool:
    return True


def arm(
    script: Streams | Gives | Fails,
    rule: Commit = FIRST_CONTENT,
    accepts: Callable[[str], bool] = anything,
) -> Arm:
    if isinstance(script, Gives):
        content = script.after_s if accepts(str(script.value)) else None
        return Arm(content, script.after_s, str(script.value), False, script.after_s)
    if isinstance(script, Fails):
        return Arm(None, script.after_s, "", True, script.after_s)
    at_s, content_s = 0.0, None
    said: list[str] = []
    for after_s, chunk in script.chunks:
        at_s += after_s
        said.append(str(chunk))
        if content_s is None and enough(rule, said):
            content_s = at_s
            if not accepts("".join(said)):
                return Arm(None, at_s, "", True, at_s)
    end_s = at_s + script.end_s
    if content_s is None and any(said) and script.error is None:
        content_s = end_s
        if not accepts("".join(said)):
            return Arm(None, end_s, "", True, end_s)
    return Arm(content_s, end_s, "".join(said), script.error is not None, end_s)


@attrs.frozen
class Outcome:
    """What a choice comes to: the winners that the schedule may choose among, or the failure."""

    winners: dict[int, float]
    """The arms that may win, each with its start."""
    at_s: float
    """When it commits, or fails."""


def foreseen(arms: list[Arm], stagger_s: float) -> Outcome:
    """By hand: an arm after the other, as long as nobody has won."""
    starts: list[float] = []
    contents: dict[int, float] = {}
    failures: list[float] = []
    start_s = 0.0
    for number, one in enumerate(arms):
        if number:
            all_failed_s = max(failures) if len(failures) == number else float("inf")
            start_s = min(start_s + stagger_s, all_failed_s)
        if contents and min(contents.values()) < start_s:
            break
        starts.append(start_s)
        if one.content_s is None:
            failures.append(start_s + one.failure_s)
        else:
            contents[number] = start_s + one.content_s
    if not contents:
        return Outcome({}, max(failures))
    win_s = min(contents.values())
    return Outcome({n: starts[n] for n, at_s in contents.items() if at_s == win_s}, win_s)


def agrees(simulation: Simulation, arms: list[Arm], stagger_s: float) -> None:
    check_laws(simulation)
    outcome = foreseen(arms, stagger_s)
    commits = of(simulation, ArmCommitted)
    if not outcome.winners:
        assert not commits
        assert isinstance(simulation.error, ArmsFailedError)
        assert len(simulation.error.errors) == len(arms)
        assert list(simulation.error.errors) == [e.arm for e in of(simulation, ArmFailed)]  # type: ignore[union-attr]
        assert simulation.lasted_s == outcome.at_s
        return
    (commit,) = commits
    assert isinstance(commit, ArmCommitted)
    winner = int(commit.arm.partition(":")[0]) - 1
    assert winner in outcome.winners
    assert commit.at_s == outcome.at_s
    won = arms[winner]
    assert (simulation.error is not None) == (won.content_s is not None and won.fails)
    assert simulation.value == (None if won.fails else won.said)
    assert simulation.lasted_s == outcome.winners[winner] + won.ends_s


@settings(max_examples=400)
@given(worlds(steps=three_scripts), st.sampled_from(["race", "staggered", "fallback"]))
def test_a_choice_of_streams_is_made_as_by_hand_and_nothing_is_spliced(
    world: World, kind: str
) -> None:
    """Ties, losers and winners that fail, empty chunks and empty streams: all drawn."""
    chosen, stagger_s = {
        "race": (race_streams, 0.0),
        "staggered": (race_staggered, 2.0),
        "fallback": (fall_back, float("inf")),
    }[kind]
    arms = [arm(world.steps[name]) for name in ("one", "two", "three")]  # type: ignore[arg-type]
    agrees(simulate(chosen, world, n=1), arms, stagger_s)


@settings(max_examples=200)
@given(
    worlds(steps={f"value_{name}": value_scripts for name in ("one", "two", "three")}),
    st.booleans(),
)
def test_a_choice_of_values_is_made_as_by_hand(world: World, falls: bool) -> None:
    arms = [arm(world.steps[f"value_{name}"]) for name in ("one", "two", "three")]  # type: ignore[arg-type]
    chosen, stagger_s = (fall_back_values, float("inf")) if falls else (race_values, 0.0)
    agrees(simulate(chosen, world, n=1), arms, stagger_s)


@settings(max_examples=200)
@given(
    worlds(
        steps={**three_scripts, "three": st.just(Hangs())}, cancels=True, limits=narrow_limits()
    ),
    st.sampled_from([race_streams, race_staggered, fall_back]),
)
def test_a_choice_can_be_cancelled_between_its_commit_and_its_first_chunk(
    world: World, chosen: Pipeline[..., object]
) -> None:
    check_laws(simulate(chosen, world, n=1))


# --------------------------------------------------------------------------- what examples show


def scripted(**steps: Script) -> World:
    return World(steps=steps)


def test_an_arm_that_says_nothing_fails_and_says_so() -> None:
    quiet = Streams(((1, ""), (1, "")))
    simulation = simulate(fall_back, scripted(one=quiet, two=quiet, three=quiet), n=1)
    assert isinstance(simulation.error, ArmsFailedError)
    assert all(isinstance(e, NoContentError) for e in simulation.error.errors.values())
    assert str(simulation.error) == (
        "every arm of 'fallback' failed:\n"
        "  1:one: NoContentError: arm 1:one ended without any content\n"
        "  2:two: NoContentError: arm 2:two ended without any content\n"
        "  3:three: NoContentError: arm 3:three ended without any content"
    )


def test_what_an_arm_said_before_it_failed_without_content_is_dropped() -> None:
    failing = Streams(((1, ""), (1, "")), ValueError("cut"))
    simulation = simulate(fall_back, scripted(one=failing, two=Streams(((1, "b"),))), n=1)
    check_laws(simulation)
    assert simulation.value == "b"


def test_a_winner_that_fails_after_its_content_fails_the_choice() -> None:
    cut = Streams(((1, "a"),), ValueError("cut"), 1)
    simulation = simulate(race_streams, scripted(one=cut, two=Hangs(), three=Hangs()), n=1)
    check_laws(simulation)
    assert isinstance(simulation.error, ValueError)
    assert simulation.lasted_s == 2
    assert isinstance(simulation.events[-1], RunFailed)
    assert simulation.events[-1].step == "one", "the race only passed it on"


@given(schedules())
def test_an_arm_that_has_failed_is_not_committed_to(schedule: int) -> None:
    """Its value is there in the instant in which a step beside it fails."""
    news: list[trio.Event] = []

    @step
    async def source(n: int) -> AsyncIterator[str]:
        news.append(trio.Event())
        yield str(n)
        await news[0].wait()
        raise ValueError("the source broke")

    @step
    async def hasty(chunks: Stream[str]) -> str:
        async for chunk in chunks:
            await news[0].wait()
            return chunk
        return ""

    @step
    async def healthy(n: int) -> str:
        await trio.sleep(1)
        news[0].set()
        await trio.sleep(1)
        return "healthy"

    @pipeline
    def raced(n: int) -> str:
        return race(hasty(source(n)), healthy(n))

    run = simulate(raced, World(schedule=schedule), n=1)
    check_laws(run)
    failed = [event for event in run.events if isinstance(event, StepFailed)]
    assert run.value == ("healthy" if failed else "1")


def test_a_loser_says_whom_it_lost_to() -> None:
    world = scripted(one=Streams(((1, "a"), (5, "b"))), two=Streams(((3, "b"),)))
    simulation = simulate(race_staggered, world, n=1)
    (lost,) = of(simulation, StepCancelled) or of(simulation, StepSkipped)[:1]
    reasons = {e.reason for e in of(simulation, StepCancelled, StepSkipped)}  # type: ignore[union-attr]
    assert reasons == {"1:one was committed to"}
    assert lost.at_s == 1


@given(schedules())
def test_of_two_arms_with_content_in_one_moment_one_wins_and_the_other_says_nothing(
    schedule: int,
) -> None:
    world = World(
        schedule=schedule,
        steps={name: Streams(((1, name[0]), (1, name[0]))) for name in ("one", "two", "three")},
    )
    simulation = simulate(race_streams, world, n=1)
    check_laws(simulation)
    assert simulation.value in ("oo", "tt")


# --------------------------------------------------------------------------------------- nested


@pipeline
def nested(n: int) -> Stream[str]:
    shared = numbers(n, every_s=1)
    inner = race(shared, fallback(one(n), two(n)), stagger_s=1)
    return race(inner, each(three(n), says, at_once=2), stagger_s=0.5)


@settings(max_examples=200)
@given(worlds(steps=three_scripts, limits=narrow_limits()), st.none() | ticks)
def test_choices_in_choices_keep_the_laws(world: World, cancel_at_s: float | None) -> None:
    check_laws(simulate(nested, attrs.evolve(world, cancel_at_s=cancel_at_s), n=3))


@step
async def item_list(n: int) -> list[int]:
    return list(range(n))


@step
async def odd_fails(item: int) -> str:
    await trio.sleep(1)
    if item % 2:
        raise ValueError(f"item {item}")
    return f"odd {item}"


@pipeline
def chosen_for_each(n: int) -> list[str]:
    def body(item: int) -> str:
        return fallback(odd_fails(item), both(waits(item, for_s=1), "second"))

    return each(item_list(n), body, at_once=3)


@given(schedules())
def test_every_item_makes_its_own_choice_and_is_blamed_for_its_own_errors(schedule: int) -> None:
    simulation = simulate(chosen_for_each, World(schedule=schedule), n=6)
    check_laws(simulation)
    assert simulation.value == ["odd 0", "1|second", "odd 2", "3|second", "odd 4", "5|second"]


# ---------------------------------------------------------------------------------------- routes


@step
async def labelled(n: int) -> Label:
    return Label(f"arm {n}", 1.0)


@pipeline
def route_label(n: int) -> Stream[str]:
    return route(labelled(n), {"arm 1": one(n), "arm 2": two(n)}, default=three(n))


@pipeline
def route_strictly(n: int) -> str:
    return collect(route(labelled(n), {"arm 1": one(n), "arm 2": two(n)}))


@given(worlds(steps=three_scripts), st.integers(0, 3))
def test_a_route_is_the_arm_that_its_label_is_for_and_the_others_never_start(
    world: World, n: int
) -> None:
    simulation = simulate(route_label, world, n=n)
    check_laws(simulation)
    name = {1: "one", 2: "two"}.get(n, "three")
    script = world.steps[name]
    assert isinstance(script, Streams)
    if script.error is None:
        assert simulation.value == "".join(str(chunk) for _, chunk in script.chunks)
    else:
        assert simulation.error is script.error
    skipped = {e.step: e.reason for e in of(simulation, StepSkipped)}  # type: ignore[union-attr]
    assert set(skipped) == {"one", "two", "three"} - {name}
    (reason,) = set(skipped.values())
    assert reason.startswith("the route took ")
    assert {"one": "arm 1", "two": "arm 2", "three": "default"}[name] in reason


def test_a_label_without_an_arm_is_an_error_that_lists_the_arms() -> None:
    with pytest.raises(
        RouteError, match="'route' was given 'arm 7', but has arms only for 'arm 1', "
    ):
        raise simulate(route_strictly, World(), n=7).error or AssertionError("it found an arm")
