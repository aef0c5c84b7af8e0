"""What OpenAI-shaped servers are asked: bodies, field by field."""

from __future__ import annotations

import json
from typing import Any, get_args

import attrs
import pytest

from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import (
    DEEPSEEK,
    GENERIC,
    GROQ,
    MISTRAL,
    OPENAI,
    OPENROUTER,
    PERPLEXITY,
    PRESETS,
    TOGETHER,
    Quirks,
)
from orchestra.codecs.openai.request import chat_body
from orchestra.errors import CapabilityError
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    Part,
    ReasoningEffort,
    ReasoningPart,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)

HELLO = Message("user", "Hello")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ADD = Tool("add", "Adds", SCHEMA, strict=True)


def body(quirks: Quirks = OPENAI, *, stream: bool = False, **fields: Any) -> Json:
    request = ChatRequest(**({"messages": (HELLO,)} | fields))
    call = OpenAiDialect(quirks).ask("m", request, stream=stream)
    assert call.path == "/chat/completions"
    assert call.headers == (("content-type", "application/json"),)
    found: Json = json.loads(call.body)
    return found


def messages(*turns: Message, quirks: Quirks = OPENAI) -> list[Json]:
    found: list[Json] = body(quirks, messages=turns)["messages"]
    return found


def test_what_is_not_asked_for_is_not_in_the_body() -> None:
    assert body() == {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def test_a_stream_is_asked_for_its_usage_where_it_has_to_be() -> None:
    asked = body(stream=True)
    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})
    assert "stream_options" not in body(MISTRAL, stream=True)


def test_every_field_has_its_word() -> None:
    asked = body(
        GENERIC,
        temperature=0.0,
        output_tokens_max=9,
        stop=("a", "b"),
        seed=0,
        top_p=0.5,
        top_k=3,
        presence_penalty=0.0,
        frequency_penalty=1.5,
        reasoning_effort="low",
        tools=(ADD,),
        tool_choice="required",
        parallel_tool_calls=False,
        output=JsonOutput(SCHEMA, "sum"),
    )
    del asked["model"], asked["messages"]
    assert asked == {
        "temperature": 0.0,
        "max_tokens": 9,
        "stop": ["a", "b"],
        "seed": 0,
        "top_p": 0.5,
        "top_k": 3,
        "presence_penalty": 0.0,
        "frequency_penalty": 1.5,
        "reasoning_effort": "low",
        "tools": [
            {
                "type": "function",
                "function": {"name": "add", "description": "Adds", "parameters": SCHEMA},
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "sum", "schema": SCHEMA, "strict": True},
        },
    }


@pytest.mark.parametrize(
    ("model", "told"),
    [
        *(("gpt-5.6", "max"), ("gpt-5.6-sol", "max"), ("openai/gpt-5.10", "max"), ("gpt-6", "max")),
        *(("gpt-5.5", "xhigh"), ("gpt-5", "xhigh"), ("gpt-4.1", "xhigh"), ("mine", "xhigh")),
    ],
)
def test_the_most_effort_is_what_a_model_has(model: str, told: str) -> None:
    request = ChatRequest((HELLO,), reasoning_effort="max")
    assert chat_body(model, request, OPENAI, stream=False)["reasoning_effort"] == told
    assert chat_body(model, request, OPENROUTER, stream=False)["reasoning_effort"] == told
    assert chat_body(model, request, GENERIC, stream=False)["reasoning_effort"] == "high"


@pytest.mark.parametrize("effort", get_args(ReasoningEffort))
@pytest.mark.parametrize("quirks", PRESETS.values(), ids=lambda each: each.name)
def test_a_wish_for_an_effort_is_refused_by_nobody(quirks: Quirks, effort: Any) -> None:
    """Coding agents send one to every model, and Moonshot and Alibaba have none."""
    wished = body(quirks, reasoning_effort=effort, effort_if_able=True)
    try:
        ordered = body(quirks, reasoning_effort=effort)
    except CapabilityError:
        most = quirks.efforts.get("high") if effort in {"xhigh", "max"} else None
        assert wished == body(quirks) | ({"reasoning_effort": most} if most else {})
    else:
        assert wished == ordered


