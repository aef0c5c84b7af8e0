"""A retry of a step goes on from the last round of the attempt before it."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, Limits, Policy, Retry, Stream, fallback, injected, pipeline, step
from orchestra.citations import Citation, Cited
from orchestra.errors import LimitExceededError, OutputError, OverloadedError
from orchestra.events import StepRetried, StepTold, ToolFinished, ToolStarted
from orchestra.steps import generate, tool
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.turns import ScriptedAnswers, ScriptedTurns, TurnPart
from orchestra.testing.world import ScriptedModel, World
from orchestra.transcripts import ApprovalNeededError
from orchestra.values import (
    ChatRequest,
    ForcedTool,
    Message,
    Stopped,
    StopReason,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)

FULL = ScriptedModel((), OverloadedError("full"))
"""A turn in which the model fails, and may be asked again."""
HALF = ScriptedModel(((0.0, ToolCallDelta(0, "x", "act", "{")),), OverloadedError("full"))
"""A turn that fails in the middle of a tool call."""
ATTEMPTS = 40
RETRY = Retry(attempts_max=ATTEMPTS, delay_s=0.01, on=(trio.TooSlowError,))
LIMITS = Limits(retries_saved=ATTEMPTS)

begun: list[str] = []
ended: list[str] = []
"""The calls of `act` that have begun and ended."""


@pytest.fixture(autouse=True)
def _anew() -> None:
    begun.clear()
    ended.clear()


async def act(name: str, lasts_s: float = 0.0) -> str:
    """Do something that must not be done twice."""
    begun.append(name)
    await trio.sleep(lasts_s)
    ended.append(name)
    return f"did {name}"


def call(name: str, lasts_s: float = 0.0, tool: str = "act") -> ToolCall:
    return ToolCall(name, tool, f'{{"name": "{name}", "lasts_s": {lasts_s}}}')


@pipeline
def text_of(asked: str) -> Stream[str]:
    return generate(
        asked, tools=(act,), tools_at_once=2, policy=Policy(first_chunk_s=5, retry=RETRY)
    )


@pipeline
def object_of(asked: str) -> int:
    return generate(asked, tools=(act,), tools_at_once=2, returns=int, policy=Policy(retry=RETRY))


@step(policy=Policy(retry=RETRY))
async def collecting(asked: str, *, context: Context = injected) -> str:
    reply = generate.call(asked, tools=(act,), tools_at_once=2, context=context)
    with trio.fail_after(5):
        return "".join([text async for text in reply])


@pipeline
def text_of_call(asked: str) -> str:
    return collecting(asked)


@step(policy=Policy(retry=RETRY))
async def asking(asked: str, *, context: Context = injected) -> int:
    call = generate.call(asked, tools=(act,), tools_at_once=2, returns=int, context=context)
    with trio.fail_after(5):
        return await call


@pipeline
def object_of_call(asked: str) -> int:
    return asking(asked)


@attrs.frozen
class Talks:
    """A model with these rounds of calls, and so many failures before each of its answers."""

    rounds: tuple[tuple[str, tuple[float, ...]], ...]
    faults: tuple[int, ...]
    half: bool

    def model(self) -> ScriptedAnswers:
        left: Counter[int] = Counter(dict(enumerate(self.faults)))

        def by(request: ChatRequest) -> TurnPart | list[TurnPart] | ScriptedModel:
            number = len([each for each in request.messages if each.role == "assistant"])
            place = number if request.output is None else len(self.faults) - 1
            if left[place]:
                left[place] -= 1
                return HALF if self.half and request.tools else FULL
            if request.output is not None:
                return '{"answer": 7}'
            if number == len(self.rounds):
                return "Done."
            text, lasting_s = self.rounds[number]
            return [
                *([text] if text else ()),
                *(call(f"{number}.{at}", each) for at, each in enumerate(lasting_s)),
            ]

        return ScriptedAnswers(by)

    def text(self, silent: bool) -> str:
        texts = [text for text, _ in self.rounds if text and not silent]
        return "\n\n".join([*texts, "Done."])


@st.composite
def talks(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> Talks:
    lasting = st.lists(st.sampled_from([0.0, 1.0, 4.0, 6.0]), min_size=1, max_size=4).map(tuple)
    rounds = draw(st.lists(st.tuples(texts, lasting), max_size=4))
    faults = draw(st.lists(st.integers(0, 2), min_size=len(rounds) + 2, max_size=len(rounds) + 2))
    return Talks(tuple(rounds), tuple(faults), draw(st.booleans()))


SILENT = st.just("")
"""A step that has passed on text is never retried."""


@given(
    st.one_of(
        st.tuples(st.sampled_from([text_of, object_of, object_of_call]), talks(SILENT)),
        st.tuples(st.just(text_of_call), talks(st.sampled_from(["", "Wait."]))),
    ),
    st.integers(0, 99),
)
def test_no_tool_call_is_made_twice_whatever_fails(drawn: tuple[Any, Talks], schedule: int) -> None:
    """And the model sees one conversation, which grows.

    Before each of its answers the model fails a few times, and most attempts end after five
    seconds, some of them in the middle of tool calls.
    """
    asking, talk = drawn
    begun.clear()
    ended.clear()
    model = talk.model()
    world = World(models={"default": model}, limits=LIMITS, schedule=schedule)
    simulation = simulate(asking, world, asked="Do it.")
    check_laws(simulation)
    assert simulation.error is None
    assert simulation.value == (7 if asking in (object_of, object_of_call) else talk.text(False))
    names = [f"{at}.{n}" for at, (_, each) in enumerate(talk.rounds) for n in range(len(each))]
    assert sorted(begun) == names
    assert_grows([each.messages for each in model.asked if each.tools])
    assert_true(model)


def assert_grows(conversations: list[tuple[Message, ...]]) -> None:
    for before, after in pairwise(conversations):
        assert after[: len(before)] == before


def assert_true(model: ScriptedAnswers) -> None:
    """The model reads of each call how it has ended; of one that was stopped, that it was."""
    last = [each for each in model.asked if each.tools][-1]
    for part in (part for each in last.messages for part in each.parts):
        if isinstance(part, ToolResult):
            name = part.call_id
            told = f"did {name}" if name in ended else "This was stopped before its end"
            assert part.content.startswith(told)
            assert part.is_error == (name not in ended)


def run(asking: Any, *turns: Any, **world: Any) -> tuple[Simulation, ScriptedTurns]:
    """A simulation with a model that has these turns."""
    scripts = [
        each if isinstance(each, ScriptedModel) else ScriptedTurns.saying(each).turns[0]
        for each in turns
    ]
    model = ScriptedTurns(tuple(scripts))
    simulation = simulate(asking, World(models={"default": model}, **world), asked="Do it.")
    check_laws(simulation)
    return simulation, model


def events(simulation: Simulation, kind: type) -> int:
    return len([each for each in simulation.events if isinstance(each, kind)])


def test_a_mail_is_sent_once_though_the_model_fails_after_it() -> None:
    simulation, model = run(text_of, [call("mail")], FULL, "Sent.")
    assert (simulation.value, begun) == ("Sent.", ["mail"])
    assert [events(simulation, kind) for kind in (StepRetried, ToolStarted, ToolFinished)] == [
        1
    ] * 3
    assert model.asked[1] == model.asked[2]


def test_a_call_that_was_stopped_is_not_made_again_and_the_model_is_told() -> None:
    """The others of its round are: one has ended, and one had not begun."""
    calls = [call("quick"), call("slow", 9), call("long", 9), call("rest")]
    simulation, model = run(text_of, calls, "Done.")
    assert (simulation.value, begun, ended) == (
        "Done.",
        ["quick", "slow", "long", "rest"],
        ["quick", "rest"],
    )
    results = [part for part in model.asked[-1].messages[-1].parts if isinstance(part, ToolResult)]
    assert [each.content[:16] for each in results] == [
        "did quick",
        "This was stopped",
        "This was stopped",
        "did rest",
    ]


@pytest.mark.parametrize("choice", ["required", ForcedTool("act")])
def test_a_required_call_that_was_stopped_is_not_required_again(choice: Any) -> None:
    """Or the model would have to make it a second time, though it may have been done."""

    @pipeline
    def required(asked: str) -> Stream[str]:
        policy = Policy(first_chunk_s=5, retry=RETRY)
        return generate(asked, tools=(act,), tool_choice=choice, policy=policy)

    simulation, model = run(required, [call("mail", 9)], FULL, "Sent.")
    assert (simulation.value, begun) == ("Sent.", ["mail"])
    assert [each.tool_choice for each in model.asked] == [choice, None, None]


def test_an_object_that_fails_is_asked_for_again_without_the_tools() -> None:
    """Also the answer before it is kept."""
    simulation, model = run(object_of, [call("a")], "Seven.", FULL, '{"answer": 7}')
    assert (simulation.value, begun) == (7, ["a"])
    assert model.asked[2] == model.asked[3]


def test_a_paused_round_is_kept() -> None:
    paused = [Stopped(StopReason.PAUSED)]
    simulation, model = run(text_of_call, ["Wait", *paused], FULL, " a moment.")
    assert simulation.value == "Wait a moment."
    assert [len(each.messages) for each in model.asked] == [1, 2, 2]


def test_a_paused_round_of_an_object_is_asked_again() -> None:
    paused = [Stopped(StopReason.PAUSED)]

    @pipeline
    def plainly(asked: str) -> int:
        return generate(asked, returns=int, policy=Policy(retry=RETRY))

    simulation, model = run(plainly, ["{", *paused], FULL, '{"answer": 7}')
    assert simulation.value == 7
    assert [len(each.messages) for each in model.asked] == [1, 2, 1]


def test_all_attempts_together_have_the_rounds_of_one() -> None:
    @pipeline
    def briefly(asked: str) -> Stream[str]:
        policy = Policy(retry=RETRY)
        return generate(asked, tools=(act,), tool_rounds_max=2, policy=policy)

    simulation, _ = run(briefly, [call("a")], FULL, [call("b")], FULL, [call("c")])
    assert isinstance(simulation.error, LimitExceededError)
    assert begun == ["a", "b"]


def test_after_text_was_passed_on_there_is_no_retry() -> None:
    simulation, _ = run(text_of, ["Well. ", call("a")], FULL, "Done.")
    assert isinstance(simulation.error, OverloadedError)
    assert begun == ["a"]


def test_the_next_arm_of_a_fallback_begins_anew() -> None:
    """It may be another model, with other instructions and tools."""

    @pipeline
    def armed(asked: str) -> Stream[str]:
        policy = Policy(retry=Retry(attempts_max=2, delay_s=0.01))
        arm = partial(generate, asked, tools=(act,), policy=policy)
        return fallback(arm(), arm())

    simulation, model = run(armed, [call("a")], FULL, FULL, [call("a")], "Done.")
    assert (simulation.value, begun) == ("Done.", ["a", "a"])
    assert [len(each.messages) for each in model.asked] == [1, 3, 3, 1, 3]


def test_an_approval_that_is_needed_is_needed_in_the_next_attempt_too() -> None:
    """Without another call of the model, or of the tools beside it."""
    pay = tool(name="pay", needs_approval=True)(act)

    @pipeline
    def paying(asked: str) -> Stream[str]:
        policy = Policy(retry=Retry(attempts_max=3, on=(ApprovalNeededError,)))
        return generate(asked, tools=(act, pay), policy=policy)

    simulation, model = run(paying, [call("a"), call("p", tool="pay")])
    assert isinstance(simulation.error, ApprovalNeededError)
    assert [each.id for each in simulation.error.calls] == ["p"]
    assert (begun, len(model.asked), events(simulation, StepRetried)) == (["a"], 1, 2)


class Odd:
    """A value that cannot be compared, as an array."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


