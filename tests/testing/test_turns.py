"""A model that is scripted turn by turn keeps the contract, and what it was asked."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Stream, collect, pipeline
from orchestra.answers import Completion
from orchestra.errors import ModelError
from orchestra.protocols import Model
from orchestra.steps import generate, tool
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.turns import ScriptedAnswers, ScriptedTurns
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Message,
    Stopped,
    StopReason,
    TextPart,
    ToolCall,
)

ASKED = ChatRequest((Message("user", "why?"),))
calls = st.builds(ToolCall, st.text(), st.text(min_size=1), st.just("{}"), st.text())


def completions(model: Model, times: int) -> list[Completion]:
    """What a model says to the same question, asked again and again."""

    async def main() -> list[Completion]:
        return [await model.complete(ASKED) for _ in range(times)]

    return virtual(main)


@given(st.lists(st.lists(calls, max_size=3), max_size=3))
def test_each_call_gives_the_next_turn_and_is_kept(turns: list[list[ToolCall]]) -> None:
    model = ScriptedTurns.saying(*turns)
    heard = completions(model, len(turns))
    assert [list(each.tool_calls) for each in heard] == turns
    reasons = [StopReason.TOOL_CALLS if each else StopReason.END for each in turns]
    assert [each.stopped.reason for each in heard] == reasons
    assert model.asked == [ASKED] * len(turns)


def test_a_turn_is_text_or_several_things_and_takes_its_time() -> None:
    model = ScriptedTurns.saying(
        "a",
        ["b", "c", Stopped(StopReason.LENGTH)],
        every_s=2,
        capabilities=Capabilities(tools=True),
    )

    async def main() -> tuple[list[Completion], float]:
        began_s = trio.current_time()
        heard = [await model.complete(ASKED) for _ in range(2)]
        return heard, trio.current_time() - began_s

    (first, second), lasted_s = virtual(main)
    assert first.parts == (TextPart("a"),)
    assert second.text == "bc"
    assert second.stopped.reason is StopReason.LENGTH
    assert lasted_s == 8
    assert model.capabilities.tools


@tool
def weather(city: str) -> str:
    """The weather."""
    return f"rain in {city}"


@pipeline
def asks_tools(question: str) -> Stream[str]:
    return generate(question, tools=[weather])


CALL = ToolCall("1", "weather", '{"city": "Rome"}')


@given(worlds(world=World(models={"default": ScriptedTurns.saying(CALL, "wet")})))
def test_each_simulation_begins_with_the_first_turn(world: World) -> None:
    assert simulate(asks_tools, world, question="?").result() == "wet"


def by_what_is_asked(request: ChatRequest) -> str | ToolCall | ScriptedModel:
    last = request.messages[-1]
    if last.role == "tool":
        return "wet"
    return CALL if "weather" in last.text else ScriptedModel((), ModelError("what?"))


def test_a_model_may_answer_by_what_it_is_asked() -> None:
    model = ScriptedAnswers(by_what_is_asked, every_s=2)
    world = World(models={"default": model})
    for _ in range(2):  # what it was asked before makes no difference
        simulation = simulate(asks_tools, world, question="the weather?")
        assert simulation.result() == "wet"
        assert simulation.lasted_s == 4
    assert str(simulate(asks_tools, world, question="?").error) == "what?"


@pipeline
def asks_twice(first: str, second: str) -> tuple[str, str]:
    return collect(generate(first)), collect(generate(second))


@pytest.mark.parametrize(
    "model",
    [
        ScriptedModel.saying("a"),
        ScriptedTurns.saying("a", "a"),
        ScriptedAnswers(lambda request: request.messages[-1].text),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_scripted_model_shows_what_it_was_asked_in_the_last_simulation(
    model: ScriptedModel | ScriptedTurns | ScriptedAnswers,
) -> None:
    before = repr(model)
    for words in (("who?", "how?"), ("why?", "when?")):
        simulate(asks_twice, World(models={"default": model}), first=words[0], second=words[1])
        assert sorted(request.messages[-1].text for request in model.asked) == sorted(words)
    assert repr(model) == before


def test_what_a_scripted_model_was_asked_makes_it_no_other() -> None:
    asked, fresh = ScriptedModel.saying("a"), ScriptedModel.saying("a")
    simulate(asks_twice, World(models={"default": asked}), first="a", second="b")
    assert asked == fresh
    assert hash(asked) == hash(fresh)


def test_a_call_after_the_last_turn_says_so() -> None:
    with pytest.raises(ModelError, match="was called 2 times, but has 1 turns; add one more"):
        completions(ScriptedTurns.saying("a"), 2)


def test_a_scripted_model_is_printed_as_source_without_default_values() -> None:
    """Hypothesis prints the models of a failing example."""
    turns = ScriptedTurns.saying("a", "b")
    assert repr(turns) == f"ScriptedTurns({turns.turns!r})"
    assert eval(repr(turns)).turns == turns.turns
    able = Capabilities(tools=True)
    assert repr(ScriptedAnswers(repr, 0.5, able)) == (
        f"ScriptedAnswers(repr, every_s=0.5, capabilities={able!r})"
    )
