"""Approvals: what a person has not approved does not run, and what was approved runs as proposed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import (
    Context,
    Policy,
    Retry,
    Stream,
    collect,
    fallback,
    injected,
    pipeline,
    race,
    step,
)
from orchestra.annotations.reading import read
from orchestra.codecs.openai_serving.errors import openai_error_body
from orchestra.codecs.serving.errors import NO_RETRY, error_reply
from orchestra.errors import ArmsFailedError, InvalidRequestError, ModelError, OverloadedError
from orchestra.event_lines import encode
from orchestra.server.runs.fit_events import fit_for_clients
from orchestra.server.runs.problems import problem_of
from orchestra.steps import generate, tool
from orchestra.steps.conversation.approvals import refusal, refuse_misfits, with_results
from orchestra.steps.conversation.claims import run_once
from orchestra.steps.conversation.tools import FunctionTool, as_tools
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.turns import ScriptedTurns, TurnPart
from orchestra.testing.world import ScriptedModel, World
from orchestra.transcripts import (
    ApprovalNeededError,
    Refused,
    open_calls,
    read_messages,
    write_messages,
)
from orchestra.values import (
    ChatRequest,
    ImagePart,
    Message,
    Part,
    Stopped,
    StopReason,
    TextPart,
    ToolCall,
    ToolResult,
)

ran: list[str] = []
"""The calls that have run, in order."""


async def look(at: str) -> object:
    """Look at something."""
    ran.append(f"look {at}")
    return ImagePart(b"png") if at == "photo" else f"saw {at}"


@tool(needs_approval=True)
async def pay(euros: int) -> str:
    """Pay."""
    ran.append(f"pay {euros}")
    return f"paid {euros}"


@pipeline
def shop(asked: list[Message], approved: Mapping[str, bool | Refused]) -> Stream[str]:
    return generate(asked, tools=(look, pay), approved=approved, system="Be brief.")


@pipeline
def counted(asked: list[Message], approved: Mapping[str, bool]) -> int:
    return generate(asked, tools=(look, pay), approved=approved, returns=int)


ASKED = [Message("user", "Buy it.")]


def run(
    *turns: TurnPart | Sequence[TurnPart],
    asked: Sequence[Message] = ASKED,
    approved: Mapping[str, bool | Refused] = {},
    shop: Any = shop,
) -> tuple[Simulation, ScriptedTurns]:
    ran.clear()
    model = ScriptedTurns.saying(*turns)
    world = World(models={"default": model})
    return simulate(shop, world, asked=list(asked), approved=dict(approved)), model


def needed(simulation: Simulation) -> ApprovalNeededError:
    error = simulation.error
    assert isinstance(error, ApprovalNeededError), error
    return error


def call(number: int, *, asks: bool) -> ToolCall:
    if asks:
        return ToolCall(f"id{number}", "pay", f'{{"euros": {number}}}')
    return ToolCall(f"id{number}", "look", f'{{"at": "{number}"}}')


decisions = st.booleans() | st.builds(Refused, st.text())


@given(st.lists(st.booleans(), min_size=1, max_size=5), st.data())
def test_exactly_what_is_approved_runs_once_and_every_call_gets_its_result(
    asks: list[bool], data: st.DataObject
) -> None:
    """For any round of calls, and any decisions, across a transcript in JSON."""
    calls = [call(number, asks=each) for number, each in enumerate(asks)]
    first, _ = run(calls, *([] if any(asks) else ["Done."]))
    assert sorted(ran) == [f"look {n}" for n, each in enumerate(asks) if not each]
    if not any(asks):
        assert first.value == "Done."
        return
    error = needed(first)
    assert list(error.calls) == [each for each in calls if each.name == "pay"]
    approved = {each.id: data.draw(decisions) for each in error.calls}
    kept = read_messages(write_messages(error.messages))
    second, model = run("Done.", asked=kept, approved=approved)
    assert second.value == "Done."
    running = [each for each in calls if approved.get(each.id) is True]
    assert sorted(ran) == sorted(f"pay {each.id[2:]}" for each in running)
    system, question, turn, results = model.asked[0].messages
    assert (system, [question]) == (Message("system", "Be brief."), ASKED)
    assert list(turn.parts) == calls
    assert [part.call_id for part in results.parts] == [each.id for each in calls]  # type: ignore[union-attr]
    for part in results.parts:
        assert isinstance(part, ToolResult)
        decision = approved.get(part.call_id, True)
        assert part.is_error == (decision is not True)
        assert part.is_error == ("a person has refused it" in part.content)
        if isinstance(decision, Refused):
            reason = decision.reason
            assert part.content.endswith(f"refused it: {reason}" if reason else "refused it.")


def test_no_model_is_asked_before_the_decision_and_text_so_far_is_kept() -> None:
    simulation, model = run(["I will pay. ", call(1, asks=True)])
    error = needed(simulation)
    assert len(model.asked) == 1
    assert error.messages == (
        *ASKED,
        Message("assistant", (TextPart("I will pay. "), call(1, asks=True))),
    )


def test_earlier_rounds_are_in_the_transcript_and_later_ones_may_ask_again() -> None:
    simulation, _ = run(call(1, asks=False), call(2, asks=True))
    assert ran == ["look 1"]
    kept = needed(simulation).messages
    again, _ = run(call(3, asks=True), asked=kept, approved={"id2": True})
    assert ran == ["pay 2"]
    assert needed(again).calls == (call(3, asks=True),)
    assert needed(again).messages[: len(kept)] == kept


def test_an_object_is_filled_after_the_decision() -> None:
    simulation, _ = run(call(1, asks=True), shop=counted)
    kept = needed(simulation).messages
    end, _ = run("Paid.", '{"answer": 1}', asked=kept, approved={"id1": True}, shop=counted)
    assert (end.value, ran) == (1, ["pay 1"])


def test_arguments_that_do_not_fit_are_answered_at_once() -> None:
    """No person is asked about a call that would fail."""
    simulation, model = run(ToolCall("1", "pay", '{"euros": "many"}'), "Sorry.")
    assert (simulation.value, ran) == ("Sorry.", [])
    (result,) = model.asked[1].messages[-1].parts
    assert isinstance(result, ToolResult)
    assert "do not fit" in result.content


def test_an_approved_call_is_checked_as_any_call() -> None:
    """The tool may be another since, and the transcript was kept elsewhere."""
    for wrong in (ToolCall("1", "pay", "{"), ToolCall("1", "gone", "{}")):
        asked = [*ASKED, Message("assistant", (wrong,))]
        simulation, model = run("Sorry.", asked=asked, approved={"1": True})
        assert (simulation.value, ran) == ("Sorry.", [])
        (result,) = model.asked[0].messages[-1].parts
        assert isinstance(result, ToolResult)
        assert result.is_error


OPEN = [*ASKED, Message("assistant", (call(1, asks=True), call(2, asks=False)))]
BOTH = Message("tool", (ToolResult("id1", "pay", "done"), ToolResult("id2", "look", "seen")))


@pytest.mark.parametrize(
    ("asked", "approved", "told"),
    [
        (OPEN, {}, "the call 'id1' of 'pay', which has neither a result nor a decision"),
        (OPEN, {"id1": True}, "the call 'id2' of 'look'"),
        ([*OPEN, Message("user", "Well?")], {}, "the call 'id1' of 'pay'"),
        (OPEN, {"id1": True, "id2": True, "id3": True}, "'id3' is not open"),
        ([*OPEN, BOTH], {"id1": True}, "'id1' is not open; the open calls .* are: none"),
        ([*OPEN, BOTH, Message("assistant", "Paid.")], {"id1": True}, "'id1' is not open"),
        (ASKED, {"id1": False}, "'id1' is not open"),
        ([*ASKED, Message("assistant", (call(1, asks=True),) * 2)], {"id1": True}, "the same id"),
    ],
)
def test_a_decision_and_an_open_call_need_each_other(
    asked: list[Message], approved: dict[str, bool], told: str
) -> None:
    """Nothing runs, and no model is asked."""
    simulation, model = run("no", asked=asked, approved=approved)
    assert isinstance(simulation.error, InvalidRequestError)
    with pytest.raises(InvalidRequestError, match=told):
        raise simulation.error
    assert (ran, model.asked) == ([], [])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"id1": "no", "id2": True}, "no decision, but 'no'"),
        (["id1", "id2"], "decisions are a dict"),
        (None, "generate(approved=None): decisions are a dict"),
    ],
)
def test_a_text_is_no_decision(wrong: Any, told: str) -> None:
    """`{"id1": "no"}` would be true."""

    @step
    async def lax(asked: list[Message], *, context: Context = injected) -> AsyncIterator[str]:
        async for text in generate.call(asked, tools=(look, pay), approved=wrong, context=context):
            yield text

    @pipeline
    def laxly(asked: list[Message]) -> Stream[str]:
        return lax(asked)

    simulation = simulate(laxly, World(models={"default": ScriptedTurns.saying("x")}), asked=OPEN)
    assert isinstance(simulation.error, InvalidRequestError)
    assert told in str(simulation.error)
    assert ran == []


def test_results_that_are_there_already_answer_their_calls() -> None:
    seen = Message("tool", (ToolResult("id2", "look", "seen"),))
    simulation, model = run("Done.", asked=[*OPEN, seen], approved={"id1": True})
    assert (simulation.value, ran) == ("Done.", ["pay 1"])
    assert model.asked[0].messages[3:] == (
        Message("tool", (ToolResult("id1", "pay", "paid 1"), ToolResult("id2", "look", "seen"))),
    )


def test_a_call_whose_result_came_from_elsewhere_needs_no_decision_and_is_not_made() -> None:
    """Such as one that the user's browser has made."""
    simulation, model = run(call(1, asks=True))
    given = Message("tool", (ToolResult("id1", "pay", "paid there"),))
    asked = [*needed(simulation).messages, given]
    simulation, model = run("Done.", asked=asked)
    assert (simulation.value, ran) == ("Done.", [])
    assert list(model.asked[0].messages[1:]) == asked


