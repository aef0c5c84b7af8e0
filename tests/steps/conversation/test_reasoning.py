"""What `generate` tells of a model's reasoning: all of it, in order, and never in the answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Stream, pipeline
from orchestra.events import Delta, StepTold
from orchestra.graph.pipelines import Pipeline
from orchestra.steps import generate
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import World
from orchestra.values import ModelEvent, ReasoningDelta, TextDelta, ToolCall
from tests.steps.conversation.test_citing import look, plain


@pipeline
def thinking(question: str) -> Stream[str]:
    return generate(question, tools=[look], reasoning=True)


def run_of(which: Pipeline[..., Stream[str]], *turns: list[ModelEvent | ToolCall]) -> Any:
    models = {"default": ScriptedTurns.saying(*turns)}
    return simulate(which, World(models=models), question="?")


def told(run: Simulation[Any]) -> list[str]:
    events = [event for event in run.events if isinstance(event, StepTold)]
    assert {(event.step, event.what, event.tool) for event in events} <= {
        ("generate", "reasoning", None)
    }
    return [event.data["text"] for event in events]


pieces = st.lists(
    st.builds(ReasoningDelta, st.text(max_size=5)) | st.builds(TextDelta, st.text(max_size=5))
)


@given(pieces)
def test_reasoning_is_told_and_is_no_part_of_the_answer(answer: list[Any]) -> None:
    run = run_of(thinking, answer)
    thoughts = [each.text for each in answer if isinstance(each, ReasoningDelta)]
    assert "".join(told(run)) == "".join(thoughts)
    assert run.value == "".join(each.text for each in answer if isinstance(each, TextDelta))
    assert told(run_of(plain, answer)) == [], "off unless it is asked for"


def test_the_reasoning_of_each_round_comes_before_its_text() -> None:
    run = run_of(
        thinking,
        [ReasoningDelta("Look it up."), ToolCall("c", "look", '{"word": "x"}')],
        [ReasoningDelta("Now I know."), TextDelta("x.")],
    )
    order = [event for event in run.events if isinstance(event, StepTold | Delta)]
    assert [
        event.data["text"] if isinstance(event, StepTold) else event.chunk for event in order
    ] == ["Look it up.", "Now I know.", "x."]


@pytest.mark.parametrize(
    "long", ["\x01" * 5_000, ("\U0001f600" * 1_999 + "\ud83d") * 2 + "x" * 1_000]
)
def test_a_long_thought_is_told_in_pieces_and_never_fails_the_run(long: str) -> None:
    """A character takes at most six bytes in JSON, and an emoji beside half a character four."""
    run = run_of(thinking, [ReasoningDelta(long), TextDelta("x")])
    assert [len(each) for each in told(run)] == [2_000, 2_000, 1_000]
