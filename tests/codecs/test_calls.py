"""Of an answer that goes on calling tools nobody wants the rest, whoever gives it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import pytest

from orchestra.answers import Completion
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.ollama.dialect import OllamaDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.tool_calls import CALLS_MAX
from orchestra.errors import MalformedStreamError
from orchestra.values import Json, ModelEvent
from tests.codecs.amazon import event as amazon
from tests.codecs.openai_streams import chunk

Said = Callable[[range], list[ModelEvent]]


def sse(*events: Json) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events)


def streamed(decoder: object, *pieces: bytes) -> list[ModelEvent]:
    events = [told for piece in pieces for told in decoder.feed(piece)]  # type: ignore[attr-defined]
    return [*events, *decoder.close()]  # type: ignore[attr-defined]


def openai(calls: range) -> list[ModelEvent]:
    called = [{"index": at, "id": f"i{at}", "function": {"name": "f"}} for at in calls]
    said = (chunk({"tool_calls": [each]}) for each in called)
    return streamed(OpenAiDialect().decoder(), sse(*said, chunk({}, "tool_calls")))


def openai_by_id(calls: range) -> list[ModelEvent]:
    said = (chunk({"tool_calls": [{"id": f"i{at}", "function": {"name": "f"}}]}) for at in calls)
    return streamed(OpenAiDialect().decoder(), sse(*said, chunk({}, "tool_calls")))


def anthropic(calls: range) -> list[ModelEvent]:
    block = {"type": "tool_use", "id": "a", "name": "f"}
    began = ({"type": "content_block_start", "index": at, "content_block": block} for at in calls)
    start = {"type": "message_start", "message": {"id": "m", "model": "c"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}
    wire = sse(start, *began, end, {"type": "message_stop"})
    return streamed(AnthropicDialect().decoder(), wire)


def anthropic_whole(calls: range) -> list[ModelEvent]:
    content = [{"type": "tool_use", "id": str(at), "name": "f", "input": {}} for at in calls]
    said = {"id": "m", "model": "c", "content": content, "stop_reason": "tool_use"}
    return AnthropicDialect().decode(json.dumps(said).encode())


def gemini(calls: range) -> list[ModelEvent]:
    parts: list[Json] = [{"functionCall": {"name": "f", "args": {}}} for _ in calls]
    said = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    return streamed(GeminiDialect().decoder(), sse(said))


def ollama(calls: range) -> list[ModelEvent]:
    called = [{"function": {"name": "f", "arguments": {}}} for _ in calls]
    said = {"model": "m", "message": {"tool_calls": called}, "done": True, "done_reason": "stop"}
    return OllamaDialect().decode(json.dumps(said).encode())


def cohere(calls: range) -> list[ModelEvent]:
    message = {"tool_calls": {"id": "a", "function": {"name": "f", "arguments": "{}"}}}
    said: Iterable[Json] = (
        {"type": "tool-call-start", "index": at, "delta": {"message": message}} for at in calls
    )
    end = {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}}
    return streamed(CohereDialect().decoder(), sse({"type": "message-start"}, *said, end))


def cohere_whole(calls: range) -> list[ModelEvent]:
    called = [{"id": "a", "function": {"name": "f", "arguments": "{}"}} for _ in calls]
    said = {"message": {"tool_calls": called}, "finish_reason": "TOOL_CALL"}
    return CohereDialect().decode(json.dumps(said).encode())


def converse(calls: range) -> list[ModelEvent]:
    start = {"toolUse": {"toolUseId": "a", "name": "f"}}
    said = (json.dumps({"contentBlockIndex": at, "start": start}).encode() for at in calls)
    frames = [amazon("contentBlockStart", each) for each in said]
    stop = amazon("messageStop", b'{"stopReason": "tool_use"}')
    return streamed(BedrockDialect().decoder(), *frames, stop)


def converse_whole(calls: range) -> list[ModelEvent]:
    content = [{"toolUse": {"toolUseId": str(at), "name": "f", "input": {}}} for at in calls]
    said = {"output": {"message": {"content": content}}, "stopReason": "tool_use"}
    return BedrockDialect().decode(json.dumps(said).encode())


def invoked(calls: range) -> list[ModelEvent]:
    called = [{"id": str(at), "function": {"name": "f", "arguments": "{}"}} for at in calls]
    said = {"choices": [{"message": {"tool_calls": called}, "stop_reason": "tool_calls"}]}
    return BedrockInvokeDialect().decode(json.dumps(said).encode())


@pytest.mark.parametrize(
    "said",
    [
        openai,
        openai_by_id,
        anthropic,
        anthropic_whole,
        gemini,
        ollama,
        cohere,
        cohere_whole,
        converse,
        converse_whole,
        invoked,
    ],
)
def test_an_answer_has_so_many_calls_and_no_more(said: Said) -> None:
    assert len(Completion.of(said(range(CALLS_MAX))).tool_calls) == CALLS_MAX
    with pytest.raises(MalformedStreamError, match="calls tools more than 500 times"):
        said(range(CALLS_MAX + 1))
