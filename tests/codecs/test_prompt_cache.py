"""Marks up to where a provider keeps what it has read: where they stand, and that they add nothing."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GENERIC, MISTRAL, OPENAI, OPENROUTER, PRESETS
from orchestra.codecs.openai_serving.request import served_chat
from orchestra.codecs.prompt_cache import has_mark, is_marked, with_marks
from orchestra.values import (
    ChatRequest,
    FilePart,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    Part,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)

CLAUDE = "anthropic.claude-sonnet-4-6"
KEPT = {"cache_control": {"type": "ephemeral"}}
MARK = KEPT["cache_control"]
POINT = {"cachePoint": {"type": "default"}}
SPOKEN = [
    Message("system", "Be brief."),
    Message("user", "Why?"),
    Message("assistant", (TextPart("I look."), ToolCall("1", "look", "{}"))),
    Message("tool", (ToolResult("1", "look", "blue"),)),
]

words = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=5)
texts = st.builds(TextPart, words, st.booleans())
shown = st.builds(FilePart, st.just(b"%PDF-"), prompt_cache=st.booleans()) | st.builds(
    ImagePart, st.just(b"PNG"), prompt_cache=st.booleans()
)
turns = st.builds(Message, st.sampled_from(["system", "user"]), words) | st.builds(
    Message, st.just("user"), st.lists(texts, min_size=1, max_size=3).map(tuple)
)
seen = st.builds(Message, st.just("user"), st.lists(texts | shown, min_size=1).map(tuple))
tools = st.builds(Tool, words, words, st.just({"type": "object"}), prompt_cache=st.booleans())
requests = st.builds(ChatRequest, st.lists(turns, min_size=1, max_size=5).map(tuple))
all_kinds = st.builds(
    ChatRequest,
    st.lists(turns | seen, min_size=1, max_size=5).map(tuple),
    tools=st.lists(tools, max_size=2).map(tuple),
)


def body(dialect: Dialect, request: ChatRequest, model: str = "m") -> Json:
    found: Json = json.loads(dialect.ask(model, request, stream=False).body)
    return found


def unmarked(value: Any) -> Any:
    """A body without its marks, and with one block where the system says several texts."""
    if isinstance(value, dict):
        return {key: unmarked(each) for key, each in value.items() if key != "cache_control"}
    if isinstance(value, list):
        return [unmarked(each) for each in value if each != POINT]
    return value


def bare(part: Part) -> Part:
    if has_mark(part):
        return attrs.evolve(part, prompt_cache=False)  # type: ignore[arg-type]
    return part


def without_marks(request: ChatRequest) -> ChatRequest:
    """The request as it is without its marks."""
    messages = (
        message
        if isinstance(message.content, str)
        else Message(message.role, tuple(map(bare, message.parts)))
        for message in request.messages
    )
    tools = tuple(attrs.evolve(each, prompt_cache=False) for each in request.tools)
    return attrs.evolve(request, messages=tuple(messages), tools=tools)


@given(all_kinds)
def test_marks_change_nothing_that_a_model_is_told(request: ChatRequest) -> None:
    plain = without_marks(request)
    assert unmarked(body(BedrockDialect(), request, CLAUDE)) == body(
        BedrockDialect(), plain, CLAUDE
    )
    told, meant = body(AnthropicDialect(), request), body(AnthropicDialect(), plain)
    assert unmarked(told["messages"]) == meant["messages"]
    assert unmarked(told.get("tools")) == meant.get("tools")
    if isinstance(told.get("system"), list):
        assert "\n\n".join(block["text"] for block in told["system"]) == meant["system"]


@given(requests)
def test_who_knows_no_marks_is_sent_none(request: ChatRequest) -> None:
    plain = without_marks(request)
    for quirks in PRESETS.values():
        if not quirks.prompt_cache:
            dialect = OpenAiDialect(quirks)
            assert body(dialect, request) == body(dialect, plain)


def test_a_mark_stands_behind_whatever_was_marked() -> None:
    parts = (FilePart(b"%PDF-", prompt_cache=True), ImagePart(b"PNG"), TextPart("What is it?"))
    tool = Tool("f", "", {"type": "object", "properties": {}}, prompt_cache=True)
    request = ChatRequest((Message("user", parts),), tools=(tool,))
    told = body(AnthropicDialect(), request)
    marks = ["cache_control" in each for each in told["messages"][0]["content"]]
    assert (marks, told["tools"][0]["cache_control"]) == ([True, False, False], MARK)
    converse = body(BedrockDialect(), request, CLAUDE)
    assert [each == POINT for each in converse["messages"][0]["content"]] == [
        *(False, True, False, False),
    ]
    assert converse["toolConfig"]["tools"][1:] == [POINT]
    nova = body(BedrockDialect(), request, "amazon.nova-pro-v1:0")
    assert len(nova["toolConfig"]["tools"]) == 1, "it takes none behind tools"
    routed = body(OpenAiDialect(OPENROUTER), request)
    assert "cache_control" not in json.dumps(routed), "texts only can have one there"


@given(requests)
def test_a_deployment_marks_what_comes_again_unless_the_request_does(request: ChatRequest) -> None:
    found = with_marks(request)
    assert with_marks(found) == found
    assert is_marked(found)
    assert without_marks(found).messages[0].text == request.messages[0].text
    if is_marked(request):
        assert found == request
    else:
        marks = [any(map(has_mark, message.parts)) for message in found.messages]
        assert marks[-1]
        assert sum(marks) <= 2
        assert sum(has_mark(part) for message in found.messages for part in message.parts) <= 2


def test_a_conversation_is_kept_up_to_its_last_turn_and_so_is_what_the_system_says() -> None:
    request = with_marks(ChatRequest(tuple(SPOKEN)))
    told = body(AnthropicDialect(), request)
    assert told["system"] == [{"type": "text", "text": "Be brief.", **KEPT}]
    assert told["messages"][-1]["content"] == [
        {"type": "tool_result", "tool_use_id": "1", "content": "blue", **KEPT}
    ]
    assert json.dumps(told).count("cache_control") == 2
    converse = body(BedrockDialect(), request, CLAUDE)
    assert converse["system"] == [{"text": "Be brief."}, POINT]
    assert converse["messages"][-1]["content"][-1] == POINT
    assert json.dumps(converse).count("cachePoint") == 2
    invoked = body(BedrockInvokeDialect(1), request, CLAUDE)
    assert invoked["messages"] == told["messages"]
    assert invoked["system"] == told["system"]
    nova = body(
        BedrockInvokeDialect(1), with_marks(ChatRequest((SPOKEN[1],))), "amazon.nova-lite-v1:0"
    )
    assert nova["messages"][-1]["content"] == [{"text": "Why?"}, POINT]


@pytest.mark.parametrize("model", ["meta.llama4-scout-17b-instruct-v1:0", "mistral.mistral-large"])
def test_families_that_keep_nothing_are_not_told_to(model: str) -> None:
    assert "cachePoint" not in json.dumps(
        body(BedrockDialect(), with_marks(ChatRequest((SPOKEN[1],))), model)
    )


def test_a_picture_at_the_end_leaves_the_mark_to_the_text_before_it() -> None:
    parts = (TextPart("What is it?"), ImageUrlPart("https://example.com/a.png"))
    found = with_marks(ChatRequest((Message("user", parts),)))
    assert [has_mark(part) for part in found.messages[0].parts] == [True, False]
    only = ChatRequest((Message("user", parts[1:]),))
    assert with_marks(only) == only


def test_openrouter_is_told_in_the_words_of_clients_who_say_it_to_us() -> None:
    said = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief.", **KEPT}]},
        {"role": "user", "content": "Why?", "name": "ada"},
        {"role": "user", "content": "Why, though?", **KEPT},
    ]
    asked = served_chat(json.dumps({"model": "m", "messages": said}).encode()).request
    assert is_marked(asked)
    said[2] = {"role": "user", "content": [{"type": "text", "text": "Why, though?", **KEPT}]}
    assert body(OpenAiDialect(OPENROUTER), asked)["messages"] == said
    assert "cache_control" not in json.dumps(body(OpenAiDialect(OPENAI), asked))


def test_who_speaks_and_what_a_schema_is_for_are_passed_on_where_they_are_taken() -> None:
    asked = ChatRequest(
        (Message("user", "Why?", "ada"),), output=JsonOutput({}, "sky", description="Of the sky.")
    )
    told = body(OpenAiDialect(GENERIC), asked)
    assert told["messages"] == [{"role": "user", "content": "Why?", "name": "ada"}]
    assert told["response_format"]["json_schema"]["description"] == "Of the sky."
    assert body(OpenAiDialect(MISTRAL), asked)["messages"] == [{"role": "user", "content": "Why?"}]
