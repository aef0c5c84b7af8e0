"""Several runs of several callers in one simulation: what policies do where runs meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from orchestra import Stream, pipeline, race, step
from orchestra.accounts import Caller
from orchestra.config.reading import read
from orchestra.errors import (
    BudgetExceededError,
    CheckError,
    DefinitionError,
    InputError,
    LimitExceededError,
    LimitReachedError,
    RunCancelledError,
)
from orchestra.graph.rules.policy import Limits
from orchestra.steps import generate
from orchestra.testing.deployed import deployed
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Gives, Hangs
from orchestra.testing.simulate import HangError, Simulation, simulate
from orchestra.testing.strategies import moments, schedules
from orchestra.testing.together import Start, simulate_all
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import ScriptedModel, World

GPT = '[models.gpt]\nprovider = "openai"\nmodel = "gpt-5.4-mini"\n'
SHARED = read(GPT + "coalesce = true\ncache = { ttl_s = 2 }\n", Path("orchestra.toml"))
MONEY = read(
    GPT + 'prices = { input = 1, output = 10 }\n[budgets.user]\nday = "0.022"\n',  # of two calls
    Path("orchestra.toml"),
)
ONE_EACH = read(GPT + "[limits.user]\nconcurrency = 1\nwait_max_s = 2\n", Path("orchestra.toml"))
ADA, BOB, OTHER = Caller("acme", "ada"), Caller("acme", "bob"), Caller("globex", "ada")
WHY = {"question": "Why?"}
YES = ScriptedModel.saying("yes", every_s=1)


@pipeline
def ask(question: str) -> Stream[str]:
    return generate(question, model="gpt", output_tokens_max=1000)


@step
async def slow(n: int) -> int:
    raise NotImplementedError(n)


@pipeline
def one(n: int) -> int:
    return slow(n)


@pipeline
def other(n: int) -> int:
    return slow(one(n))


def starts(most: int, *, cancels: bool = True) -> st.SearchStrategy[list[Start]]:
    cancelled = st.none() | moments(2) if cancels else st.none()
    inputs = st.fixed_dictionaries({"question": st.sampled_from(["Why?", "How?"])})
    callers = st.sampled_from([ADA, BOB, OTHER])
    each = st.builds(Start, st.just(ask), inputs, callers, at_s=moments(4), cancel_at_s=cancelled)
    return st.lists(each, max_size=most)


def shared(asked: list[Start], schedule: int) -> list[Simulation[Any]]:
    """With a cache and coalescing, and each answer of the model another."""
    model = ScriptedTurns.saying(*map(str, range(6)), every_s=1)
    return simulate_all(asked, World(models=deployed(SHARED, {"gpt": model}), schedule=schedule))


@given(starts(4), schedules())
def test_no_tenant_sees_anothers_answer_and_each_run_keeps_the_laws(
    asked: list[Start], schedule: int
) -> None:
    whose: dict[object, str] = {}
    for start, run in zip(asked, shared(asked, schedule), strict=True):
        check_laws(run)
        assert run.error is None or isinstance(run.error, RunCancelledError)
        if run.error is None:
            assert whose.setdefault(run.value, start.caller.tenant) == start.caller.tenant


@given(schedules())
def test_equal_worlds_and_starts_give_equal_events(schedule: int) -> None:
    asked = [Start(ask, WHY, ADA), Start(ask, WHY, BOB), Start(ask, WHY, OTHER)]
    first, again = shared(asked, schedule), shared(asked, schedule)
    assert [run.events for run in first] == [run.events for run in again]


@given(starts(6, cancels=False), schedules())
def test_a_budget_for_two_admits_exactly_two_of_each_user(
    asked: list[Start], schedule: int
) -> None:
    models = deployed(MONEY, {"gpt": ScriptedModel.saying("a" * 3000, every_s=1)})
    runs = simulate_all(asked, World(models=models, schedule=schedule))
    for caller in (ADA, BOB, OTHER):
        mine = [run for start, run in zip(asked, runs, strict=True) if start.caller == caller]
        refused = [run for run in mine if isinstance(run.error, BudgetExceededError)]
        assert len(mine) - len(refused) == min(2, len(mine))


@given(moments(4), st.none() | moments(4), schedules())
def test_one_run_is_as_by_itself_from_its_own_moment_on(
    at_s: float, cancel_at_s: float | None, schedule: int
) -> None:
    world = World(models={"gpt": YES}, schedule=schedule)
    alone = simulate(ask, attrs.evolve(world, cancel_at_s=cancel_at_s), question="Why?")
    start = Start(ask, {"question": "Why?"}, at_s=at_s, cancel_at_s=cancel_at_s)
    (run,) = simulate_all([start], world)
    assert run.events == alone.events
    assert (run.value, type(run.error)) == (alone.value, type(alone.error))
    assert (run.lasted_s, run.world, run.lane_peak) == (
        alone.lasted_s,
        alone.world,
        alone.lane_peak,
    )
    assert simulate_all([], world) == []


@pipeline(deadline_s=1.3)
def bounded(n: int) -> int:
    return race(slow(n), slow(n), slow(n), stagger_s=0.1)


LATER = st.floats(0, 1000)


@given(LATER, st.none() | st.floats(0, 2), st.floats(0, 2))
@example(0.4, None, 1.0)  # 0.4 + 0.1 - 0.4 is less than 0.1: an arm seems early
@example(1.5, None, 5.0)  # ... and so does the end of a run by its deadline
@example(0.4, None, 5.0)  # 0.4 + 1.3 - 0.4 is more than 1.3: a run seems late
@example(0.2, 0.1, 1.0)  # ... and one that is cancelled
def test_the_laws_hold_wherever_the_moment_of_a_start_is_rounded(
    at_s: float, cancel_at_s: float | None, after_s: float
) -> None:
    starts = [Start(bounded, {"n": 1}, at_s=at_s, cancel_at_s=cancel_at_s)]
    for run in simulate_all(starts, World(steps={"slow": Gives(1, after_s)})):
        check_laws(run)


def test_runs_meet_at_the_limits_of_their_callers() -> None:
    models = deployed(ONE_EACH, {"gpt": ScriptedModel.saying("yes", every_s=5)})
    why = {"question": "Why?"}
    begun = [Start(ask, why, ADA), Start(ask, why, ADA, at_s=1), Start(ask, why, BOB, at_s=1)]
    first, second, of_bob = simulate_all(begun, World(models=models))
    assert (first.value, of_bob.value) == ("yes", "yes")
    assert isinstance(second.error, LimitReachedError)
    assert second.lasted_s == 2


def test_a_script_is_for_the_steps_of_all_pipelines_and_for_one_at_least() -> None:
    begun = [Start(one, {"n": 1}), Start(other, {"n": 1})]
    steps = {"slow": Gives(7, after_s=1), "one/slow": Gives(5, after_s=3)}
    first, second = simulate_all(begun, World(steps=steps))
    assert (first.value, first.lasted_s) == (7, 1)
    assert (second.value, second.lasted_s) == (7, 4)
    with pytest.raises(
        DefinitionError, match="not a step of 'one' or 'other'; their steps are: one/"
    ):
        simulate_all(begun, World(steps={"swift": Gives(7)}))


def test_times_are_for_the_hedged_races_of_one_at_least() -> None:
    @pipeline
    def hedged(question: str) -> Stream[str]:
        arms = (generate(question, model="gpt"), generate(question, model="gpt"))
        return race(*arms, hedge_at=0.9)

    begun = [Start(ask, {"question": "?"}), Start(hedged, {"question": "?"})]
    world = World(models={"gpt": YES}, hedged={"race": [0.1] * 100})
    assert [run.value for run in simulate_all(begun, world)] == ["yes", "yes"]
    with pytest.raises(DefinitionError, match="'ask' or 'hedged'; their hedged races are: race"):
        simulate_all(begun, attrs.evolve(world, hedged={"race#2": [0.1]}))


def test_a_task_that_is_left_is_told_of_each() -> None:
    @step
    async def leaves(n: int) -> int:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        return n

    @pipeline
    def careless(n: int) -> int:
        return leaves(n)

    runs = simulate_all([Start(careless, {"n": 1}), Start(careless, {"n": 2}, at_s=1)])
    assert [run.tasks_left for run in runs] == [2, 2]


PLAIN = World(models={"gpt": YES})


@pytest.mark.parametrize(
    ("begun", "world", "kind", "told"),
    [
        ([ask], PLAIN, DefinitionError, r"write simulate_all\(\[Start\(pipeline"),
        ([Start(ask, {})] * 2, PLAIN, InputError, "question"),
        ([Start(ask, WHY)], World(), CheckError, "no model 'gpt'"),
        ([Start(ask, WHY)], World(caller=ADA), DefinitionError, r"Start\(..., caller=Caller\('ac"),
        ([Start(ask, WHY)], World(cancel_at_s=1), DefinitionError, r"cancel_at_s=1\)$"),
        ([Start(one, {"n": 1})] * 2, World(steps={"slow": Hangs()}), HangError, "slow"),
        (
            [Start(ask, WHY)] * 3,
            attrs.evolve(PLAIN, limits=Limits(runs=1)),
            LimitExceededError,
            "1 runs are in flight",
        ),
    ],
)
def test_what_cannot_be_simulated_is_told(
    begun: Any, world: World, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        simulate_all(begun, world)


def test_what_is_no_start_is_refused_where_it_is_made() -> None:
    for at_s in (-1, None, float("inf"), 1e6):
        with pytest.raises(ValueError, match="it must be"):
            Start(ask, WHY, at_s=at_s)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="is not a pipeline"):
        Start(slow, WHY)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a dict with names as keys"):
        Start(ask, "Why?")  # type: ignore[arg-type]


def test_a_failing_example_tells_the_starts_and_the_events_of_all_runs() -> None:
    @settings(database=None, phases=[Phase.generate, Phase.shrink], max_examples=200)
    @given(starts(4))
    def law(asked: list[Start]) -> None:
        models = deployed(SHARED, {"gpt": YES})
        runs = simulate_all(asked, World(models=models))
        shared = {e.type for run in runs for e in run.events} & {"step.coalesced", "step.cached"}
        assert not shared

    with pytest.raises(AssertionError) as caught:
        law()
    told = "\n".join(caught.value.__notes__)
    assert "Start(ask, {'question': 'Why?'}, Caller('acme', 'ada'))," in told
    assert "the runs by their places in the list, in virtual seconds:\n    0  0 s  run.st" in told
    assert "    1  0 s  run.started    pipeline='ask'\n" in told
    assert "    1  0 s  step.started   generate\n" in told
    start = Start(ask, WHY, OTHER, at_s=1.5, cancel_at_s=2)
    written = "Start(ask, {'question': 'Why?'}, Caller('globex', 'ada'), at_s=1.5, cancel_at_s=2)"
    assert repr(start) == written
    assert eval(written, globals()) == start
