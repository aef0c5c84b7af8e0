"""What is told of a simulated run, where a law of a user's own has failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import nan
from typing import Any, cast

import attrs
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.engine import StatisticsDict
from hypothesis.statistics import collector, describe_statistics

from orchestra import Stream, collect, pipeline, prompt, race, route, step
from orchestra.accounts import Certainty, Usage
from orchestra.events import (
    Delta,
    Event,
    RunFinished,
    RunStarted,
    StepFinished,
    StepSkipped,
    StepStarted,
)
from orchestra.steps import generate
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.timeline import timeline
from orchestra.testing.together import Start, simulate_all
from orchestra.testing.world import ScriptedModel, World


@pipeline
def either(question: str) -> Stream[str]:
    return race(generate(question, model="a"), generate(question, model="b"))


BOTH = World(
    models={
        "a": ScriptedModel.saying("A ", "says so.", every_s=2),
        "b": ScriptedModel.saying("B ", "says so.", every_s=1.5),
    }
)


@given(st.integers(0, 300))
def test_each_event_has_its_line_and_of_many_the_first_and_the_last_are_told(many: int) -> None:
    events = [Delta(seq=seq, at_s=seq / 8, chunk=str(seq)) for seq in range(1, many + 1)]
    lines = timeline(events).splitlines()
    assert len(lines) == min(many, 61)
    told = [int(line.split()[0]) for line in lines if "more" not in line]
    if many > 60:
        assert told == [*range(1, 31), *range(many - 29, many + 1)]
        assert lines[30] == f"      ... {many - 60} more ..."
    else:
        assert told == list(range(1, many + 1))


def test_a_line_tells_number_moment_kind_step_and_what_is_not_as_by_default() -> None:
    assert timeline([StepStarted(2, 0.5, "race")]) == "    2  0.5 s  step.started   race"
    assert timeline([Delta(3, 1.0, "x" * 999)]) == f"    3  1 s  delta          chunk='{'x' * 199}"

    usage = Usage(3, 1, Certainty.ESTIMATED)
    line = timeline([StepFinished(4, 2.0, "generate", 1.0, usage=usage)])
    assert "usage=Usage(input_tokens=3, output_tokens=1, certainty='estimated')" in line


@step
def kind(question: str) -> str:
    return question


@pipeline
def chosen(question: str) -> str:
    asked = {name: prompt("{q}, {name}", q=question, name=name) for name in ("a", "b")}
    ends = {name: collect(generate(arm, model="a")) for name, arm in asked.items()}
    return route(kind(question), ends)


def test_steps_that_are_skipped_together_share_a_line() -> None:
    lines = timeline(simulate(chosen, BOTH, question="a").events).splitlines()
    skipped = [line for line in lines if "step.skipped" in line]
    reason = "reason=\"the route took 'a'\""
    assert skipped == [f"    5  0 s  step.skipped   prompt#2, generate#2, collect#2 {reason}"]
    assert lines[5].startswith("    8  0 s  step.started   prompt")

    many = [StepSkipped(seq, 1.0, f"step#{seq}", "why") for seq in range(1, 90)]
    shown = f"    1  1 s  step.skipped   {', '.join(each.step for each in many)}"
    assert timeline(many) == f"{shown[:127]}... (89 steps) reason='why'"
    assert len(timeline([many[0], attrs.evolve(many[1], reason="other")]).splitlines()) == 2


def test_of_several_runs_each_event_has_its_line_and_skipped_steps_of_two_runs_have_two() -> None:
    events: list[Event] = [
        *(StepStarted(1, 0.0, "a"), StepStarted(1, 0.0, "b")),
        *(StepSkipped(1, 1.0, "c", "why"), StepSkipped(1, 1.0, "d", "why")),
        *(StepSkipped(2, 1.0, "c", "why"), StepSkipped(2, 1.0, "d", "why")),
    ]
    assert timeline(events, several=True).splitlines() == [
        "    1  0 s  step.started   a",
        "    1  0 s  step.started   b",
        "    1  1 s  step.skipped   c, d reason='why'",
        "    2  1 s  step.skipped   c, d reason='why'",
    ]


def test_what_a_run_has_used_of_each_model_is_told_in_short() -> None:
    done = RunFinished(1, 0.0, "", {}, usage_by_model={"fast": Usage(3, 1, Certainty.EXACT)})
    assert timeline([done]).endswith(
        "usage_by_model={'fast': Usage(input_tokens=3, output_tokens=1)}"
    )
    assert "tags" not in timeline([RunStarted(1, 0.0, "id", "either")])


@pytest.mark.parametrize("value", [np.arange(3), nan], ids=["array", "nan"])
def test_what_is_not_equal_to_itself_is_told_and_breaks_no_law(value: object) -> None:
    """An array's `==` has no truth value."""

    @step
    def same_again(chosen: object) -> object:
        return chosen

    @step
    async def streamed(chosen: object) -> AsyncIterator[object]:
        yield chosen

    for one, name in ((same_again, "result"), (streamed, "chunk")):

        @pipeline
        def passed(chosen: object) -> object:
            return one(chosen)

        run = simulate(passed, chosen=value)
        check_laws(run)
        assert f"{name}={value!r}" in timeline(run.events)


