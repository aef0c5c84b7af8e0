"""A reply's conversation has all that was said and done, and another run can go on with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, Policy, Retry, Stream, injected, pipeline, step
from orchestra.errors import DefinitionError, InvalidRequestError, OverloadedError
from orchestra.protocols import Model, ModelReply
from orchestra.steps import generate, tool
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.turns import ScriptedTurns, TurnPart
from orchestra.testing.world import ScriptedModel, World
from orchestra.transcripts import (
    ApprovalNeededError,
    open_calls,
    read_messages,
    write_messages,
)
from orchestra.values import (
    ChatRequest,
    ImagePart,
    Message,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    ToolCall,
    ToolResult,
)

begun: list[str] = []
ended: list[str] = []
"""The calls of `act` that have begun and ended."""
kept: list[tuple[Message, ...]] = []
"""The conversation of each attempt of the step, when it had ended."""
ASKED = [Message("user", "Do it.")]


async def act(name: str, lasts_s: float = 0.0) -> str:
    """Do something."""
    begun.append(name)
    await trio.sleep(lasts_s)
    ended.append(name)
    return f"did {name}"


def look() -> ImagePart:
    """Look."""
    return ImagePart(b"png")


pay = tool(name="pay", needs_approval=True)(act)


@step
async def chatting(
    asked: list[Message], approved: Mapping[str, bool], *, context: Context = injected
) -> AsyncIterator[str]:
    reply = generate.call(
        asked,
        tools=(act, look, pay),
        approved=approved,
        system="Be brief.",
        tools_at_once=2,
        context=context,
    )
    try:
        async with aclosing(reply):
            async for text in reply:
                yield text
    finally:
        kept.append(reply.messages)


@pipeline
def chat(asked: list[Message], approved: Mapping[str, bool]) -> Stream[str]:
    return chatting(asked, approved)


def run(
    model: ScriptedTurns,
    asked: Sequence[Message] = ASKED,
    approved: Mapping[str, bool] = {},
    chat: Any = chat,
    **world: Any,
) -> Simulation:
    for each in (begun, ended, kept):
        each.clear()
    made = World(models={"default": model}, **world)
    return simulate(chat, made, asked=list(asked), approved=dict(approved))


def call(name: str, lasts_s: float = 0.0, tool: str = "act") -> ToolCall:
    return ToolCall(name, tool, f'{{"name": "{name}", "lasts_s": {lasts_s}}}')


LOOKS = ToolCall("l", "look", "{}")
texts = st.text("ab ", max_size=3)
rounds = st.lists(
    st.tuples(texts, st.integers(0, 3), st.booleans()).filter(lambda each: any(each[1:])),
    max_size=3,
)


@given(rounds, texts, st.booleans())
def test_the_next_run_knows_all_that_was_said_and_done(
    rounds: list[tuple[str, int, bool]], last: str, pauses: bool
) -> None:
    """For any rounds of texts, calls and images."""
    turns: list[list[TurnPart]] = [
        [text, *(call(f"{at}.{n}") for n in range(count)), *([LOOKS] if looks else [])]
        for at, (text, count, looks) in enumerate(rounds)
    ]
    if pauses:
        turns.append(["Wait.", Stopped(StopReason.PAUSED)])
    model = ScriptedTurns.saying(*turns, [last])
    simulation = run(model)
    check_laws(simulation)
    assert isinstance(simulation.value, str)
    (messages,) = kept
    answer = [Message("assistant", (TextPart(last),))] if last else []
    assert list(messages) == [*model.asked[-1].messages[1:], *answer]
    assert sorted(ended) == sorted(
        f"{at}.{n}" for at, each in enumerate(rounds) for n in range(each[1])
    )
    again = ScriptedTurns.saying("Yes.")
    more = [*read_messages(write_messages(messages)), Message("user", "Done?")]
    assert run(again, more).value == "Yes."
    assert list(again.asked[0].messages[1:]) == more


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=5), st.floats(0.001, 15), st.booleans())
def test_whenever_a_run_is_cancelled_each_call_has_a_result_that_is_true(
    lasting_s: list[float], at_s: float, asks: bool
) -> None:
    """Of calls in two lanes, one second after the model's text, before more text."""
    calls = [call(str(n), lasts_s) for n, lasts_s in enumerate(lasting_s)]
    waiting = [call("p", tool="pay")] if asks else []
    model = ScriptedTurns.saying(["Well. ", *calls, *waiting], ["Do", "ne."], every_s=0.01)
    run(model, cancel_at_s=at_s)
    (messages,) = kept
    told = [part for each in messages for part in each.parts]
    results = {part.call_id: part for part in told if isinstance(part, ToolResult)}
    called = [part for part in told if isinstance(part, ToolCall)]
    if called and not (asks and len(ended) == len(calls)):
        assert not open_calls(messages)
        assert (
            [*results] == [each.id for each in called] == [each.id for each in (*calls, *waiting)]
        )
    for name, result in results.items():
        assert (result.content == f"did {name}") == (name in ended)
        assert ("it may have been done" in result.content) == (name in begun and name not in ended)
        assert ("This was not done" in result.content) == (name not in begun)
        assert result.is_error == (name not in ended)


def test_a_text_that_was_stopped_is_there_as_far_as_it_came() -> None:
    run(ScriptedTurns.saying(["Hel", "lo."], every_s=1), cancel_at_s=1.5)
    assert kept == [(*ASKED, Message("assistant", "Hel"))]


