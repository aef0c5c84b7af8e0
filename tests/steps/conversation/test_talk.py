"""Tool loops: bounded, in order, cancelled as a whole; and what is no answer never looks like one."""

from __future__ import annotations

import itertools
from typing import Any, cast

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, Policy, Stream, fallback, injected, pipeline, prompt, step
from orchestra.accounts import Usage
from orchestra.compiler.check import check
from orchestra.errors import (
    CapabilityError,
    CheckError,
    ContentFilterError,
    ContextLengthError,
    DefinitionError,
    LimitExceededError,
    ModelError,
    OutputError,
    TruncatedStreamError,
)
from orchestra.events import RunFinished
from orchestra.graph.pipelines import Pipeline
from orchestra.steps import generate
from orchestra.steps.conversation.tools import tool
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    Capabilities,
    ChatRequest,
    ForcedTool,
    JsonOutput,
    Message,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    UsageReport,
)

running: list[int] = []
"""Calls that have begun and not ended."""
most: list[int] = []


async def look(word: str, s: float = 1.0) -> str:
    """Look a word up.

    Args:
        word: One word.
    """
    running.append(1)
    most.append(len(running))
    try:
        await trio.sleep(s)
    finally:
        running.pop()
    if word == "?":
        raise LookupError("no such word")
    return word.upper()


@pipeline
def ask(question: str) -> Stream[str]:
    return generate(question, system="Be short.", tools=[look], tools_at_once=2, tool_rounds_max=3)


@pipeline
def plain(question: str) -> Stream[str]:
    return generate(question)


@pipeline
def short(question: str) -> Stream[str]:
    return generate(question, output_tokens_max=5, tools=[look])


def run(asking: Pipeline[..., Any], model: Any, **world: Any) -> Simulation:
    """One run of it, with this model, which has kept the laws and left nothing running."""
    running.clear()
    most.clear()
    simulation = simulate(asking, World(models={"default": model}, **world), question="why?")
    check_laws(simulation)
    assert running == []
    return simulation


def call(word: str, s: float = 1.0, id_: str = "c") -> ToolCall:
    return ToolCall(id_, "look", f'{{"word": "{word}", "s": {s}}}')


words = st.lists(st.sampled_from(["a", "b", "?"]), min_size=1, max_size=5)
turns = st.lists(words, max_size=5)


@given(turns, st.integers(0, 2**32))
def test_every_call_gets_one_result_in_order_and_rounds_are_bounded(
    rounds: list[list[str]], schedule: int
) -> None:
    """The law of the loop, under drawn schedules."""
    calls = [
        [call(word, s=n % 3, id_=f"{r}.{n}") for n, word in enumerate(round_)]
        for r, round_ in enumerate(rounds)
    ]
    model = ScriptedTurns.saying(*calls, "done")
    done = run(ask, model, schedule=schedule)
    assert len(model.asked) == min(len(rounds), 3) + 1
    for request, asked in zip(model.asked[1:], calls, strict=False):
        *_, turn, results = request.messages
        assert turn == Message("assistant", tuple(asked))
        assert results.role == "tool"
        assert [(r.call_id, r.is_error) for r in results.parts if isinstance(r, ToolResult)] == [
            (each.id, '"?"' in each.arguments) for each in asked
        ]
    assert max(most, default=0) <= 2
    if len(rounds) > 3:
        assert isinstance(done.error, LimitExceededError)
        assert done.error.limit == "tool_rounds_max"
        assert f"rounds; it asks for look({calls[3][0].arguments})" in str(done.error)
    else:
        assert done.value == "done"


@given(turns, st.floats(0, 12), st.integers(0, 2**32))
def test_cancelled_at_any_moment_no_task_is_left(
    rounds: list[list[str]], at_s: float, schedule: int
) -> None:
    model = ScriptedTurns.saying(
        *([call(word) for word in each] for each in rounds), "done", every_s=1
    )
    done = run(ask, model, schedule=schedule, cancel_at_s=at_s)
    assert done.tasks_left == 0


PIECES = st.lists(st.sampled_from(["", "a", " b", "c ", "\n"]), max_size=3)