def test_a_result_without_a_call_is_left_where_it_was() -> None:
    """A conversation may come from a client."""
    stray = ToolResult("other", "look", "seen")
    simulation, model = run(
        "Done.", asked=[*WAITING, Message("tool", (stray,))], approved={"id1": True}
    )
    assert (simulation.value, ran) == ("Done.", ["pay 1"])
    assert model.asked[0].messages[-1].parts == (ToolResult("id1", "pay", "paid 1"), stray)


def test_all_results_of_a_turn_come_before_what_a_tool_has_shown() -> None:
    """Providers refuse a user's turn between the results of one turn."""
    photo = ToolCall("p", "look", '{"at": "photo"}')
    simulation, _ = run([photo, call(1, asks=True)])
    kept = needed(simulation).messages
    assert [each.role for each in kept] == ["user", "assistant", "tool", "user"]
    asked = [*kept, Message("user", "Go on.")]
    end, model = run("Done.", asked=asked, approved={"id1": True})
    assert end.value == "Done."
    roles = [each.role for each in model.asked[0].messages]
    assert roles == ["system", "user", "assistant", "tool", "user", "user"]
    assert [part.call_id for part in model.asked[0].messages[3].parts] == ["p", "id1"]  # type: ignore[union-attr]


def test_many_calls_are_decided_and_answered_in_linear_time() -> None:
    """A client may send the conversation. In quadratic time, this would take a minute and more."""
    calls = tuple(ToolCall(f"id{number}", "pay", "{}") for number in range(100_000))
    asked = [*ASKED, Message("assistant", calls)]
    refuse_misfits(open_calls(asked), {each.id: True for each in calls})
    results = [refusal(each, False) for each in calls]
    *_, answered = with_results(asked, results[::-1])
    assert answered.parts == tuple(results)


