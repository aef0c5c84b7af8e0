"""A model calls a pipeline as a tool: it runs as a part of the step that asked the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import pytest
import trio

from orchestra import Policy, Stream, pipeline, step
from orchestra.errors import CheckError, DefinitionError
from orchestra.events import StepStarted, ToolFailed
from orchestra.steps import generate, tool
from orchestra.steps.conversation.tools import as_tools
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import World
from orchestra.values import ToolCall


@step
async def found(word: str, most: int, user: str = "") -> str:
    await trio.sleep(1)
    if not word:
        raise ValueError("no word")
    return f"{word} {most}{user}"


@pipeline
def search(word: Annotated[str, "what to look for"], most: int = 3) -> str:
    """Look it up.

    Args:
        most: How many to give.
    """
    return found(word, most)


@pipeline
def search_for(word: str, user: str) -> str:
    """Look up what is the user's."""
    return found(word, 1, user)


@pipeline
def named_alike(context: str) -> str:
    """It has an input of that name."""
    return found(context, 1)


@pipeline
def unknown(text: str) -> Stream[str]:
    """It asks a model that is not there."""
    return generate(text, model="elsewhere")


@pipeline
def answer(question: str, user: str) -> Stream[str]:
    return generate(
        question,
        tools=[search, partial(search_for, user=user), named_alike, unknown],
        policy=Policy(timeout_s=60),
    )


def run(*calls: ToolCall) -> tuple[Simulation[str], ScriptedTurns]:
    model = ScriptedTurns.saying(*calls, "Done.")
    simulation = simulate(answer, World(models={"default": model}), question="?", user="ada")
    check_laws(simulation)
    return simulation, model


def result(model: ScriptedTurns, turn: int = 1) -> str:
    return str(model.asked[turn].messages[-1].parts[0].content)  # type: ignore[union-attr]


def test_a_model_is_told_the_inputs_and_the_docstring_of_a_pipeline() -> None:
    (made,) = as_tools([search])
    assert (made.declaration.name, made.declaration.description) == ("search", "Look it up.")
    assert made.declaration.parameters["properties"] == {
        "word": {"type": "string", "description": "what to look for"},
        "most": {"type": "integer", "default": 3, "description": "How many to give."},
    }
    assert made.required == {"word"}


def test_a_call_runs_the_pipeline_in_the_step_that_asked() -> None:
    simulation, model = run(ToolCall("1", "search", '{"word": "tea"}'))
    assert simulation.value == "Done."
    assert result(model) == "tea 3"
    started = [event.step for event in simulation.events if isinstance(event, StepStarted)]
    assert started == ["generate", "generate[0]/search/found"]


def test_values_of_the_run_are_given_and_hidden() -> None:
    _, model = run(ToolCall("1", "search_for", '{"word": "tea", "user": "bob"}'))
    assert "search_for has no" in result(model) or "do not fit" in result(model)
    _, model = run(ToolCall("1", "search_for", '{"word": "tea"}'))
    assert result(model) == "tea 1ada"


def test_an_input_may_be_called_context() -> None:
    _, model = run(ToolCall("1", "named_alike", '{"context": "tea"}'))
    assert result(model) == "tea 1"


def test_a_pipeline_that_fails_is_told_to_the_model() -> None:
    simulation, model = run(ToolCall("1", "search", '{"word": ""}'))
    assert simulation.value == "Done."
    assert result(model) == "ValueError: no word"
    (failed,) = [event for event in simulation.events if isinstance(event, ToolFailed)]
    assert (failed.tool, failed.error) == ("search", "ValueError")


def test_a_pipeline_with_problems_fails_the_run() -> None:
    """No model can mend them."""
    simulation, _ = run(ToolCall("1", "unknown", '{"text": "tea"}'))
    assert isinstance(simulation.error, CheckError)


def test_a_pipeline_may_be_stopped_by_a_time_of_its_own() -> None:
    @pipeline
    def hurried(question: str) -> Stream[str]:
        return generate(question, tools=[tool(name="look", timeout_s=0.5)(search)])

    model = ScriptedTurns.saying(ToolCall("1", "look", '{"word": "tea"}'), "Done.")
    simulation = simulate(hurried, World(models={"default": model}), question="?")
    check_laws(simulation)
    assert result(model) == "look was not done within 0.5 s, and was stopped"


def test_what_a_model_cannot_give_is_told_where_the_pipeline_is() -> None:
    @pipeline
    def unfit(by: Callable[[int], int]) -> str:
        return found(by, 1)  # type: ignore[arg-type]

    message = r"test_pipeline_tools\.py:\d+: tool 'unfit': its parameter `by: .*` has no form in"
    with pytest.raises(DefinitionError, match=message):
        as_tools([unfit])
