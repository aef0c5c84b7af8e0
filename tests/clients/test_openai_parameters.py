"""Each parameter that OpenAI's client for Python has: passed on, without effect, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import chat, responses, shared_params
from openai.types.chat import (
    chat_completion_content_part_image_param,
    chat_completion_content_part_param,
    completion_create_params,
)
from openai.types.responses import response_create_params, response_input_item_param

from orchestra.codecs.openai_serving.request import served_chat
from orchestra.codecs.openai_serving.responses_request import asked_response, served_response
from orchestra.codecs.serving.requests import ServedChat
from orchestra.values import Json
from tests.clients.parameters import (
    NEEDED,
    Fate,
    Place,
    Told,
    cases,
    judge,
    none,
    passed,
    read,
    refused,
    untold,
)
from tests.clients.upstream import Upstream

PAGE = Path(__file__).parents[2] / "docs/openai.md"
SCHEMA = {"type": "object", "properties": {}}
OTHER = {"type": "object"}
POINT = none({"mode": "explicit"})
IMAGE = "data:image/png;base64,iVBORw0KGgo="
PAPER = "data:application/pdf;base64,JVBERi0="
OF_BOTH = {
    "model": read("another"),
    "stream": read(value=True),
    "temperature": read(0.5),
    "top_p": read(0.5),
    "parallel_tool_calls": read(value=False),
    "tool_choice": read("required"),
    "metadata": read({"a": "b"}),
    "user": passed("u"),
    "service_tier": passed("flex"),
    "safety_identifier": passed("s"),
    "moderation": passed({"model": "m"}),
    "prompt_cache_key": passed("k"),
    "prompt_cache_options": passed({"mode": "implicit"}),
    "prompt_cache_retention": passed("24h"),
}
"""What a chat and a response are asked in the same words."""

# --- chats ---------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
CHAT: Json = {
    "model": "gpt-4o",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": IMAGE}},
                {"type": "file", "file": {"file_data": PAPER}},
            ],
        },
        {
            "role": "assistant",
            "content": "Hm",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "done"},
        {"role": "system", "content": "Be brief."},
    ],
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": SCHEMA},
    },
    "stream_options": {},
    "prompt_cache_options": {},
    "logprobs": True,
}
SPEAKER = {"role": NEEDED, "content": read("Why?"), "name": read("ada")}
CHATS = [
    Place(
        "",
        (
            completion_create_params.CompletionCreateParamsNonStreaming,
            completion_create_params.CompletionCreateParamsStreaming,
        ),
        {
            **OF_BOTH,
            "messages": read([{"role": "user", "content": "Hi"}]),
            "tools": read([TOOL]),
            "n": read(2),
            "store": read(value=True),
            "stream_options": read({"include_usage": True}),
            "max_tokens": read(5),
            "max_completion_tokens": read(5),
            "stop": read(["END"]),
            "seed": read(3),
            "presence_penalty": read(0.5),
            "frequency_penalty": read(0.5),
            "reasoning_effort": read("low"),
            "response_format": read({"type": "json_object"}),
            "logprobs": read(value=False),
            "top_logprobs": read(3),
            "logit_bias": passed({"5": 1}),
            "prediction": passed({"type": "content", "content": "x"}),
            "verbosity": passed("low"),
            "audio": refused({"voice": "alloy", "format": "mp3"}),
            "modalities": refused(["text", "audio"]),
            "web_search_options": refused({}),
            "functions": refused([{"name": "f"}]),
            "function_call": refused("auto"),
        },
    ),
    Place(
        "stream_options",
        (chat.ChatCompletionStreamOptionsParam,),
        {"include_usage": read(value=True), "include_obfuscation": none(value=False)},
    ),
    Place(
        "messages[0]",
        (chat.ChatCompletionUserMessageParam, chat.ChatCompletionDeveloperMessageParam),
        SPEAKER,
    ),
    Place("messages[3]", (chat.ChatCompletionSystemMessageParam,), SPEAKER),
    Place(
        "messages[1]",
        (chat.ChatCompletionAssistantMessageParam,),
        {
            **SPEAKER,
            "refusal": NEEDED,
            "tool_calls": NEEDED,
            "audio": refused({"id": "audio_1"}),
            "function_call": refused({"name": "f", "arguments": "{}"}),
        },
    ),
    Place(
        "messages[1].tool_calls[0]",
        (chat.ChatCompletionMessageFunctionToolCallParam,),
        {"id": NEEDED, "type": NEEDED, "function": read({"name": "g", "arguments": "{}"})},
    ),
    Place(
        "messages[2]",
        (chat.ChatCompletionToolMessageParam,),
        {"role": NEEDED, "tool_call_id": NEEDED, "content": read("failed")},
    ),
    Place(
        "messages[0].content[0]",
        (chat.ChatCompletionContentPartTextParam,),
        {"type": NEEDED, "text": read("Why?"), "prompt_cache_breakpoint": POINT},
    ),
    Place(
        "messages[0].content[1]",
        (chat.ChatCompletionContentPartImageParam,),
        {"type": NEEDED, "image_url": NEEDED, "prompt_cache_breakpoint": POINT},
    ),
    Place(
        "messages[0].content[1].image_url",
        (chat_completion_content_part_image_param.ImageURL,),
        {"url": read("https://a.test/b.png"), "detail": read("low")},
    ),
    Place(
        "messages[0].content[2]",
        (chat_completion_content_part_param.File,),
        {"type": NEEDED, "file": NEEDED, "prompt_cache_breakpoint": POINT},
    ),
    Place(
        "messages[0].content[2].file",
        (chat_completion_content_part_param.FileFile,),
        {"file_data": NEEDED, "filename": read("a.pdf"), "file_id": refused("f")},
    ),
    Place(
        "response_format.json_schema",
        (shared_params.response_format_json_schema.JSONSchema,),
        {
            "name": read("y"),
            "schema": read(OTHER),
            "strict": read(value=True),
            "description": read("A thing."),
        },
    ),
]

# --- responses -----------------------------------------------------------------------------------

FUNCTION = {"type": "function", "name": "f", "parameters": SCHEMA}
RESPONSE: Json = {
    "model": "gpt-4o",
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is it?"},
                {"type": "input_image", "image_url": IMAGE},
                {"type": "input_file", "file_data": PAPER},
            ],
        },
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
    ],
    "store": False,
    "tools": [FUNCTION],
    "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
    "reasoning": {},
    "prompt_cache_options": {},
    "stream_options": {},
}
KEPT = {"id": none("x_1"), "status": none("completed")}
CALLED = {"caller": none({"type": "direct"}), "namespace": none("n")}
RESPONSES = [
    Place(
        "",
        (
            response_create_params.ResponseCreateParamsNonStreaming,
            response_create_params.ResponseCreateParamsStreaming,
        ),
        {
            **OF_BOTH,
            "input": read("Hi"),
            "instructions": read("Be brief."),
            "tools": read([]),
            "store": read(value=True),
            "previous_response_id": NEEDED,
            "max_output_tokens": read(5),
            "text": read({"format": {"type": "json_object"}}),
            "reasoning": read({"effort": "low"}),
            "include": read(["message.output_text.logprobs"]),
            "top_logprobs": read(2),
            "max_tool_calls": none(3),
            "stream_options": none({"include_obfuscation": False}),
            "background_options": none({"completion_window": "2h"}),
            "image": none({"context_compression": "auto"}),
            "access_programs": refused({"cyber": "daybreak_blue"}),
            "background": refused(value=True),
            "context_management": refused([{"type": "compaction"}]),
            "conversation": refused("conv_1"),
            "prompt": refused({"id": "p"}),
            "truncation": refused("auto"),
        },
    ),
    Place(
        "reasoning",
        (shared_params.Reasoning,),
        {
            "effort": read("low"),
            "mode": refused("pro"),
            "context": none("all_turns"),
            "summary": none("auto"),
            "generate_summary": none("auto"),
        },
    ),
    Place(
        "prompt_cache_options",
        (response_create_params.PromptCacheOptions, completion_create_params.PromptCacheOptions),
        {
            "mode": passed("implicit"),
            "ttl": passed("30m"),
            "comparison_response_id": passed("resp_1"),
            "prewarm": refused(value=True),
        },
    ),
    Place(
        "stream_options",
        (response_create_params.StreamOptions,),
        {"include_obfuscation": none(value=False)},
    ),
    Place(
        "text",
        (responses.ResponseTextConfigParam,),
        {"format": read({"type": "text"}), "verbosity": passed("low")},
    ),
    Place(
        "text.format",
        (responses.ResponseFormatTextJSONSchemaConfigParam,),
        {
            "type": NEEDED,
            "name": read("y"),
            "schema": read(OTHER),
            "strict": read(value=True),
            "description": read("A thing."),
        },
    ),
    Place(
        "tools[0]",
        (responses.FunctionToolParam,),
        {
            "type": NEEDED,
            "name": read("g"),
            "description": read("Does it."),
            "parameters": read(OTHER),
            "strict": read(value=True),
            "allowed_callers": refused(["programmatic"]),
            "async": none(value=True),
            "defer_loading": none(value=True),
            "output_schema": none(SCHEMA),
        },
    ),
    Place(
        "input[0]",
        (
            *(responses.EasyInputMessageParam, response_input_item_param.Message),
            responses.ResponseOutputMessageParam,
        ),
        {
            "type": NEEDED,
            "role": NEEDED,
            "content": read("Why?"),
            "phase": none("commentary"),
            **KEPT,
        },
    ),
    Place(
        "input[0].content[0]",
        (responses.ResponseInputTextParam,),
        {"type": NEEDED, "text": read("Why?"), "prompt_cache_breakpoint": POINT},
    ),
    Place(
        "input[0].content[1]",
        (responses.ResponseInputImageParam,),
        {
            "type": NEEDED,
            "image_url": read("https://a.test/b.png"),
            "detail": read("low"),
            "file_id": NEEDED,
            "prompt_cache_breakpoint": POINT,
        },
    ),
    Place(
        "input[0].content[2]",
        (responses.ResponseInputFileParam,),
        {
            "type": NEEDED,
            "file_data": NEEDED,
            "filename": read("a.pdf"),
            "file_id": refused("f"),
            "file_url": refused("https://a.test/"),
            "detail": none("low"),
            "prompt_cache_breakpoint": POINT,
        },
    ),
    Place(
        "input[1]",
        (responses.ResponseReasoningItemParam,),
        {
            "type": NEEDED,
            "summary": read([]),
            "content": read([{"type": "reasoning_text", "text": "So"}]),
            "encrypted_content": read("anthropic:c2Vh"),
            **KEPT,
        },
    ),
    Place(
        "input[2]",
        (responses.ResponseFunctionToolCallParam,),
        {
            "type": NEEDED,
            "call_id": NEEDED,
            "name": read("g"),
            "arguments": read('{"x":1}'),
            "async": none(value=True),
            **KEPT,
            **CALLED,
        },
    ),
    Place(
        "input[3]",
        (response_input_item_param.FunctionCallOutput,),
        {
            "type": NEEDED,
            "call_id": NEEDED,
            "output": read("failed"),
            "name": none("f"),
            **KEPT,
            **CALLED,
        },
    ),
]


def response(body: bytes) -> ServedChat:
    asked = asked_response(body)
    return served_response(asked, asked.items())


ALL = [*CHATS, *RESPONSES]


@pytest.mark.parametrize("place", ALL, ids=lambda each: each.at or "the body")
def test_of_each_parameter_somebody_has_decided(place: Place) -> None:
    assert not place.undecided()


@pytest.mark.parametrize(("place", "field", "told"), cases(CHATS))
def test_each_parameter_of_a_chat_has_the_fate_that_was_decided(
    place: Place, field: str, told: Told
) -> None:
    judge(place, field, told, CHAT, served_chat)


@pytest.mark.parametrize(("place", "field", "told"), cases(RESPONSES))
def test_each_parameter_of_a_response_has_the_fate_that_was_decided(
    place: Place, field: str, told: Told
) -> None:
    judge(place, field, told, RESPONSE, response)


def test_what_has_no_effect_is_documented() -> None:
    assert not untold(ALL, PAGE.read_text("utf-8"))


@pytest.fixture(scope="module")
def client(ours: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="any", base_url=ours, max_retries=0) as vendor:
        yield vendor


def asked(place: Place) -> list[tuple[str, Told]]:
    """What can be asked one by one, of a model that says it back."""
    return [(each, told) for each, told in place.fields.items() if told is not NEEDED]


@pytest.mark.parametrize("model", ["gpt-4o", "everything"])
@pytest.mark.parametrize(("field", "told"), asked(CHATS[0]))
def test_its_own_client_is_told_of_each_of_a_chat(
    client: openai.OpenAI, upstream: Upstream, model: str, field: str, told: Told
) -> None:
    said: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "one two"}]}
    if field == "top_logprobs":
        said["logprobs"] = True
    if field != "model" and not (field == "n" and model == "everything"):
        answered(client.chat.completions.create, {**said, field: told.value}, told, field)
        if told.fate is Fate.PASSED:
            assert upstream.seen[-1][field] == told.value


@pytest.mark.parametrize("model", ["gpt-4o", "everything"])
@pytest.mark.parametrize(("field", "told"), asked(RESPONSES[0]))
def test_its_own_client_is_told_of_each_of_a_response(
    client: openai.OpenAI, upstream: Upstream, model: str, field: str, told: Told
) -> None:
    said: dict[str, Any] = {"model": model, "input": "one two"}
    if field != "model":
        answered(client.responses.create, {**said, field: told.value}, told, field)
        if told.fate is Fate.PASSED:
            assert upstream.seen[-1][field] == told.value


def answered(ask: Any, said: dict[str, Any], told: Told, field: str) -> None:
    """The fate of a field, as its client learns of it."""
    if said.get("tool_choice"):
        said["tools"] = [FUNCTION if "input" in said else TOOL]
    unable = said["model"] == "gpt-4o" and field.startswith("reasoning")  # as everybody knows
    if told.fate is not Fate.REFUSED and not unable:
        found = ask(**said)
        assert len(list(found)) > 1 if field == "stream" else found.id
        return
    with pytest.raises(openai.BadRequestError) as caught:
        ask(**said)
    assert str(caught.value.param).startswith(field)
    assert caught.value.body["message"].startswith(field)  # type: ignore[index]