def test_an_id_of_an_earlier_turn_may_come_again() -> None:
    """Some servers count the calls of each answer from 0."""
    asked = [*ASKED, Message("assistant", (call(1, asks=True),)), BOTH]
    asked.append(Message("assistant", (call(1, asks=True),)))
    simulation, _ = run("Done.", asked=asked, approved={"id1": True})
    assert (simulation.value, ran) == ("Done.", ["pay 1"])


def test_a_required_choice_does_not_hold_after_the_decision() -> None:
    @pipeline
    def must(asked: list[Message], approved: Mapping[str, bool]) -> Stream[str]:
        return generate(asked, tools=(pay,), approved=approved, tool_choice="required")

    asked = [*ASKED, Message("assistant", (call(1, asks=True),))]
    _, model = run("Done.", asked=asked, approved={"id1": True}, shop=must)
    assert model.asked[0].tool_choice is None


def _with(function: Any) -> FunctionTool[..., object]:
    (made,) = as_tools([function])
    return made


def test_the_setting_outlives_every_way_to_make_a_tool_of_it() -> None:
    """A tool that loses it would act without asking."""

    async def send(to: str, text: str) -> str:
        return f"{to}: {text}"

    asks = tool(needs_approval=True)(send)
    as_step = step(tool(needs_approval=True)(send))
    ways = [
        asks,
        partial(asks, to="ada"),
        tool(name="mail")(asks),
        tool(timeout_s=1)(partial(asks, to="ada")),
        as_step,
        partial(as_step, to="ada"),
    ]
    assert [_with(each).needs_approval for each in ways] == [True] * len(ways)
    assert not _with(send).needs_approval