@given(st.lists(PIECES, min_size=1, max_size=4))
def test_what_two_rounds_say_never_runs_together(rounds: list[list[str]]) -> None:
    """A round before the last looks something up; all that was said is there, in its order."""
    *before, last = rounds
    asking: list[list[str | ToolCall]] = [[*each, call("sky", 0.0)] for each in before]
    model = ScriptedTurns.saying(*asking, last or "")
    told = run(ask, model).value
    texts = [text for text in map("".join, rounds) if text]
    expected = texts[:1]
    for one, other in itertools.pairwise(texts):
        near = one[-1].isspace() or other[0].isspace()
        expected.append(other if near else f"\n\n{other}")
    assert told == "".join(expected)


def test_a_round_that_was_paused_goes_on_in_the_middle_of_a_word() -> None:
    paused = Stopped(StopReason.PAUSED, "pause_turn")
    model = ScriptedTurns.saying(["Where", call("sky", 0.0)], ["It is bl", paused], ["ue."])
    assert run(ask, model).value == "Where\n\nIt is blue."


def test_the_text_of_every_round_is_streamed_and_usage_is_summed() -> None:
    model = ScriptedTurns.saying(
        ["Let me look. ", call("sky", 2.0), UsageReport(Usage(3, 4))],
        ["It is ", "blue.", UsageReport(Usage(9, 1)), UsageReport(Usage(9, 2))],
    )
    done = run(ask, model)
    assert done.value == "Let me look. It is blue."
    assert done.lasted_s == 2
    last = done.events[-1]
    assert isinstance(last, RunFinished)
    assert last.usage == Usage(12, 6)


def test_a_turn_goes_back_as_it_came_with_its_reasoning_and_seals() -> None:
    sealed = ToolCall("c1", "look", '{"word": "sky", "s": 0}', "seal-2")
    model = ScriptedTurns.saying([ReasoningDelta("Hm.", "seal-1"), "Let me look.", sealed], "Blue.")
    run(ask, model)
    first, second = model.asked
    assert first.messages == (Message("system", "Be short."), Message("user", "why?"))
    assert second.messages == (
        *first.messages,
        Message("assistant", (ReasoningPart("Hm.", "seal-1"), TextPart("Let me look."), sealed)),
        Message("tool", (ToolResult("c1", "look", "SKY"),)),
    )
    assert [each.name for each in second.tools] == ["look"]
    assert second.tools[0].parameters["properties"]["word"]["description"] == "One word."


def test_a_paused_turn_is_sent_back_and_counts_as_a_round() -> None:
    paused: list[ModelEvent] = [TextDelta("So "), Stopped(StopReason.PAUSED)]
    model = ScriptedTurns.saying(paused, paused, "it is.")
    assert run(plain, model).value == "So So it is."
    assert model.asked[1].messages[1:] == (Message("assistant", (TextPart("So "),)),)
    error = run(ask, ScriptedTurns.saying(*[paused] * 4)).error
    assert isinstance(error, LimitExceededError)
    assert "after tool_rounds_max=3 rounds; it asks for another turn" in str(error)


def test_a_model_that_has_to_call_a_tool_is_then_free() -> None:
    for choice in ("required", ForcedTool("look")):

        @pipeline
        def forced(question: str) -> Stream[str]:
            return generate(question, tools=[look], tool_choice=choice)

        model = ScriptedTurns.saying(call("a", 0.0), "done")
        assert run(forced, model).value == "done"
        assert [each.tool_choice for each in model.asked] == [choice, None]


def test_calls_that_may_not_be_parallel_are_not() -> None:
    @pipeline
    def serial(question: str) -> Stream[str]:
        return generate(question, tools=[look], parallel_tool_calls=False, tool_timeout_s=1.5)

    model = ScriptedTurns.saying([call("a"), call("b"), call("c", 2.0)], "done")
    assert run(serial, model).lasted_s == 3.5
    assert max(most) == 1
    assert model.asked[0].parallel_tool_calls is False
    results = model.asked[1].messages[-1].parts
    assert results[2] == ToolResult(
        "c", "look", "look was not done within 1.5 s, and was stopped", is_error=True
    )