def test_a_run_that_is_stopped_while_its_reader_lags_stops_the_model_before_all_is_kept() -> None:
    """The step is cancelled where it yields: the model's stream is closed nevertheless."""
    closed: list[int] = []

    class Fast(Model):
        @asynccontextmanager
        async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
            try:
                async with ScriptedModel.saying(*["x"] * 99).stream(request) as reply:
                    yield reply
            finally:
                closed.append(len(kept))

    @step
    async def slowly(texts: Stream[str]) -> AsyncIterator[str]:
        async for text in texts:
            await trio.sleep(1)
            yield text

    @pipeline
    def lagging(asked: list[Message], approved: Mapping[str, bool]) -> Stream[str]:
        return slowly(chatting(asked, approved))

    kept.clear()
    world = World(models={"default": Fast()}, cancel_at_s=5.5)
    check_laws(simulate(lagging, world, asked=ASKED, approved={}))
    assert closed == [0]
    assert len(kept) == 1


def test_a_call_that_was_not_whole_is_not_there() -> None:
    cut = ScriptedModel(((0.0, TextDelta("I ")),), OverloadedError("full"))
    simulation = run(ScriptedTurns((cut,)))
    assert isinstance(simulation.error, OverloadedError)
    assert kept == [(*ASKED, Message("assistant", "I "))]


def test_a_conversation_that_waits_for_approval_is_that_of_the_error() -> None:
    simulation = run(ScriptedTurns.saying(["I. ", call("1"), call("2", tool="pay")]))
    assert isinstance(simulation.error, ApprovalNeededError)
    assert kept == [simulation.error.messages]
    assert [each.id for each in open_calls(kept[0])] == ["2"]


def test_approved_calls_that_are_stopped_are_not_open_again() -> None:
    """In the first attempt, nor in the one that would have made them a second time."""

    @pipeline
    def retried(asked: list[Message], approved: Mapping[str, bool]) -> Stream[str]:
        policy = Policy(first_chunk_s=2, retry=Retry(attempts_max=2))
        return chatting.using(policy)(asked, approved)

    turn = Message("assistant", (call("1", 5, "pay"), call("2", tool="pay")))
    approved = {"1": True, "2": False}
    simulation = run(ScriptedTurns.saying("x"), [*ASKED, turn], approved, chat=retried)
    assert isinstance(simulation.error, InvalidRequestError)
    assert (begun, ended) == (["1"], [])
    first, second = kept
    assert first == second
    stopped, refused = first[-1].parts
    assert isinstance(stopped, ToolResult)
    assert isinstance(refused, ToolResult)
    assert "it may have been done" in stopped.content
    assert "it was not approved" in refused.content


def test_if_the_model_fails_after_an_approved_call_another_run_goes_on_without_the_call() -> None:
    waiting = [*ASKED, Message("assistant", (call("1", tool="pay"),))]
    fails = ScriptedTurns((ScriptedModel((), OverloadedError("full")),))
    assert isinstance(run(fails, waiting, {"1": True}).error, OverloadedError)
    assert ended == ["1"]
    (messages,) = kept
    assert run(ScriptedTurns.saying("Paid."), messages).value == "Paid."
    assert ended == []


def test_before_its_first_chunk_it_has_what_was_asked() -> None:
    waiting = [*ASKED, Message("assistant", (call("1", tool="pay"),))]

    async def main() -> None:
        context: Any = None
        reply = generate.call(waiting, tools=(), approved={"1": True}, context=context)
        assert list(reply.messages) == waiting
        await reply.aclose()
        assert list(reply.messages) == waiting

    trio.run(main)


def test_it_is_closed_and_read_as_any_generator() -> None:
    @step
    async def first(asked: str, *, context: Context = injected) -> str:
        async with aclosing(generate.call(asked, context=context)) as reply:
            return await anext(reply)

    @pipeline
    def begin(asked: str) -> str:
        return first(asked)

    model = ScriptedTurns.saying(["Hel", "lo."], every_s=1)
    simulation = simulate(begin, World(models={"default": model}), asked="Hi!")
    check_laws(simulation)
    assert (simulation.value, simulation.lasted_s) == ("Hel", 1)


def test_a_pipeline_that_calls_it_is_told_what_to_write() -> None:
    with pytest.raises(DefinitionError, match="is for the code of a step"):

        @pipeline
        def wrong(asked: str) -> Stream[str]:
            context: Any = None
            answer: Any = generate.call(asked, context=context)
            return answer  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "bound", [{"tool_rounds_max": -1}, {"tool_rounds_max": "8"}, {"tools_at_once": 0}]
)
def test_a_bound_that_is_none_is_refused(bound: dict[str, Any]) -> None:
    """As where a pipeline is defined: with -1, the rounds would have no bound."""
    context: Any = None
    with pytest.raises(DefinitionError, match=next(iter(bound))):
        generate.call("Hi!", context=context, **bound)


def test_a_call_without_the_context_is_told_to_pass_it() -> None:
    call: Any = generate.call
    with pytest.raises(AttributeError, match=r"pass yours: `\.call\(\.\.\., context=context\)`"):
        trio.run(anext, call("Hi!"))


def test_a_step_that_returns_it_is_told_to_yield_its_chunks() -> None:
    @step
    async def wrong(asked: str, *, context: Context = injected) -> str:
        reply: Any = generate.call(asked, context=context)
        return reply  # type: ignore[no-any-return]

    @pipeline
    def wrongly(asked: str) -> str:
        return wrong(asked)

    world = World(models={"default": ScriptedTurns.saying("x")})
    simulation = simulate(wrongly, world, asked="Hi!")
    assert "yield the chunks in the step itself" in str(simulation.error)


def test_an_answer_without_text_adds_no_turn() -> None:
    model = ScriptedTurns.saying([Stopped(StopReason.END)])
    assert run(model).value == ""
    assert kept == [tuple(ASKED)]