def test_a_tool_with_a_value_of_the_run_asks_too() -> None:
    async def send(to: str, text: str) -> str:
        ran.append(f"{to}: {text}")
        return "sent"

    @pipeline
    def mail(asked: list[Message], approved: Mapping[str, bool], to: str) -> Stream[str]:
        return generate(
            asked, tools=[partial(tool(needs_approval=True)(send), to=to)], approved=approved
        )

    model = ScriptedTurns.saying(ToolCall("1", "send", '{"text": "hi"}'))
    ran.clear()
    world = World(models={"default": model})
    simulation = simulate(mail, world, asked=ASKED, approved={}, to="ada")
    error = needed(simulation)
    assert ran == []
    world = World(models={"default": ScriptedTurns.saying("Sent.")})
    end = simulate(mail, world, asked=list(error.messages), approved={"1": True}, to="bob")
    assert (end.value, ran) == ("Sent.", ["bob: hi"])


def test_clients_learn_which_tool_waits_and_nothing_that_was_said() -> None:
    card = ToolCall("1", "pay", '{"euros": 4111}')
    simulation, _ = run(card, asked=[Message("user", "Take it from card 4111.")])
    error = needed(simulation)
    told = [encode(fit_for_clients(event)) for event in simulation.events]
    problem, reply = problem_of(error), error_reply(error)
    assert (problem.status, problem.code) == (409, "approval-needed")
    assert (reply.status, reply.code, reply.headers) == (409, "approval_needed", (NO_RETRY,))
    for each in (*told, problem.encode(), openai_error_body(reply)):
        assert b"4111" not in each
    assert b"approval: pay;" in told[-1]


def test_a_client_can_send_a_refusal_with_its_reason() -> None:
    """As the input of a pipeline that is served."""
    given = {"id1": True, "id2": False, "id3": {"reason": "Too much."}}
    found, misfits = read(dict[str, bool | Refused], given, ())
    assert (found, misfits) == ({"id1": True, "id2": False, "id3": Refused("Too much.")}, ())


WAITING = [*ASKED, Message("assistant", (call(1, asks=True),))]
FULL = ScriptedModel((), OverloadedError("full"))
"""A turn in which the model fails, and may be asked again."""


def attempted_again(tool: Any) -> Any:
    @pipeline
    def retried(asked: list[Message]) -> Stream[str]:
        policy = Policy(first_chunk_s=2, retry=Retry(attempts_max=2))
        return generate(asked, tools=(tool,), approved={"id1": True}, policy=policy)

    return retried


def in_two_arms(control: Any) -> Any:
    """Of two steps that differ only in their system prompt."""

    def made(tool: Any) -> Any:
        @pipeline
        def armed(asked: list[Message]) -> Stream[str]:
            given = partial(generate, asked, tools=(tool,), approved={"id1": True})
            found: Stream[str] = control(given(system="Be brief."), given(system="Be kind."))
            return found

        return armed

    return made


@pytest.mark.parametrize("paying", [attempted_again, in_two_arms(fallback)], ids=["retry", "arms"])
def test_a_decision_runs_its_call_once_in_a_run(paying: Any) -> None:
    """Though the model fails after it, and the step is attempted again, or another in its place."""
    ran.clear()
    model = ScriptedTurns((FULL, *ScriptedTurns.saying("Paid.").turns))
    simulation = simulate(paying(pay), World(models={"default": model}), asked=WAITING)
    assert (simulation.value, ran) == ("Paid.", ["pay 1"])
    first, second = model.asked
    assert first.messages[-1] == second.messages[-1]
    assert first.messages[-1].role == "tool"


@pytest.mark.parametrize("paying", [attempted_again, in_two_arms(race)], ids=["retry", "arms"])
def test_a_call_that_was_begun_and_not_ended_is_not_made_again(paying: Any) -> None:
    """The attempt is cancelled in the middle of it, or has not ended yet."""

    @tool(name="pay", needs_approval=True)
    async def slow(euros: int) -> str:
        ran.append(f"pay {euros}")
        await trio.sleep(5)
        return "paid"

    ran.clear()
    model = ScriptedTurns.saying("Paid.")
    simulation = simulate(paying(slow), World(models={"default": model}), asked=WAITING)
    assert ran == ["pay 1"]
    if paying is attempted_again:
        assert isinstance(simulation.error, InvalidRequestError)
        assert "they are not made twice" in str(simulation.error)
    else:
        assert simulation.value == "Paid."