def test_a_failing_example_tells_its_run() -> None:
    """Also of a claim of the user's own, which knows nothing of the journal; and not twice."""

    @settings(database=None, phases=[Phase.generate])
    @given(worlds(world=BOTH))
    def claims(world: World) -> None:
        run = simulate(either, world, question="Who?")
        check_laws(run)
        assert run.value == "A says so."

    with pytest.raises(AssertionError) as caught:
        claims()
    told = "\n".join(caught.value.__notes__)
    assert "the run of 'either', in virtual seconds:\n    1  0 s  run.started" in told
    assert "1.5 s  arm.committed  race arm='2:generate'" in told
    assert told.count("run.started") == 1


def test_statistics_count_how_runs_ended() -> None:
    """What `pytest --hypothesis-show-statistics` prints, so that a law about nothing is noticed."""
    told: list[str] = []

    @settings(database=None, phases=[Phase.generate], max_examples=20)
    @given(st.sampled_from([None, 1.0]))
    def ends(cancel_at_s: float | None) -> None:
        simulate(either, attrs.evolve(BOTH, cancel_at_s=cancel_at_s), question="Who?")
        simulate_all([Start(chosen, {"question": "c"})], BOTH)

    def note(statistics: StatisticsDict) -> None:
        told.append(describe_statistics(statistics))

    with cast("Any", collector).with_value(note):
        ends()
    (text,) = told
    for each in ("'either': finished", "'either': RunCancelledError", "'chosen': RouteError"):
        assert each in text


def test_a_broken_law_tells_the_run_only_where_hypothesis_does_not() -> None:
    run = attrs.evolve(simulate(either, BOTH, question="Who?"), tasks_left=1)

    @settings(database=None, phases=[Phase.generate], max_examples=1)
    @given(st.just(run))
    def law(run: Simulation[str]) -> None:
        check_laws(run)

    with pytest.raises(AssertionError, match="nothing_is_left") as caught:
        law()
    assert "run.started" not in str(caught.value)
    with pytest.raises(AssertionError, match="nothing_is_left") as caught:
        check_laws(run)
    assert "run.started" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (ScriptedModel.saying(), "ScriptedModel.saying()"),
        (ScriptedModel.saying("a"), "ScriptedModel.saying('a')"),
        (BOTH.models["a"], "ScriptedModel.saying('A ', 'says so.', every_s=2)"),
        (ScriptedModel(()), "ScriptedModel(())"),
    ],
)
def test_a_model_is_printed_as_it_is_written(model: ScriptedModel, told: str) -> None:
    assert repr(model) == told
    assert eval(told, globals()) == model