async def act_for(user: object, name: str) -> str:
    """Act."""
    return await act(f"{name} {user if isinstance(user, str) else 'odd'}")


@pytest.mark.parametrize(
    ("tools", "made"),
    [
        ([lambda: partial(act_for, "ada"), lambda: partial(act_for, "ada")], ["a ada"]),
        ([lambda: partial(act_for, "ada"), lambda: partial(act_for, "bob")], ["a ada", "a bob"]),
        ([lambda: partial(act_for, Odd()), lambda: partial(act_for, Odd())], ["a odd", "a odd"]),
    ],
    ids=["equal", "different", "unknown"],
)
def test_a_call_in_a_step_goes_on_only_with_the_same_tools(tools: list[Any], made: Any) -> None:
    """A conversation for one user is never that of another."""
    attempts = iter(tools)

    @step(policy=Policy(retry=RETRY))
    async def own(asked: str, *, context: Context = injected) -> str:
        given = next(attempts)()
        reply = generate.call(asked, tools=(given,), context=context)
        return "".join([text async for text in reply])

    @pipeline
    def owned(asked: str) -> str:
        return own(asked)

    calls = ToolCall("a", "act_for", '{"name": "a"}')
    turns = [[calls], FULL, *([[calls]] if len(made) > 1 else []), "Done."]
    simulation, _ = run(owned, *turns)
    assert (simulation.value, begun) == ("Done.", made)