def test_outside_a_run_nothing_is_remembered() -> None:
    """A step's function, called with a fake context in a test."""
    made: list[str] = []

    async def make() -> tuple[Part, ...]:
        made.append("made")
        await trio.lowlevel.checkpoint()
        return ()

    for _ in range(2):
        assert trio.run(run_once, tuple(WAITING), {"id1": True}, make) == ()
    assert len(made) == 2


@step
def joined(one: str, two: str) -> str:
    return one + two


def test_two_conversations_of_a_run_each_make_their_own_call() -> None:
    """Though ids and arguments are equal."""

    @pipeline
    def two(one: list[Message], other: list[Message]) -> str:
        given = partial(generate, tools=(pay,), approved={"id1": True})
        return joined(collect(given(one)), collect(given(other)))

    ran.clear()
    other = [Message("user", "Buy another."), *WAITING[1:]]
    model = ScriptedTurns.saying("Paid.", "Paid.")
    simulation = simulate(two, World(models={"default": model}), one=WAITING, other=other)
    assert (simulation.value, ran) == ("Paid.Paid.", ["pay 1", "pay 1"])


def test_in_an_arm_it_is_a_failure_and_the_next_arm_may_ask_too() -> None:
    @pipeline
    def either(asked: list[Message]) -> Stream[str]:
        return fallback(generate(asked, tools=(pay,)), generate(asked, tools=(pay,)))

    ran.clear()
    model = ScriptedTurns.saying(call(1, asks=True), call(2, asks=True))
    simulation = simulate(either, World(models={"default": model}), asked=ASKED)
    assert isinstance(simulation.error, ArmsFailedError)
    errors = simulation.error.errors.values()
    assert [each.calls for each in errors if isinstance(each, ApprovalNeededError)] == [
        (call(1, asks=True),),
        (call(2, asks=True),),
    ]
    assert ran == []


def test_a_fallback_after_errors_of_models_only_raises_it() -> None:
    @pipeline
    def either(asked: list[Message]) -> Stream[str]:
        arms = [generate(asked, tools=(pay,)) for _ in range(3)]
        return fallback(*arms, on=ModelError)

    ran.clear()
    model = ScriptedTurns((FULL, *ScriptedTurns.saying(call(1, asks=True)).turns))
    simulation = simulate(either, World(models={"default": model}), asked=ASKED)
    assert needed(simulation).calls == (call(1, asks=True),)
    assert (ran, len(model.asked)) == ([], 2)


def test_in_a_pipeline_that_is_a_tool_it_is_the_result_of_the_call() -> None:
    @pipeline
    def buy(what: str) -> Stream[str]:
        """Buy something."""
        return generate(what, tools=(pay,))

    @pipeline
    def outer(asked: list[Message], approved: Mapping[str, bool]) -> Stream[str]:
        return generate(asked, tools=(buy,), approved=approved)

    inner = ToolCall("1", "buy", '{"what": "a lamp"}')
    simulation, model = run(inner, call(1, asks=True), "Not yet.", shop=outer)
    assert (simulation.value, ran) == ("Not yet.", [])
    (result,) = model.asked[2].messages[-1].parts
    assert isinstance(result, ToolResult)
    assert result.content.startswith("ApprovalNeededError: ")


def test_a_request_keeps_its_settings() -> None:
    @pipeline
    def served(request: ChatRequest) -> Stream[str]:
        return generate(request, tools=(pay,), approved={"id1": True})

    asked = (*ASKED, Message("assistant", (call(1, asks=True),)))
    model = ScriptedTurns.saying("Done.")
    simulation = simulate(
        served, World(models={"default": model}), request=ChatRequest(asked, temperature=0.5)
    )
    assert simulation.value == "Done."
    assert model.asked[0].temperature == 0.5


def test_a_paused_turn_goes_on_before_anybody_is_asked() -> None:
    paused: list[TurnPart] = ["Wait. ", Stopped(StopReason.PAUSED)]
    simulation, model = run(paused, call(1, asks=True))
    assert [each.role for each in needed(simulation).messages] == ["user", "assistant", "assistant"]
    assert len(model.asked) == 2
    kept = attrs.evolve(needed(simulation).messages[-1]).parts
    assert kept == (call(1, asks=True),)
