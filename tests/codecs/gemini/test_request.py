"""What Gemini is asked, held against the types of its own client."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, get_args

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from orchestra.answers import Completion
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.gemini.request import gemini_body
from orchestra.errors import CapabilityError
from orchestra.values import (
    ChatRequest,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    ReasoningEffort,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.codecs.system_messages import sendable

SCHEMA: Json = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
TOOL = Tool("weather", "Tells the weather", SCHEMA)
USER = Message("user", "hello")
KINDS: dict[str, type[BaseModel]] = {
    "systemInstruction": types.Content,
    "generationConfig": types.GenerationConfig,
    "toolConfig": types.ToolConfig,
}


def body(*messages: Message, model: str = "gemini-3-flash", **options: Any) -> Json:
    """The body, once Google's own types have found nothing wrong with it."""
    made = gemini_body(model, ChatRequest(messages or (USER,), **options))
    check(made)
    return made


def check(made: Json) -> None:
    """Google's types refuse fields that they do not know; each list is of one type."""
    assert set(made) <= {"contents", "tools", *KINDS}
    for name, kind in KINDS.items():
        if name in made:
            kind.model_validate_json(json.dumps(made[name]), strict=False)
    for content in made["contents"]:
        types.Content.model_validate_json(json.dumps(content))
    for tool in made.get("tools", ()):
        types.Tool.model_validate_json(json.dumps(tool))


# --- the laws -----------------------------------------------------------------------------------

words = st.text(max_size=4)
seals = st.sampled_from(["", "c2VhbA=="])
parts = st.one_of(
    st.builds(TextPart, words),
    st.builds(ImagePart, st.binary(max_size=3), st.just("image/png")),
    st.builds(ImageUrlPart, st.sampled_from(["https://u/a.png", "https://u/a?b=.c"])),
    st.builds(ReasoningPart, words, seals),
    st.builds(ToolCall, words, words, st.sampled_from(["{}", '{"x": 1}', '{"x']), seals),
    st.builds(ToolResult, words, words, words, st.booleans()),
)
contents = st.one_of(words, st.lists(parts, max_size=4).map(tuple))
roles = st.sampled_from(["system", "user", "assistant", "tool"])
messages = st.lists(st.builds(Message, roles, contents).map(sendable), max_size=6).map(tuple)
choices = st.sampled_from([None, "auto", "none", "required", ForcedTool("weather")])
requests = st.builds(
    ChatRequest,
    messages,
    temperature=st.none() | st.floats(0, 1),
    output_tokens_max=st.none() | st.integers(1, 9_000),
    stop=st.lists(words, max_size=2).map(tuple),
    seed=st.none() | st.integers(0, 9),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(1, 9),
    presence_penalty=st.none() | st.floats(0, 1),
    frequency_penalty=st.none() | st.floats(0, 1),
    reasoning_effort=st.sampled_from([None, *get_args(ReasoningEffort)]),
    tools=st.sampled_from([(), (TOOL,), (TOOL, Tool("now", "", {}, strict=True))]),
    tool_choice=choices,
    output=st.sampled_from([None, JsonOutput(SCHEMA), JsonOutput()]),
)


@given(st.sampled_from(["gemini-2.5-pro", "gemini-3-flash"]), requests)
def test_google_s_own_types_find_nothing_wrong(model: str, request: ChatRequest) -> None:
    check(gemini_body(model, request))


@given(messages)
def test_turns_alternate_and_none_is_empty(asked: tuple[Message, ...]) -> None:
    turns = gemini_body("m", ChatRequest(asked))["contents"]
    assert all(one["role"] != other["role"] for one, other in pairwise(turns))
    assert all(turn["parts"] for turn in turns)