END = Stopped(StopReason.END)
BAD_ENDS: list[tuple[Any, list[Any], type[ModelError], str]] = [
    (plain, ["No", Stopped(StopReason.CONTENT_FILTER, "SAFETY")], ContentFilterError, "stopped for 'SAFETY'"),
    (plain, [Stopped(StopReason.CONTENT_FILTER)], ContentFilterError, "stopped for 'content_filter'"),
    (plain, [RefusalDelta("I can"), RefusalDelta("not."), END], ContentFilterError, "refused to answer: I cannot."),
    (plain, ["Half", Stopped(StopReason.LENGTH)], ContextLengthError, "is not complete; .* give output_tokens_max"),
    (ask, [call("a"), Stopped(StopReason.LENGTH)], ContextLengthError, "is not complete"),
    (short, [call("a"), Stopped(StopReason.LENGTH)], OutputError, "cut in a tool call, after output_tokens_max=5"),
    (plain, ["x", Stopped(StopReason.OTHER, "load")], OutputError, "stopped for 'load', which is not the end"),
    (ask, ["x", Stopped(StopReason.TOOL_CALLS)], OutputError, "stopped for 'tool_calls', which is not the end"),
    (plain, [call("a")], OutputError, r"but was given none: look\(.*\); pass the functions"),
]  # fmt: skip


@pytest.mark.parametrize(("asking", "turn", "kind", "message"), BAD_ENDS)
def test_an_end_that_is_no_answer_is_an_error(
    asking: Any, turn: list[Any], kind: type[ModelError], message: str
) -> None:
    done = run(asking, ScriptedTurns.saying(turn))
    assert type(done.error) is kind
    with pytest.raises(kind, match=message):
        raise done.error
    assert done.error.model == "default"


def test_a_stream_that_is_cut_after_a_round_is_cut() -> None:
    looked = ScriptedTurns.saying(call("a", 0.0)).turns
    model = ScriptedTurns((*looked, ScriptedModel(((0, TextDelta("It")),))))
    assert isinstance(run(ask, model).error, TruncatedStreamError)


def test_a_cut_that_was_asked_for_is_an_end() -> None:
    assert run(short, ScriptedTurns.saying(["Half", Stopped(StopReason.LENGTH)])).value == "Half"


def test_a_model_without_tools_is_not_asked() -> None:
    model = ScriptedTurns.saying("x", capabilities=Capabilities(tools=False))
    error = run(ask, model).error
    assert isinstance(error, CapabilityError)
    assert "generate(tools=[look]): the model 'default' cannot call tools" in str(error)
    assert model.asked == []


@tool(thread=True)
def block(word: str) -> str:
    """Look a word up, slowly."""
    return word * 2


def test_a_tool_that_wants_a_thread_runs_on_the_spot_in_a_simulation() -> None:
    @pipeline
    def threaded(question: str) -> Stream[str]:
        return generate(question, tools=[block], tool_timeout_s=None)

    model = ScriptedTurns.saying(ToolCall("c", "block", '{"word": "ab"}'), "done")
    assert run(threaded, model).value == "done"
    assert model.asked[1].messages[-1].parts == (ToolResult("c", "block", "abab"),)


def test_settings_go_into_the_request_and_before_what_it_says_itself() -> None:
    @pipeline
    def warm(question: str, heat: float) -> Stream[str]:
        return generate(
            prompt("{q}", q=question),
            temperature=heat,
            top_p=0.5,
            output_tokens_max=9,
            stop="END",
            seed=0,
            reasoning_effort="low",
            extras={"openai": {"user": "me"}},
        )

    model = ScriptedTurns.saying("x")
    simulate(warm, World(models={"default": model}), question="why?", heat=0.0)
    assert model.asked == [
        ChatRequest(
            (Message("user", "why?"),),
            temperature=0.0,
            top_p=0.5,
            output_tokens_max=9,
            stop=("END",),
            seed=0,
            reasoning_effort="low",
            extras={"openai": {"user": "me"}},
        )
    ]

    @pipeline
    def asked(question: ChatRequest) -> Stream[str]:
        return generate(question, seed=2, stop=["a", "b"], extras={"b": {}})

    own = ChatRequest(
        (Message("user", "why?"),), seed=1, top_k=3, output=JsonOutput(), extras={"a": {}}
    )
    model = ScriptedTurns.saying("x")
    simulate(asked, World(models={"default": model}), question=own)
    assert model.asked == [attrs.evolve(own, seed=2, stop=("a", "b"), extras={"a": {}, "b": {}})]


