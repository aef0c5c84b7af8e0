"""What Anthropic is asked, held against the types of its own client."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, get_args

import pytest
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from orchestra.answers import Completion
from orchestra.codecs.anthropic.dialect import message_events
from orchestra.codecs.anthropic.request import anthropic_body
from orchestra.codecs.bedrock.request import converse_body
from orchestra.errors import CapabilityError
from orchestra.providers.known.dialects import anthropic
from orchestra.values import (
    ChatRequest,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    Part,
    ReasoningEffort,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.codecs.system_messages import sendable

WHOLE: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
STREAMED: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)
SCHEMA: Json = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
TOOL = Tool("weather", "Tells the weather", SCHEMA)
USER = Message("user", "hello")


def body(*messages: Message, model: str = "claude-sonnet-5", **options: Any) -> Json:
    """The body, once Anthropic's own types have found nothing wrong with it."""
    made = anthropic_body(model, ChatRequest(messages or (USER,), **options), False)
    check(made)
    return made


def check(made: Json, adapter: TypeAdapter[Any] = WHOLE) -> None:
    walk(adapter.validate_json(json.dumps(spelled_out(made)), strict=True))


def spelled_out(value: Any) -> Any:
    """With a block where a plain string stands for one: pydantic takes strings for lists there."""
    if isinstance(value, list):
        return [spelled_out(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: [{"type": "text", "text": each}]
        if key in ("system", "content") and isinstance(each, str)
        else spelled_out(each)
        for key, each in value.items()
    }


def walk(value: object) -> None:
    """Lists are validated only when somebody looks at what is in them."""
    if isinstance(value, dict):
        walk(value.values())
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for each in value:
            walk(each)


# --- the laws -----------------------------------------------------------------------------------

words = st.text(max_size=4)
seals = st.sampled_from(["", "seal", "redacted:data"])
parts = st.one_of(
    st.builds(TextPart, words, st.booleans()),
    st.builds(ImagePart, st.binary(max_size=3), st.just("image/png")),
    st.builds(ImageUrlPart, words),
    st.builds(ReasoningPart, words, seals),
    st.builds(ToolCall, words, words, st.sampled_from(["{}", '{"x": 1}', '{"x'])),
    st.builds(ToolResult, words, words, words, st.booleans(), st.booleans()),
)
contents = st.one_of(words, st.lists(parts, max_size=4).map(tuple))
roles = st.sampled_from(["system", "user", "assistant", "tool"])
messages = st.lists(st.builds(Message, roles, contents).map(sendable), max_size=6).map(tuple)
efforts = st.sampled_from([None, *get_args(ReasoningEffort)])
models = st.sampled_from(["claude-3-7-sonnet-20250219", "claude-opus-4-6", "claude-haiku-4-5"])
choices = st.sampled_from([None, "auto", "none", "required", ForcedTool("weather")])
requests = st.builds(
    ChatRequest,
    messages,
    temperature=st.none() | st.floats(0, 1),
    output_tokens_max=st.none() | st.integers(1_025, 9_000),
    stop=st.lists(words, max_size=2).map(tuple),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(1, 9),
    reasoning_effort=efforts,
    reasoning_tokens_max=st.none() | st.integers(1, 20_000),
    tools=st.sampled_from([(), (TOOL,)]),
    tool_choice=choices,
    parallel_tool_calls=st.none() | st.booleans(),
    output=st.sampled_from([None, JsonOutput(SCHEMA)]),
)


@given(models, requests, st.booleans())
def test_anthropic_s_own_types_find_nothing_wrong(
    model: str, request: ChatRequest, stream: bool
) -> None:
    made = anthropic_body(model, request, stream)
    check(made, STREAMED if stream else WHOLE)
    # Only models before Claude Opus 4.7 take these, so that the newest client has lost them.
    sampling = {"temperature", "top_p", "top_k"}
    assert set(made) <= set(MessageCreateParamsStreaming.__annotations__) | sampling


@given(messages)
def test_turns_alternate_with_results_first_and_no_empty_text(asked: tuple[Message, ...]) -> None:
    turns = anthropic_body("m", ChatRequest(asked), False)["messages"]
    sides = [turn["role"] for turn in turns]
    assert all(one != other for one, other in pairwise(sides))
    for turn in turns:
        kinds = [block["type"] for block in turn["content"]]
        assert kinds
        results = kinds.count("tool_result")
        assert kinds[:results] == ["tool_result"] * results
        assert all(block["text"].strip() for block in turn["content"] if block["type"] == "text")


@given(models, requests)
def test_a_budget_for_thoughts_leaves_room_for_the_answer(model: str, request: ChatRequest) -> None:
    made = anthropic_body(model, request, False)
    most = made["max_tokens"]
    if (thinking := made.get("thinking", {})).get("type") == "enabled":
        budget, exact = thinking["budget_tokens"], request.reasoning_tokens_max
        assert 1_024 <= budget < most
        if exact is None:
            assert budget <= max(1_024, most - min(4_096, most // 2))
        else:
            assert budget == min(max(exact, 1_024), most - 1), "as it was asked for, if it can be"
    assert made["max_tokens"] == request.output_tokens_max or not request.output_tokens_max


@given(st.lists(st.sampled_from(["text", "thinking", "redacted_thinking", "tool_use"]), max_size=5))
def test_an_answer_goes_back_as_it_came(kinds: list[str]) -> None:
    """Thoughts keep their seals, calls their ids; only text that touches is joined."""
    told: dict[str, Any] = {
        "text": {"text": "so"},
        "thinking": {"thinking": "", "signature": "c2VhbA=="},
        "redacted_thinking": {"data": "ZGF0YQ=="},
        "tool_use": {"name": "f", "input": {"x": 1}},
    }
    content = [{"type": kind, **told[kind]} for kind in kinds]
    for number, block in enumerate(content):
        if block["type"] == "tool_use":
            block["id"] = f"a{number}"
    message = {"content": content, "stop_reason": "end_turn"}
    answer = Completion.of(message_events(json.dumps(message).encode()))
    turns = anthropic_body("m", ChatRequest((answer.message,)), False)["messages"]
    apart: list[Any] = []
    for block in content:
        if apart and block["type"] == apart[-1]["type"] == "text":
            apart[-1] = {"type": "text", "text": apart[-1]["text"] + block["text"]}
        else:
            apart.append(block)
    assert turns == ([{"role": "assistant", "content": apart}] if apart else [])


# --- examples ---------------------------------------------------------------------------------------


def test_a_request_says_all_that_it_was_given() -> None:
    made = body(
        Message("system", "Be brief."),
        USER,
        Message("system", "And kind."),
        temperature=0.5,
        output_tokens_max=10,
        stop=("END",),
        top_p=0.9,
        top_k=40,
        output=JsonOutput(SCHEMA),
        extras={"anthropic": {"service_tier": "auto", "top_k": 41}, "openai": {"user": "me"}},
    )
    assert made == {
        "model": "claude-sonnet-5",
        "stream": False,
        "max_tokens": 10,
        "system": "Be brief.\n\nAnd kind.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 41,
        "stop_sequences": ["END"],
        "output_config": {
            "format": {"type": "json_schema", "schema": SCHEMA | {"additionalProperties": False}}
        },
        "service_tier": "auto",
    }


def test_a_conversation_with_a_tool_is_two_sides_taking_turns() -> None:
    said: tuple[Part, ...] = (
        ReasoningPart("hm", "seal"),
        ReasoningPart("another provider's"),
        ReasoningPart("", "redacted:secret"),
        TextPart("let me see"),
        ToolCall("a", "weather", '{"x": 1}'),
        ToolCall("b", "weather", '{"x": '),
    )
    made = body(
        Message(
            "user", (TextPart("what is it like?"), ImagePart(b"\x00"), ImageUrlPart("https://u"))
        ),
        Message("assistant", said),
        Message("user", "well?"),
        Message("tool", (ToolResult("a", "weather", "fine"),)),
        Message("tool", (ToolResult("b", "weather", "", is_error=True),)),
        tools=(TOOL,),
    )
    assert made["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is it like?"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
                },
                {"type": "image", "source": {"type": "url", "url": "https://u"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "seal"},
                {"type": "redacted_thinking", "data": "secret"},
                {"type": "text", "text": "let me see"},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"x": 1}},
                {
                    "type": "tool_use",
                    "id": "b",
                    "name": "weather",
                    "input": {"INVALID_JSON": '{"x": '},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "fine"},
                {"type": "tool_result", "tool_use_id": "b", "is_error": True},
                {"type": "text", "text": "well?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "wire"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("required", None, {"type": "any"}),
        ("none", False, {"type": "none"}),
        (ForcedTool("weather"), None, {"type": "tool", "name": "weather"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        (None, True, {"type": "auto", "disable_parallel_tool_use": False}),
    ],
)
def test_a_choice_of_tool_is_told(
    choice: ToolChoice | None, parallel: bool | None, wire: Json | None
) -> None:
    made = body(tools=(TOOL,), tool_choice=choice, parallel_tool_calls=parallel)
    assert made.get("tool_choice") == wire
    without = body(tool_choice=choice, parallel_tool_calls=parallel)
    assert "tool_choice" not in without


def test_a_strict_tool_is_shown_with_a_schema_that_can_be_enforced() -> None:
    (tool,) = body(tools=(Tool("f", "", SCHEMA, strict=True),))["tools"]
    assert (tool["strict"], tool["input_schema"]) == (
        True,
        SCHEMA | {"additionalProperties": False},
    )
    (tool,) = body(tools=(TOOL,))["tools"]
    assert tool == {
        "name": "weather",
        "description": "Tells the weather",
        "input_schema": SCHEMA,
    }


SHOWN = {"type": "adaptive", "display": "summarized"}
ADAPTIVE = ["claude-opus-4-6", "claude-sonnet-5", "claude-fable-5-1", "my-deployment", ""]
BUDGETED = [
    "claude-3-7-sonnet-20250219",
    "claude-3.7-sonnet",
    "claude-sonnet-4-20250514",
    "claude-opus-4-1-20250805",
    "claude-haiku-4-5",
    "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
]


@pytest.mark.parametrize("model", ADAPTIVE)
@pytest.mark.parametrize(
    ("effort", "told"),
    [("minimal", "low"), ("low", "low"), ("high", "high"), ("xhigh", "xhigh"), ("max", "max")],
)
def test_new_models_are_told_how_hard_to_think(
    model: str, effort: ReasoningEffort, told: str
) -> None:
    older = "4-6" in model
    adaptive = {"type": "adaptive"} if older else SHOWN
    made = body(model=model, reasoning_effort=effort, output=JsonOutput(SCHEMA))
    assert made["thinking"] == adaptive
    assert made["output_config"]["effort"] == ("max" if older and effort == "xhigh" else told)
    assert "format" in made["output_config"]
    assert made["max_tokens"] > 4_096
    made = body(model=model, reasoning_effort="none", output_tokens_max=9)
    always = "fable" in model
    assert made["thinking"] == (adaptive if always else {"type": "disabled"})
    assert made.get("output_config") == ({"effort": "low"} if always else None)
    assert made["max_tokens"] == 9


@pytest.mark.parametrize("model", BUDGETED)
def test_old_models_are_told_how_long_to_think(model: str) -> None:
    made = body(model=model, reasoning_effort="medium")
    assert made["thinking"] == {"type": "enabled", "budget_tokens": 8_192}
    assert made["max_tokens"] == 4_096 + 8_192
    made = body(model=model, reasoning_effort="high", output_tokens_max=2_000)
    assert made["thinking"]["budget_tokens"] == 1_024, "the least that is allowed"
    made = body(model=model, reasoning_effort="max", output_tokens_max=9_000)
    assert made["thinking"]["budget_tokens"] == 9_000 - 4_096
    assert "thinking" not in body(model=model, reasoning_effort="none")
    with pytest.raises(CapabilityError, match="output_tokens_max=1024 leaves no room"):
        body(model=model, reasoning_effort="low", output_tokens_max=1_024)
    wished = body(model=model, reasoning_effort="max", output_tokens_max=2_047, effort_if_able=True)
    assert wished == body(model=model, output_tokens_max=2_047)


@pytest.mark.parametrize("model", [*BUDGETED, "claude-opus-4-6", "claude-sonnet-4-6"])
def test_a_number_of_tokens_is_told_to_whoever_takes_one(model: str) -> None:
    made = body(model=model, reasoning_effort="high", reasoning_tokens_max=9_999)
    assert made["thinking"] == {"type": "enabled", "budget_tokens": 9_999}
    assert made["max_tokens"] == 4_096 + 9_999
    for newer in ("claude-opus-4-7", "claude-sonnet-5"):
        made = body(model=newer, reasoning_effort="high", reasoning_tokens_max=9_999)
        assert made["thinking"] == SHOWN
        assert made["output_config"] == {"effort": "high"}


@pytest.mark.parametrize("effort", [None, *get_args(ReasoningEffort)])
@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-opus-4-6", "claude-opus-4-7"])
def test_how_thoughts_are_shown_is_asked_for_only_with_thoughts(
    model: str, effort: ReasoningEffort | None
) -> None:
    """A client's wish is heard, and sent only where there may be thoughts: else it is refused."""
    wish = {"anthropic": {"thinking": {"display": "omitted"}}}
    made = body(model=model, reasoning_effort=effort, extras=wish).get("thinking", {})
    thinks = effort not in {None, "none"}
    assert made.get("display") == ("omitted" if thinks else None)
    assert (made.get("type") in {"adaptive", "enabled"}) is thinks


THOUGHT = ReasoningPart("so", "c2VhbA==")
CALLED = ToolCall("c1", "weather", "{}")
ANSWERED = Message("tool", (ToolResult("c1", "weather", "fine"),))


@pytest.mark.parametrize(
    ("said", "more", "thinks"),
    [
        ((THOUGHT, CALLED), (ANSWERED,), True),
        ((CALLED,), (ANSWERED,), False),
        ((ReasoningPart("another model's"), CALLED), (ANSWERED,), False),
        ((TextPart("Let me see"), CALLED), (ANSWERED, Message("user", "Well?")), False),
        ((CALLED,), (ANSWERED, Message("assistant", "It is fine."), USER), True),
        ((TextPart("Hi"),), (USER,), True),
    ],
)
def test_an_old_model_is_not_told_to_think_between_calls_that_it_did_not_think_before(
    said: tuple[Part, ...], more: tuple[Message, ...], thinks: bool
) -> None:
    messages = (USER, Message("assistant", said), *more)
    made = body(*messages, model="claude-haiku-4-5", reasoning_effort="low", tools=(TOOL,))
    assert ("thinking" in made) is thinks
    assert made["max_tokens"] == 4_096 + 2_048 * thinks
    made = body(*messages, model="claude-sonnet-5", reasoning_effort="low", tools=(TOOL,))
    assert made["thinking"] == SHOWN
    request = ChatRequest(messages, reasoning_effort="low", tools=(TOOL,))
    converse = converse_body("anthropic.claude-haiku-4-5-v1:0", request)
    assert ("additionalModelRequestFields" in converse) is thinks


def test_a_model_is_not_asked_for_more_than_it_gives() -> None:
    request = ChatRequest((USER,), reasoning_effort="max")
    most = {"output_tokens": 32_000, "output_tokens_max": 32_000}
    made = anthropic_body("claude-opus-4-1", request, False, **most)  # type: ignore[arg-type]
    assert made["max_tokens"] == 32_000
    assert made["thinking"]["budget_tokens"] == 24_576
    dialect = anthropic({"output_tokens_max": "32000"})
    assert json.loads(dialect.ask("claude-opus-4-1", request, stream=False).body) == made


def test_bedrock_has_neither_model_nor_stream_in_the_body() -> None:
    request = ChatRequest((USER,), reasoning_effort="low")
    made = anthropic_body(None, request, True, known_as="anthropic.claude-3-7-sonnet-v1:0")
    assert {"model", "stream"}.isdisjoint(made)
    assert made["thinking"]["type"] == "enabled"
    assert anthropic_body(None, request, True)["thinking"] == SHOWN


@pytest.mark.parametrize(
    "option", [{"seed": 7}, {"presence_penalty": 0.0}, {"frequency_penalty": 0.5}]
)
def test_what_anthropic_has_no_words_for_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(CapabilityError, match=next(iter(option))):
        body(**option)


def test_json_without_a_schema_is_refused() -> None:
    with pytest.raises(CapabilityError, match="requires a schema"):
        body(output=JsonOutput())