def test_some_words_are_the_servers_own() -> None:
    assert body(output_tokens_max=9)["max_completion_tokens"] == 9
    assert body(MISTRAL, seed=1)["random_seed"] == 1
    assert body(reasoning_effort="xhigh")["reasoning_effort"] == "xhigh"
    assert body(GENERIC, reasoning_effort="xhigh")["reasoning_effort"] == "high"
    assert body(GENERIC, reasoning_effort="max")["reasoning_effort"] == "high"
    assert body(DEEPSEEK, reasoning_effort="medium")["reasoning_effort"] == "high"
    asked = body(DEEPSEEK, reasoning_effort="none")
    assert asked["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" not in asked
    turn = Message("system", "Be kind")
    assert messages(turn) == [{"role": "system", "content": "Be kind"}]


def test_tools_are_held_to_their_schema_where_the_server_can() -> None:
    (tool,) = body(tools=(ADD,))["tools"]
    assert tool["function"]["strict"] is True
    (tool,) = body(tools=(attrs.evolve(ADD, strict=False, description=""),))["tools"]
    assert tool == {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}


def test_a_choice_of_tools() -> None:
    forced = {"type": "function", "function": {"name": "add"}}
    assert body(tools=(ADD,), tool_choice=ForcedTool("add"))["tool_choice"] == forced
    assert body(tools=(ADD,), tool_choice="none")["tool_choice"] == "none"
    assert "tool_choice" not in body(tool_choice="none"), "OpenAI refuses it without tools"
    assert "parallel_tool_calls" not in body(parallel_tool_calls=True)
    assert "parallel_tool_calls" not in body(TOGETHER, tools=(ADD,), parallel_tool_calls=True)
    assert body(tools=(ADD,), parallel_tool_calls=True)["parallel_tool_calls"] is True


def test_json_without_a_schema() -> None:
    assert body(output=JsonOutput())["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("quirks", "fields", "named"),
    [
        (OPENAI, {"top_k": 3}, "top_k=3 cannot be sent to 'openai'"),
        (DEEPSEEK, {"seed": 1}, "seed=1 "),
        (GROQ, {"reasoning_effort": "minimal"}, "reasoning_effort='minimal'"),
        (DEEPSEEK, {"output": JsonOutput(SCHEMA)}, "output='a JSON schema'"),
        (PERPLEXITY, {"output": JsonOutput()}, "output='a JSON object'"),
        (PERPLEXITY, {"tools": (ADD,)}, r"tools=\['add'\]"),
        (TOGETHER, {"tools": (ADD,), "parallel_tool_calls": False}, "parallel_tool_calls=False"),
        (attrs.evolve(GENERIC, penalties=False), {"presence_penalty": 1.0}, "presence_penalty=1.0"),
    ],
)
def test_what_a_server_has_no_word_for_is_refused_here(
    quirks: Quirks, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(CapabilityError, match=named):
        body(quirks, **fields)


def test_extras_of_this_provider_go_into_the_body_and_others_never() -> None:
    extras = {
        "openai": {"service_tier": "flex", "stream_options": {"include_obfuscation": False}},
        "groq": {"service_tier": "on_demand"},
    }
    asked = body(extras=extras, stream=True)
    assert asked["service_tier"] == "flex"
    assert asked["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert "service_tier" not in body(GENERIC, extras=extras)


# --- messages ----------------------------------------------------------------------------------


def test_text_is_a_string_wherever_it_can_be() -> None:
    roles: tuple[Role, ...] = ("system", "user", "assistant")
    for role in roles:
        for content in ("Hi", (TextPart("H"), TextPart("i"))):
            assert messages(Message(role, content)) == [{"role": role, "content": "Hi"}]
    assert messages(Message("assistant", ())) == [{"role": "assistant", "content": ""}]


def test_images_go_as_data_urls_or_as_urls() -> None:
    image, link = ImagePart(b"\x89PNG", "image/png"), ImageUrlPart("http://images.test/a.png")
    (message,) = messages(Message("user", (TextPart("See"), image, link)))
    assert message["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "image_url", "image_url": {"url": "http://images.test/a.png"}},
    ]


def test_calls_and_their_results() -> None:
    call, other = ToolCall("c1", "add", '{"a": 1}'), ToolCall("c2", "add", "null")
    results = (ToolResult("c1", "add", "2"), ToolResult("c2", "add", "no a", is_error=True))
    found = messages(HELLO, Message("assistant", (call, other)), Message("tool", (*results,)))
    assert found[1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a": 1}'},
                },
                {"id": "c2", "type": "function", "function": {"name": "add", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: no a"},
    ]


def test_results_in_a_users_turn_stand_before_what_the_user_says() -> None:
    found = messages(Message("user", (TextPart("And?"), ToolResult("c1", "add", "2"))))
    assert [message["role"] for message in found] == ["tool", "user"]


def test_reasoning_goes_back_where_the_server_wants_it() -> None:
    turn = Message("assistant", (ReasoningPart("Hm"), TextPart("Yes")))
    assert messages(turn) == [{"role": "assistant", "content": "Yes"}]
    (message,) = messages(turn, quirks=DEEPSEEK)
    assert message == {"role": "assistant", "content": "Yes", "reasoning_content": "Hm"}
    (message,) = messages(turn, quirks=OPENROUTER)
    assert message["reasoning"] == "Hm"
    (message,) = messages(Message("assistant", "Yes"), quirks=DEEPSEEK)
    assert message == {"role": "assistant", "content": "Yes"}


def test_an_id_that_a_server_does_not_take_is_replaced_the_same_by_the_same() -> None:
    id_ = "call_of_another_provider"
    turns = (
        Message("assistant", (ToolCall(id_, "add"), ToolCall("abcDEF123", "add"))),
        Message("tool", (ToolResult(id_, "add", "2"),)),
    )
    found = messages(*turns, quirks=MISTRAL)
    (first, second), result = found[0]["tool_calls"], found[1]
    assert len(first["id"]) == 9
    assert first["id"] == result["tool_call_id"]
    assert second["id"] == "abcDEF123"
    assert messages(*turns)[1]["tool_call_id"] == id_
    (long,) = messages(Message("tool", (ToolResult("x" * 41, "add", ""),)))
    assert len(long["tool_call_id"]) <= 40, "more is refused by OpenAI"


@pytest.mark.parametrize(
    ("role", "part", "named"),
    [
        ("tool", TextPart("x"), "a tool's turn has TextPart"),
        ("system", ImagePart(b""), "ImagePart is not allowed in a turn of role 'system'"),
        (
            "assistant",
            ImageUrlPart("u"),
            "ImageUrlPart is not allowed in a turn of role 'assistant'",
        ),
        ("user", ToolCall("a", "b"), "ToolCall is not allowed in a turn of role 'user'"),
        ("user", ReasoningPart("a"), "ReasoningPart is not allowed"),
    ],
)
def test_a_part_in_the_wrong_turn_is_refused(role: Role, part: Part, named: str) -> None:
    with pytest.raises(CapabilityError, match=named):
        messages(Message(role, (part,)))


# --- embeddings --------------------------------------------------------------------------------


def embed_body(quirks: Quirks, request: EmbedRequest) -> Json:
    call = OpenAiDialect(quirks).ask_embeddings("m", request)
    assert call.path == "/embeddings"
    found: Json = json.loads(call.body)
    return found


def test_vectors_are_asked_for_in_base64_where_the_server_can() -> None:
    request = EmbedRequest(("a", "b"), "query", 8, {"openai": {"user": "u"}})
    assert embed_body(OPENAI, request) == {
        "model": "m",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 8,
        "user": "u",
    }
    assert embed_body(MISTRAL, request) == {
        "model": "m",
        "input": ["a", "b"],
        "output_dimension": 8,
    }
    assert embed_body(GENERIC, EmbedRequest(("a",))) == {"model": "m", "input": ["a"]}


def test_a_server_without_embeddings_is_not_asked() -> None:
    with pytest.raises(CapabilityError, match="'groq' has no embeddings"):
        embed_body(GROQ, EmbedRequest(("a",)))