def test_an_effort_stands_in_place_of_that_of_the_request_and_of_its_number() -> None:
    @pipeline
    def asked(question: ChatRequest) -> Stream[str]:
        return generate(question, reasoning_effort="low")

    said = (Message("user", "why?"),)
    model = ScriptedTurns.saying("x")
    own = ChatRequest(said, reasoning_effort="high", reasoning_tokens_max=9_000)
    simulate(asked, World(models={"default": model}), question=own)
    assert model.asked == [ChatRequest(said, reasoning_effort="low")]


def test_a_word_to_our_policies_that_none_reads_fails_before_the_model_is_asked() -> None:
    @pipeline
    def asked(question: str) -> Stream[str]:
        return generate(question, extras={"orchestra": {"cach": "off"}})

    model = ScriptedTurns.saying("x")
    found = simulate(asked, World(models={"default": model}), question="why?")
    assert "extras['orchestra'] has no 'cach': did you mean 'cache'" in str(found.error)
    assert not model.asked


def test_tools_that_a_request_brings_without_functions_stay_in_it() -> None:
    @pipeline
    def asked(question: ChatRequest) -> Stream[str]:
        return generate(question)

    own = ChatRequest((Message("user", "why?"),), tools=(Tool("t", "", {}),))
    model = ScriptedTurns.saying("x")
    simulate(asked, World(models={"default": model}), question=own)
    assert model.asked == [own]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tool_rounds_max": 0},
            r"generate\(tool_rounds_max=0\): it must be a number of times, 1 or",
        ),
        ({"tools_at_once": 1.5}, r"generate\(tools_at_once=1.5\): it must be a number of times"),
        (
            {"tool_timeout_s": -1},
            r"tool_timeout_s=-1\): it must be a number of seconds, more than 0",
        ),
        ({"tools": [lambda x: x]}, "a lambda in tools has no name and no annotations"),
        (
            {"tools": look},
            r"tools=look is one function, and tools are a list of functions: write tools=\[look\]",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_where_it_is_written(
    options: dict[str, Any], message: str
) -> None:
    def wrong(question: str) -> Stream[str]:
        answer: Stream[str] = generate(question, **options)
        return answer

    with pytest.raises(DefinitionError, match=message) as caught:
        pipeline(wrong)
    assert "test_talk.py:" in str(caught.value)


def test_tools_are_decided_when_the_pipeline_is_written() -> None:
    def listed(question: str, chosen: Any) -> Stream[str]:
        return generate(question, tools=chosen)

    def named(question: str, chosen: Any) -> Stream[str]:
        return generate(question, tools=[chosen])

    with pytest.raises(DefinitionError, match=r"tools=chosen: which functions .* name them"):
        pipeline(listed)
    with pytest.raises(DefinitionError, match=r"test_talk.*the wire chosen is not a function yet"):
        pipeline(named)


def test_a_bound_that_is_a_wire_is_refused() -> None:
    def wired(question: str, n: int) -> Stream[str]:
        return generate(question, tool_rounds_max=n)

    with pytest.raises(
        DefinitionError, match="known when the pipeline is defined: write it as a number"
    ):
        pipeline(wired)


def test_extras_for_a_misspelt_provider_are_refused_when_the_pipeline_is_defined() -> None:
    def flex(question: str) -> Stream[str]:
        return generate(question, extras={"opnai": {"service_tier": "flex"}})

    with pytest.raises(DefinitionError, match=r"test_talk.*has no 'opnai'.*did you mean 'openai'"):
        pipeline(flex)


def test_misspelt_and_missing_arguments_are_problems_with_their_fix() -> None:
    @pipeline
    def wrong(question: str) -> Stream[str]:
        return generate(question, temprature=question)  # type: ignore[call-overload, no-any-return]

    (problem,) = check(wrong)
    assert problem.code == "unknown-argument"
    assert "did you mean 'temperature'?" in problem.fix
    assert "it takes: asked, returns, model, policy" in problem.fix

    @pipeline
    def none() -> Stream[str]:
        return generate()  # type: ignore[call-overload, no-any-return]

    assert [problem.code for problem in check(none)] == ["missing-argument"]

    @pipeline
    def kinds(question: str) -> Stream[str]:
        return generate(question, temperature=question, model="default")  # type: ignore[call-overload, no-any-return]

    (problem,) = check(kinds)
    assert "generate(temperature=...) takes float | None" in problem.message


def test_it_is_a_step_like_others() -> None:
    assert generate.name == "generate"
    assert generate.returns == Stream[str]
    with pytest.raises(DefinitionError, match="step 'generate' was called outside a pipeline"):
        generate("why?")

    @pipeline
    def patient(question: str) -> Stream[str]:
        return fallback(
            generate.using(Policy(first_chunk_s=1))(question), generate(question, model="other")
        )

    slow = ScriptedModel.saying("x", every_s=2)
    world = World(models={"default": slow, "other": ScriptedModel.saying("y")})
    assert simulate(patient, world, question="why?").value == "y"
    with pytest.raises(CheckError, match="there is no model 'other'"):
        simulate(patient, World(models={"default": slow}), question="why?")


class Fake:
    """The least that is a model, and the least that is a context."""

    def model(self, name: str) -> Any:
        """Any."""
        return ScriptedTurns.saying(ToolCallDelta(0, "c", "f", "{}"))


def test_its_function_can_be_called_alone() -> None:
    async def main() -> list[str]:
        calling = generate.call("why?", model="m", context=cast("Context", Fake()))
        return [chunk async for chunk in calling]

    with pytest.raises(OutputError, match="model 'm' calls tools"):
        trio.run(main)


USED = UsageReport(Usage(input_tokens=1, output_tokens=1))


@attrs.frozen
class Plan:
    """What to do next."""

    word: str
    done: bool


@step
async def planned(goal: str, *, context: Context = injected) -> str:
    for _ in range(3):
        plan = await generate.call(goal, returns=Plan, context=context)
        if plan.done:
            return goal
        told = generate.call(f"{goal} {plan.word}", tools=[look], context=context)
        goal = "".join([chunk async for chunk in told])
    return "no end"


@pipeline
def looped(goal: str) -> str:
    return planned(goal)


def test_a_loop_in_a_step_asks_with_tools_and_for_objects_and_is_accounted_for() -> None:
    model = ScriptedTurns.saying(
        ('{"word": "a", "done": false}', USED),
        (ToolCall("1", "look", '{"word": "a"}'), USED),
        ("A", USED),
        ('{"word": "", "done": true}', USED),
    )
    run = simulate(looped, World(models={"default": model}), goal="say it")
    check_laws(run)
    assert run.value == "A"
    end = run.events[-1]
    assert isinstance(end, RunFinished)
    assert end.usage is not None
    assert end.usage.output_tokens == 4
    assert [event.type for event in run.events].count("tool.finished") == 1


def test_a_policy_that_its_function_would_not_keep_is_refused() -> None:
    with pytest.raises(DefinitionError, match="give it to your own step"):
        generate.call("why?", context=cast("Context", Fake()), policy=Policy(timeout_s=1))


def test_a_message_in_the_form_of_openais_api_is_told_ours() -> None:
    @pipeline
    def wired(question: str) -> Stream[str]:
        return generate(cast("Any", [{"role": "user", "content": question}]))

    @pipeline
    def plain() -> Stream[str]:
        return generate(cast("Any", [{"role": "user", "content": "Why?"}]))

    for each in (wired, plain):
        (problem,) = check(each)
        assert problem.code == "type-clash"
        assert problem.fix.endswith("make it in a step: `return [Message('user', text)]`")
