"""A model calls a pipeline as a tool: it runs as a part of the step that asked the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import pytest
import trio

from orchestra import Context, Policy, Stream, collect, injected, open_engine, pipeline, step
from orchestra.compiler.check import check
from orchestra.compiler.plan import named_by, plan
from orchestra.errors import CheckError, DefinitionError
from orchestra.events import StepStarted, ToolFailed
from orchestra.graph.wires import node_of
from orchestra.steps import generate, tool
from orchestra.steps.conversation import calling
from orchestra.steps.conversation.tools import as_tools
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Gives
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import ToolCall, ToolResult


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
def answer(question: str, user: str) -> Stream[str]:
    return generate(
        question,
        tools=[search, partial(search_for, user=user), named_alike],
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


@pipeline
def unknown(text: str) -> Stream[str]:
    """It asks a model that is not there."""
    return generate(text, model="elsewhere")


@pipeline
def clashing(word: str, user: str) -> int:
    """It returns something else than it says."""
    return found(word, 1, user)  # type: ignore[return-value]


@pipeline
def between(text: str, user: str) -> Stream[str]:
    """Its problems are those of its tools."""
    return generate(text, tools=[unknown, tool(partial(clashing, user=user))])


@pipeline
def above(question: str, user: str) -> Stream[str]:
    asked = collect(unknown(question))
    return generate(asked, tools=[search, partial(between, user=user), unknown])


def test_problems_of_pipelines_that_are_tools_are_found_before_the_run_each_once() -> None:
    world = World(models={"default": ScriptedModel.saying("Done.")})
    with pytest.raises(CheckError) as raised:
        simulate(above, world, question="?", user="ada")
    clash, name = raised.value.problems
    assert (clash.code, clash.where) == ("type-clash", clashing.where)
    assert (name.code, name.where) == ("unknown-name", node_of(unknown.output).origin.where)
    assert clash in check(above)


def test_arguments_that_are_no_tools_are_left_alone() -> None:
    class Odd:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

    odd = Odd()

    @step
    async def takes(text: str, what: tuple[object, ...]) -> str:
        return text + str(what)

    @pipeline
    def given(text: str) -> str:
        return takes(text, (odd, text))

    assert check(given) == ()


def test_the_nodes_of_pipelines_that_are_tools_are_among_those_of_the_plan() -> None:
    """By these, a server knows the models that have to be ready, and packages that are missing."""
    names = [name for node in plan(above_all).nodes for _, _, name in named_by(node)]
    assert names == ["default", "default", "elsewhere"]


@pipeline
def between_all(text: str) -> Stream[str]:
    return generate(text, tools=[unknown])


@pipeline
def above_all(question: str) -> Stream[str]:
    return generate(question, tools=[between_all, unknown])


def test_a_world_scripts_the_steps_of_pipelines_that_are_tools() -> None:
    model = ScriptedTurns.saying(ToolCall("1", "search", '{"word": "tea"}'), "Done.")
    world = World(models={"default": model}, steps={"found": Gives("scripted")})
    simulation = simulate(answer, world, question="?", user="ada")
    check_laws(simulation)
    assert result(model) == "scripted"


def test_a_pipeline_with_problems_that_a_tool_runs_fails_the_run() -> None:
    """No model can mend them."""

    async def ask(text: str, *, context: Context = injected) -> str:
        """A function may run any pipeline, so its problems are not known before."""
        return await context.run(unknown, text)

    @pipeline
    def asks(question: str) -> Stream[str]:
        return generate(question, tools=[ask])

    model = ScriptedTurns.saying(ToolCall("1", "ask", '{"text": "tea"}'), "Done.")
    simulation = simulate(asks, World(models={"default": model}), question="?")
    check_laws(simulation)
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


def test_a_function_that_has_something_else_of_that_name_is_no_pipeline() -> None:
    def unfit(word) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001 - which is told
        return str(word)

    unfit.pipeline = "hybrid"  # type: ignore[attr-defined]
    with pytest.raises(DefinitionError, match="tool 'unfit': its parameter 'word' has no annot"):
        as_tools([unfit])


@tool(thread=True)
def shout(word: str) -> str:
    """Say it louder."""
    return word.upper()


@pipeline
def louder(question: str) -> Stream[str]:
    return generate(question, model="inner", tools=[shout])


@tool(thread=True)
def ask(word: str, context: Context = injected) -> str:
    """Ask somebody else."""
    return trio.from_thread.run(context.run, louder, word)


@pipeline
def asks_others(question: str) -> Stream[str]:
    return generate(question, tools=[ask])


def test_a_tools_thread_is_lent_to_the_tools_of_the_pipelines_that_it_runs() -> None:
    """As many such tools as there are threads would otherwise all wait for one more."""
    asked, shouted = (
        [ToolCall(str(number), name, '{"word": "tea"}') for number in range(2)]
        for name in ("ask", "shout")
    )
    models = {
        "default": ScriptedTurns.saying(asked, "Done."),
        "inner": ScriptedTurns.saying(shouted, "TEA", "tea"),
    }

    async def main() -> str:
        async with open_engine(World(models=models)) as engine:
            calling._THREADS.get().places.total_tokens = 1
            with trio.fail_after(10):
                return await engine.run(asks_others, "?")

    assert trio.run(main) == "Done."
    results = [part for message in models["default"].asked[1].messages for part in message.parts]
    assert {each.content for each in results if isinstance(each, ToolResult)} == {"TEA", "tea"}