answered = st.lists(
    st.one_of(
        st.builds(lambda seal: {"text": "so", "thoughtSignature": seal}, st.just("c2VhbA==")),
        st.just({"text": "", "thoughtSignature": "c2VhbA=="}),
        st.just({"text": "hm", "thought": True, "thoughtSignature": "dGhvdWdodA=="}),
        st.just({"text": "a summary", "thought": True}),
        st.just({"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}}),
        st.just(
            {
                "functionCall": {"id": "b", "name": "g", "args": {}},
                "thoughtSignature": "Y2FsbA==",
            }
        ),
    ),
    max_size=5,
)


@given(answered)
def test_an_answer_goes_back_as_it_came(given_parts: list[dict[str, Any]]) -> None:
    """Every seal on the part that it came with; a thought without a seal is only a summary."""
    candidate = {"content": {"parts": given_parts}, "finishReason": "STOP"}
    events = GeminiDialect().decode(json.dumps({"candidates": [candidate]}).encode())
    turns = gemini_body("m", ChatRequest((Completion.of(events).message,)))["contents"]
    sent = [each for turn in turns for each in turn["parts"]]
    assert sent == joined(given_parts)


def joined(given_parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Thoughts that touch are one, up to a seal of their own."""
    result: list[dict[str, Any]] = []
    open_thought = ""
    for each in given_parts:
        if not each.get("thought"):
            open_thought = ""
            result.append(each)
        elif "thoughtSignature" in each:
            result.append(each | {"text": open_thought + each["text"]})
            open_thought = ""
        else:
            open_thought += each["text"]
    return result


# --- examples ---------------------------------------------------------------------------------------


def test_a_request_says_all_that_it_was_given() -> None:
    request = ChatRequest(
        (Message("system", "Be brief."), USER, Message("system", "And kind.")),
        temperature=0.5,
        output_tokens_max=10,
        stop=("END",),
        seed=7,
        top_p=0.9,
        top_k=40,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        output=JsonOutput(SCHEMA),
        parallel_tool_calls=False,
        extras={
            "gemini": {"safetySettings": [], "generationConfig": {"candidateCount": 1, "topK": 41}},
            "openai": {"user": "me"},
        },
    )
    assert gemini_body("gemini-3", request) == {
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "And kind."}]},
        "generationConfig": {
            "temperature": 0.5,
            "topP": 0.9,
            "topK": 41,
            "maxOutputTokens": 10,
            "stopSequences": ["END"],
            "seed": 7,
            "presencePenalty": 0.1,
            "frequencyPenalty": 0.2,
            "responseMimeType": "application/json",
            "responseJsonSchema": SCHEMA,
            "candidateCount": 1,
        },
        "safetySettings": [],
    }
    assert body() == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
    assert body(output=JsonOutput())["generationConfig"] == {"responseMimeType": "application/json"}


def test_a_conversation_with_a_tool_is_two_sides_taking_turns() -> None:
    made = body(
        Message("user", (TextPart("what?"), ImagePart(b"\x00"), ImageUrlPart("https://u/a.JPG?b"))),
        Message("user", (ImageUrlPart("https://u/a"),)),
        Message(
            "assistant",
            (
                ReasoningPart("another provider's"),
                ReasoningPart("hm", "c2VhbA=="),
                TextPart("let me see"),
                ToolCall("a", "weather", '{"x": 1}', "Y2FsbA=="),
                ToolCall("b", "weather", '{"x": '),
            ),
        ),
        Message("tool", (ToolResult("a", "weather", "fine"),)),
        Message("tool", (ToolResult("b", "weather", "no such place", is_error=True),)),
        tools=(TOOL,),
    )
    failed = {"id": "b", "name": "weather", "response": {"error": "no such place"}}
    assert made["contents"] == [
        {
            "role": "user",
            "parts": [
                {"text": "what?"},
                {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
                {"fileData": {"fileUri": "https://u/a.JPG?b", "mimeType": "image/jpeg"}},
                {"fileData": {"fileUri": "https://u/a"}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True, "thoughtSignature": "c2VhbA=="},
                {"text": "let me see"},
                {
                    "functionCall": {"id": "a", "name": "weather", "args": {"x": 1}},
                    "thoughtSignature": "Y2FsbA==",
                },
                {
                    "functionCall": {
                        "id": "b",
                        "name": "weather",
                        "args": {"INVALID_JSON": '{"x": '},
                    }
                },
            ],
        },
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": "a",
                        "name": "weather",
                        "response": {"output": "fine"},
                    }
                },
                {"functionResponse": failed},
            ],
        },
    ]


def test_a_seal_goes_on_the_text_behind_it() -> None:
    said = (
        ReasoningPart("", "text:one"),
        TextPart("so"),
        TextPart("then"),
        ReasoningPart("", "text:two"),
        ReasoningPart("", "text:three"),
        TextPart(""),
        ReasoningPart("", "text:four"),
        ToolCall("a", "f"),
        ReasoningPart("", "text:five"),
    )
    (turn,) = gemini_body("m", ChatRequest((Message("assistant", said),)))["contents"]
    assert turn["parts"] == [
        {"text": "so", "thoughtSignature": "one"},
        {"text": "then"},
        {"text": "", "thoughtSignature": "two"},
        {"text": "", "thoughtSignature": "three"},
        {"text": "", "thoughtSignature": "four"},
        {"functionCall": {"id": "a", "name": "f", "args": {}}},
        {"text": "", "thoughtSignature": "five"},
    ]


@pytest.mark.parametrize(
    ("choice", "strict", "calling"),
    [
        (None, False, None),
        ("auto", False, {"mode": "AUTO"}),
        ("none", True, {"mode": "NONE"}),
        ("required", True, {"mode": "ANY"}),
        (ForcedTool("weather"), True, {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
        (None, True, {"mode": "VALIDATED"}),
        ("auto", True, {"mode": "VALIDATED"}),
    ],
)
def test_a_choice_of_tool_is_told(
    choice: ToolChoice | None, strict: bool, calling: Json | None
) -> None:
    tool = Tool("weather", "Tells the weather", SCHEMA, strict)
    made = body(tools=(tool,), tool_choice=choice, parallel_tool_calls=True)
    assert made.get("toolConfig") == (calling and {"functionCallingConfig": calling})
    (declared,) = made["tools"][0]["functionDeclarations"]
    assert declared == {
        "name": "weather",
        "description": "Tells the weather",
        "parametersJsonSchema": SCHEMA,
    }
    assert "toolConfig" not in body(tool_choice=choice)


@pytest.mark.parametrize(
    "schema",
    [{}, {"type": "object", "properties": {}, "required": [], "additionalProperties": False}],
)
def test_a_tool_without_arguments_has_no_schema(schema: Json) -> None:
    (declared,) = body(tools=(Tool("now", "Tells the time", schema),))["tools"][0].values()
    assert declared == [{"name": "now", "description": "Tells the time"}]


@pytest.mark.parametrize(
    ("model", "effort", "told"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "minimal", {"includeThoughts": True, "thinkingBudget": 1_024}),
        ("models/gemini-2.5-flash", "medium", {"includeThoughts": True, "thinkingBudget": 8_192}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-3-pro-preview", "none", {"thinkingLevel": "LOW"}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.1-flash-lite", "minimal", {"includeThoughts": True, "thinkingLevel": "MINIMAL"}),
        ("gemini-flash-latest", "minimal", {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", "none", {"thinkingLevel": "LOW"}),
        ("gemini-3.6-flash", "low", {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-20", "high", {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        ("endpoints/123", "max", {"includeThoughts": True, "thinkingLevel": "HIGH"}),
    ],
)
def test_a_model_is_told_how_hard_or_how_long_to_think(
    model: str, effort: ReasoningEffort, told: Json
) -> None:
    config = body(model=model, reasoning_effort=effort)["generationConfig"]
    assert config == {"thinkingConfig": told}


@pytest.mark.parametrize(
    ("model", "asked", "told"),
    [
        ("gemini-2.5-flash", 9_999, 9_999),
        ("gemini-2.5-pro", 1, 128),
        ("gemini-2.5-pro", 99_999, 24_576),
    ],
)
def test_a_number_of_tokens_is_told_to_whoever_takes_one(model: str, asked: int, told: int) -> None:
    found = body(model=model, reasoning_effort="low", reasoning_tokens_max=asked)
    assert found["generationConfig"]["thinkingConfig"]["thinkingBudget"] == told
    newer = body(model="gemini-3-pro-preview", reasoning_effort="low", reasoning_tokens_max=asked)
    assert newer["generationConfig"]["thinkingConfig"]["thinkingLevel"] == "LOW"


def test_calls_at_once_cannot_be_forbidden() -> None:
    with pytest.raises(CapabilityError, match="parallel_tool_calls=False"):
        body(tools=(TOOL,), parallel_tool_calls=False)
