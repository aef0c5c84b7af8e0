"""`judge`: a model names the best answer, one that is there, or says clearly that it did not."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Policy, best_of, pipeline, step
from orchestra.accounts import Usage
from orchestra.annotations import custom_types
from orchestra.errors import DeadlineError, LimitExceededError, OutputError
from orchestra.events import StepFailed, StepFinished, StepRetried
from orchestra.steps import judge
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Fails
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import World
from orchestra.values import JsonOutput, UsageReport


@step
async def first(n: int) -> str:
    return "one"


@step
async def second(n: int) -> dict[str, int]:
    return {"two": n}


@step
async def third(n: int) -> str:
    return "three"


@pipeline
def judged(question: str, n: int) -> object:
    return best_of(first(n), second(n), third(n), judge=partial(judge, question=question))


@pipeline
def bare(question: str, n: int) -> object:
    strict = partial(judge, criteria="short", model="strict", policy=Policy(timeout_s=3))
    return best_of(first(n), second(n), third(n), judge=partial(strict, question=question))


@pipeline
def of_a_list(answers: list[str]) -> int:
    return judge(answers)


def verdict(best: object) -> list[Any]:
    return [json.dumps({"reason": "so", "best": best}), UsageReport(Usage(5, 6))]


def run(
    model: ScriptedTurns, asking: Any = judged, name: str = "default", **world: Any
) -> Simulation:
    done = simulate(asking, World(models={name: model}, **world), question="why?", n=2)
    check_laws(done)
    return done


@given(st.integers(1, 3))
def test_the_answer_that_the_model_names_is_given_untouched(best: int) -> None:
    model = ScriptedTurns.saying(verdict(best))
    done = run(model)
    assert done.value == ["one", {"two": 2}, "three"][best - 1]
    told = [e for e in done.events if isinstance(e, StepFinished) and e.step == "judge"]
    assert [e.usage for e in told] == [Usage(5, 6)]


def test_the_model_sees_the_question_the_criteria_and_every_answer() -> None:
    model = ScriptedTurns.saying(verdict(1))
    run(model)
    (request,) = model.asked
    system, asked = request.messages
    assert (system.role, asked.role) == ("system", "user")
    said = str(asked.content)
    assert said.startswith("The question:\nwhy?\n\nWhich of these 3 answers is the best? What ")
    assert "What counts: correct, complete and clear." in said
    assert '<answer number="2">\n{"two":2}\n</answer>' in said
    assert request.output_tokens_max == 1024
    assert isinstance(request.output, JsonOutput)
    assert request.output.schema is not None
    assert request.output.schema["properties"]["best"] == {"type": "integer", "enum": [1, 2, 3]}


def test_an_answer_that_json_cannot_say_as_it_is_is_shown_all_the_same() -> None:
    model = ScriptedTurns.saying(verdict(1))

    @step
    async def cut(question: str) -> list[str]:
        """What a client has cut in half a character."""
        return [question, "\ud83d"]

    @pipeline
    def halves(question: str) -> object:
        return best_of(cut(question), cut(question), judge=judge)

    done = simulate(halves, World(models={"default": model}), question="why?")
    assert done.value == ["why?", "\ud83d"]
    assert '<answer number="1">\n["why?", "\\ud83d"]\n</answer>' in model.asked[0].messages[-1].text


def test_a_number_that_is_none_is_sent_back_once_and_then_an_error() -> None:
    mended = ScriptedTurns.saying(verdict(7), verdict(3))
    assert run(mended).value == "three"
    assert "best" in str(mended.asked[1].messages[-1].content)
    done = run(ScriptedTurns.saying(verdict(0), verdict(4)))
    assert isinstance(done.error, OutputError)
    assert "best" in str(done.error)
    assert [e.step for e in done.events if isinstance(e, StepFailed)] == ["judge"]


def test_of_those_that_are_left_the_first_is_number_one() -> None:
    failing = {"first": Fails(ValueError("no"))}
    assert run(ScriptedTurns.saying(verdict(1)), steps=failing).value == {"two": 2}


def test_a_process_that_judges_for_long_keeps_no_class_of_each_call() -> None:
    run(ScriptedTurns.saying(verdict(1)))
    kept = custom_types._cached.cache_info().currsize
    run(ScriptedTurns.saying(verdict(1)))
    assert custom_types._cached.cache_info().currsize == kept


def test_a_single_answer_is_the_best_without_asking() -> None:
    failing = {name: Fails(ValueError("no")) for name in ("first", "second")}
    model = ScriptedTurns.saying()
    assert run(model, steps=failing).value == "three"
    assert model.asked == []


def test_it_takes_a_model_criteria_and_a_policy_of_its_own() -> None:
    model = ScriptedTurns.saying(verdict(2))
    assert run(model, bare, "strict").value == {"two": 2}
    said = str(model.asked[0].messages[-1].content)
    assert "What counts: short." in said
    slow = ScriptedTurns.saying(verdict(1), every_s=9.0)
    done = run(slow, bare, "strict")
    assert isinstance(done.error, DeadlineError)
    assert done.lasted_s == 3
    assert not any(isinstance(event, StepRetried) for event in done.events)


@pytest.mark.parametrize("count", [0, 51])
def test_no_answers_and_too_many_are_refused(count: int) -> None:
    world = World(models={"default": ScriptedTurns.saying()})
    done = simulate(of_a_list, world, answers=["a"] * count)
    assert isinstance(done.error, LimitExceededError)
    assert str(done.error) == f"judge was given {count} answers; it compares 1 to 50 of them"