def test_each_conversation_of_a_step_goes_on_from_its_own() -> None:
    """Also equal ones, and those that an attempt in between has not come to."""

    @step(policy=Policy(retry=RETRY))
    async def twice(asked: str, *, context: Context = injected) -> list[str]:
        said: list[str] = []
        for _ in range(2):
            reply = generate.call(asked, tools=(act,), context=context)
            said += ["".join([text async for text in reply])]
        return said

    @pipeline
    def thrice(asked: str) -> list[str]:
        return twice(asked)

    first = [["One. ", call("a")], "Yes."]
    turns = [*first, ["Two. ", call("b")], FULL, FULL, "Yes.", "No."]
    simulation, _ = run(thrice, *turns)
    assert simulation.value == ["One. Yes.", "Two. No."]
    assert begun == ["a", "b"]


def test_a_conversation_in_a_tool_begins_anew_when_the_model_calls_the_tool_again() -> None:
    """The model has seen what came of the first."""

    async def research(context: Context = injected) -> str:
        """Research."""
        reply = generate.call("Look.", tools=(act,), context=context)
        return "".join([text async for text in reply])

    @pipeline
    def researched(asked: str) -> Stream[str]:
        return generate(asked, tools=(research,), policy=Policy(retry=RETRY))

    looks = ToolCall("r", "research", "{}")
    turns = [[looks], [call("a")], "Found.", FULL, [looks], [call("b")], "More.", "Done."]
    simulation, _ = run(researched, *turns)
    assert (simulation.value, begun) == ("Done.", ["a", "b"])


