"""Hedged races: another arm starts when the first is later than usual, and not too often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import Stream, chunks, collect, each, open_engine, pipeline, prompt, race, step
from orchestra.engine.engine import Engine
from orchestra.engine.run import Run
from orchestra.errors import ArmsFailedError, DeadlineError, DefinitionError
from orchestra.events import Event, StepStarted
from orchestra.graph.pipelines import Pipeline
from orchestra.policies.hedge import BURST, COMMITS_MIN, WINDOW, Seen
from orchestra.protocols import Model, ModelReply
from orchestra.steps import generate
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import schedules, worlds
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Stopped,
    StopReason,
    TextDelta,
)
from tests.engine.regions.test_choose import agrees, arm, one, three, three_scripts, ticks, two
from tests.policies.test_hedge import handed_on

# ------------------------------------------------------------- one race that has learned before


@pipeline
def hedged(n: int) -> Stream[str]:
    return race(one(n), two(n), three(n), hedge_at="p90")


@pipeline
def begun(n: int) -> Stream[str]:
    return race(one(n), two(n), three(n), hedge_at=0.9, stagger_s=2)


known: st.SearchStrategy[list[float]] = st.just([]) | st.lists(
    ticks, min_size=COMMITS_MIN - 1, max_size=40
)


@settings(max_examples=300)
@given(worlds(steps=three_scripts), known, st.booleans())
def test_only_the_starts_are_learned_and_the_result_is_that_of_a_stagger(
    world: World, took_s: list[float], starts: bool
) -> None:
    """The same by-hand account as of every race, with the learned time between the starts."""
    world = attrs.evolve(world, hedged={"race": took_s})
    learned_s = handed_on([Seen(each_s, False, 0.0) for each_s in took_s], 90)
    stagger_s = 2.0 if starts else inf
    if len(took_s) >= COMMITS_MIN and learned_s is not None:
        stagger_s = learned_s
    arms = [arm(world.steps[name]) for name in ("one", "two", "three")]  # type: ignore[arg-type]
    agrees(simulate(begun if starts else hedged, world, n=1), arms, stagger_s)


@given(worlds(steps=three_scripts, cancels=True), known)
def test_a_hedged_race_can_be_cancelled_at_any_moment(world: World, took_s: list[float]) -> None:
    check_laws(simulate(begun, attrs.evolve(world, hedged={"race": took_s}), n=1))


def test_a_world_tells_which_races_can_have_learned() -> None:
    with pytest.raises(DefinitionError, match=r"'rase'.*'hedged'; its hedged races are: race"):
        simulate(hedged, World(hedged={"rase": [1.0]}), n=1)


# --------------------------------------------------------------- many races, one after the other


@step
async def first(took_s: float, fails: bool) -> str:
    await trio.sleep(took_s)
    if fails:
        raise ValueError("first")
    return "first"


@step
async def second(took_s: float, fails: bool) -> str:
    await trio.sleep(took_s)
    if fails:
        raise ValueError("second")
    return "second"


@pipeline
def served(a_s: float, a_fails: bool, b_s: float, b_fails: bool) -> str:
    return race(first(a_s, a_fails), second(b_s, b_fails), hedge_at="p75", hedge_share=0.25)


@attrs.frozen
class Turn:
    """What one race meets."""

    a_s: float
    a_fails: bool
    b_s: float
    b_fails: bool
    deadline_s: float


@attrs.define
class Account:
    """By hand: all that was ever seen, and what is left to spend."""

    seen: list[Seen] = attrs.Factory(list)
    left: float = BURST

    def delay_s(self) -> float:
        kept = self.seen[-WINDOW:]
        if sum(not each.cut for each in kept) < COMMITS_MIN:
            return inf
        learned_s = handed_on(kept, 75)
        assert learned_s is not None
        return learned_s

    def foresee(self, turn: Turn) -> tuple[float | None, str | type[Exception]]:
        """When the second arm starts, and what the result is."""
        self.left = min(BURST, self.left + 0.25)
        delay_s = self.delay_s()
        second_s = turn.a_s if turn.a_fails else inf
        if delay_s < min(turn.a_s, turn.deadline_s) and self.left >= 1:
            self.left -= 1
            second_s = delay_s
        commits = [] if turn.a_fails else [(turn.a_s, "first")]
        commits += [] if turn.b_fails else [(second_s + turn.b_s, "second")]
        failed_s = max(turn.a_s, second_s + turn.b_s)
        outcome: str | type[Exception]
        at_s, outcome = min(commits, default=(failed_s, ArmsFailedError))
        if turn.deadline_s < at_s:
            at_s, outcome = turn.deadline_s, DeadlineError
        took_s = min(turn.a_s, at_s)
        self.seen.append(Seen(took_s, outcome != "first", 0.0))
        return (second_s if second_s < at_s else None), outcome


quarters = st.integers(0, 40).map(lambda n: n / 4)
rarely = st.sampled_from([False, False, False, False, True])
turns = st.builds(Turn, quarters, rarely, quarters, rarely, quarters | st.just(1000.0))


def apart(drawn: list[Turn]) -> list[Turn]:
    """The turns so that nothing of one happens at the same moment as anything else."""
    return [
        attrs.evolve(
            turn, a_s=turn.a_s + n / 4096, b_s=turn.b_s + 1 / 8, deadline_s=turn.deadline_s + 1 / 16
        )
        for n, turn in enumerate(drawn, 1)
    ]


def second_started_s(events: tuple[Event, ...]) -> float | None:
    return next((e.at_s for e in events if isinstance(e, StepStarted) and e.step == "second"), None)


async def outcome_of(run: Run) -> object:
    try:
        return await run.result()
    except (ArmsFailedError, DeadlineError) as error:
        return type(error)


@settings(max_examples=60)
@given(st.lists(turns, min_size=30, max_size=60), schedules())
def test_many_races_are_hedged_as_by_hand(drawn: list[Turn], schedule: int) -> None:
    """What is learned, what is spent, when the second arm starts, and what the result is."""
    account = Account()

    async def main() -> None:
        async with open_engine() as engine:
            for turn in apart(drawn):
                inputs = attrs.asdict(turn)
                run = engine.start(served, inputs, deadline_s=inputs.pop("deadline_s"))
                outcome = await outcome_of(run)
                assert (second_started_s(run.journal.kept), outcome) == account.foresee(turn)

    virtual(main, schedule=schedule)


@settings(max_examples=50)
@given(st.lists(quarters, min_size=60, max_size=120), schedules())
def test_when_all_becomes_slow_at_once_the_load_is_not_doubled(
    pauses_s: list[float], schedule: int
) -> None:
    """Races overlap, and each is later than any before: only the share is hedged, and it is."""

    async def main() -> None:
        async with open_engine() as engine:
            usual = {"a_s": 0.5, "a_fails": False, "b_s": 0.5, "b_fails": False}
            for _ in range(COMMITS_MIN):
                assert await outcome_of(engine.start(served, usual)) == "first"
            runs = []
            for pause_s in pauses_s:
                await trio.sleep(pause_s / 10)
                runs.append(engine.start(served, usual | {"a_s": 30.0, "b_s": 30.0}))
            await engine.wait_idle()
            extra = sum(second_started_s(run.journal.kept) is not None for run in runs)
            assert BURST <= extra <= BURST + 0.25 * len(runs)
            assert {await outcome_of(run) for run in runs} == {"first"}

    virtual(main, schedule=schedule)


@step
async def later(n: int) -> str:
    await trio.sleep(1 if n < COMMITS_MIN else 60)
    return "later"


@step
async def soon(n: int) -> str:
    return "soon"


@pipeline
def answered(n: int) -> str:
    return race(later(n), soon(n), hedge_at="p95")


@pipeline
def listed(turns: list[int]) -> list[str]:
    return each(turns, answered, at_once=1)


def test_a_race_in_a_body_learns_from_item_to_item_and_a_world_begins_anew() -> None:
    for _ in range(2):
        simulation = simulate(listed, World(), turns=list(range(COMMITS_MIN + 2)))
        check_laws(simulation)
        assert simulation.value == ["later"] * COMMITS_MIN + ["soon"] * 2
        assert simulation.lasted_s == COMMITS_MIN + 2


# --------------------------------------------------------------- races that begin with one model


@attrs.define(eq=False)
class Slow(Model):
    """A model that says its first word after some seconds, as often as it is asked."""

    first_s: float
    capabilities = Capabilities()

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        del request
        said = ((self.first_s, TextDelta("word")), (0.0, Stopped(StopReason.END)))
        yield ScriptedModel(said).reply()


def raced(**options: Any) -> Pipeline[..., Stream[str]]:
    """A pipeline of its own, which races a model against another."""

    @pipeline
    def asks(question: str) -> Stream[str]:
        asked = prompt("Say in a word: {question}", question=question)
        return race(generate(asked, model="usual"), generate(question, model="spare"), **options)

    return asks


async def began_spare_after_s(engine: Engine, asks: Pipeline[..., Any]) -> float | None:
    """How long after the first arm the second of a race began; None if it did not."""
    run = engine.start(asks, {"question": "?"})
    await run.result()
    began = {each.step: each.at_s for each in run.journal.kept if isinstance(each, StepStarted)}
    usual, spare = (began.get(name) for name in ("generate", "generate#2"))
    return None if usual is None or spare is None else spare - usual


def test_a_race_that_knows_nothing_yet_uses_what_others_saw_of_its_first_model() -> None:
    """A new pipeline is not cold where its model is known; its own times count once there are enough."""

    async def main() -> None:
        usual = Slow(1.0)
        world = World(models={"usual": usual, "spare": Slow(0.5)})
        async with open_engine(world) as engine:
            known, new = raced(hedge_at="p95"), raced(hedge_at="p95")
            for _ in range(COMMITS_MIN):
                assert await began_spare_after_s(engine, known) is None
            usual.first_s = 9.0
            assert await began_spare_after_s(engine, raced(hedge_at=0.5)) == 1.0
            assert await began_spare_after_s(engine, raced(hedge_at=0.5, commit=chunks(1))) is None
            usual.first_s = 0.25
            for _ in range(COMMITS_MIN):
                assert await began_spare_after_s(engine, new) is None
            usual.first_s = 9.0
            assert await began_spare_after_s(engine, new) == 0.25
            assert await began_spare_after_s(engine, known) == 1.0

    virtual(main)


@pipeline
def of_an_input(question: str) -> str:
    return race(question, collect(generate(question, model="spare")), hedge_at="p95")


@pipeline
def of_a_shared_step(question: str) -> tuple[str, str]:
    said = generate(question, model="usual")
    return (
        collect(race(said, generate(question, model="spare"), hedge_at="p95")),
        collect(said),
    )


@pytest.mark.parametrize(
    ("asks", "answer"), [(of_an_input, "?"), (of_a_shared_step, ("word", "word"))]
)
def test_a_first_arm_may_have_no_step_of_its_own(asks: Pipeline[..., Any], answer: object) -> None:
    """Then the race knows no model."""

    async def main() -> None:
        world = World(models={"usual": Slow(1.0), "spare": Slow(9.0)})
        async with open_engine(world) as engine:
            assert await engine.start(asks, {"question": "?"}).result() == answer

    virtual(main)