def test_the_conversation_of_a_reply_has_the_rounds_of_earlier_attempts() -> None:
    seen: list[tuple[Message, ...]] = []

    @step(policy=Policy(retry=RETRY))
    async def own(asked: str, *, context: Context = injected) -> str:
        reply = generate.call(asked, tools=(act,), context=context)
        seen.append(reply.messages)
        with trio.fail_after(5):
            text = "".join([text async for text in reply])
        seen.append(reply.messages)
        return text

    @pipeline
    def owned(asked: str) -> str:
        return own(asked)

    simulation, _ = run(owned, ["Well. ", call("a", 9)], "Done.")
    assert simulation.value == "Well. Done."
    asked, again, whole = seen
    assert [len(each) for each in (asked, again, whole)] == [1, 3, 4]
    assert whole[:3] == again


def test_a_retry_after_an_error_of_another_kind_goes_on_too() -> None:
    """What `on` names, such as an object that does not fit."""

    @pipeline
    def fitting(asked: str) -> int:
        retry = Retry(attempts_max=2, delay_s=0.01, on=(OutputError,))
        return generate(asked, tools=(act,), returns=int, policy=Policy(retry=retry))

    turns = [[call("a")], "Seven.", "{}", "{}", '{"answer": 7}']
    simulation, model = run(fitting, *turns)
    assert (simulation.value, begun) == (7, ["a"])
    assert model.asked[4] == model.asked[2]


def test_citations_have_their_places_in_the_text_of_all_attempts() -> None:
    @step(policy=Policy(retry=RETRY))
    async def own(asked: str, *, context: Context = injected) -> str:
        reply = generate.call(asked, tools=(act,), citations=True, context=context)
        return "".join([text async for text in reply])

    @pipeline
    def owned(asked: str) -> str:
        return own(asked)

    last = [TextDelta("Done."), Cited((Citation(0, 4),))]
    simulation, _ = run(owned, ["Well. ", call("a")], FULL, last)
    (told,) = [each.data for each in simulation.events if isinstance(each, StepTold)]
    assert simulation.value == "Well. Done."
    assert isinstance(told, dict)
    assert simulation.value[told["start"] : told["end"]] == "Done"


def test_a_retry_after_an_approved_call_and_a_round_goes_on_from_the_round() -> None:
    pay = tool(name="pay", needs_approval=True)(act)
    waiting = [Message("user", "Pay."), Message("assistant", (call("p", tool="pay"),))]

    @step
    def conversation(asked: str) -> list[Message]:
        del asked
        return waiting

    @pipeline
    def paying(asked: str) -> Stream[str]:
        told, policy = conversation(asked), Policy(retry=RETRY)
        return generate(told, tools=(act, pay), approved={"p": True}, policy=policy)

    simulation, model = run(paying, FULL, [call("a")], FULL, "Done.")
    assert (simulation.value, begun) == ("Done.", ["p", "a"])
    assert_grows([each.messages for each in model.asked])
