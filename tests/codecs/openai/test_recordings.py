"""OpenAI-shaped servers as they were recorded, and OpenAI's own client as an oracle."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterable
from typing import Any

import httpx2
import openai
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessage

from orchestra.answers import Completion
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.openai.azure import AzureDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GENERIC, PRESETS
from orchestra.errors import (
    AuthenticationError,
    CapabilityError,
    ContentFilterError,
    InvalidRequestError,
    ModelError,
    ModelNotFoundError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.values import ModelEvent, UsageReport, Vector
from tests.recordings import Recording, needed, recordings

EMBEDDERS = {"openai", "azure", "mistral"}
BLOCKED = "81be59d8361b"
"""An error of Azure's in a body with status 200, for which the recorded client has no words."""
ERRORS: dict[tuple[int, str | None], type[ModelError]] = {
    (400, "invalid_value"): InvalidRequestError,
    (400, "unsupported_value"): CapabilityError,
    (400, "unsupported_parameter"): CapabilityError,
    (401, "401"): AuthenticationError,
    (404, "DeploymentNotFound"): ModelNotFoundError,
    (404, "model_not_found"): ModelNotFoundError,
    (429, "429"): RateLimitError,
}


def dialect_of(recording: Recording) -> Dialect:
    if recording.provider == "azure":
        return AzureDialect()
    return OpenAiDialect(PRESETS.get(recording.provider, GENERIC))


def cases(wanted: Callable[[Recording], bool]) -> list[Any]:
    return [pytest.param(each, id=f"{each.provider}-{each.cid}") for each in recordings(wanted)]


def chats(kind: str) -> list[Any]:
    return cases(lambda each: each.surface == "chat" and each.kind == kind and each.cid != BLOCKED)


def embeds() -> list[Any]:
    return cases(
        lambda each: each.surface == "embed" and each.provider in EMBEDDERS and each.kind == "json"
    )


def decode(dialect: Dialect, pieces: Iterable[bytes]) -> list[ModelEvent]:
    decoder = dialect.decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


def arguments(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def summary(events: list[ModelEvent]) -> dict[str, Any]:
    """What the recordings say of an answer, in the provider's own words."""
    answer = Completion.of(events)
    raws = [event.raw for event in events if isinstance(event, UsageReport)]
    counted = raws[-1] if raws else {}
    usage = [counted.get("prompt_tokens"), counted.get("completion_tokens")]
    return {
        "text": answer.text,
        "tools": [
            {"name": call.name, "args": arguments(call.arguments)} for call in answer.tool_calls
        ],
        "finish": answer.stopped.raw,
        "usage": usage if counted else None,
    }


def expected(recording: Recording) -> dict[str, Any]:
    assert recording.golden is not None
    return {name: recording.golden[name] for name in ("text", "tools", "finish", "usage")}


@needed
@pytest.mark.parametrize("recording", chats("stream"))
def test_a_recorded_stream_says_what_its_vendor_read(recording: Recording) -> None:
    dialect = dialect_of(recording)
    whole = decode(dialect, [recording.body])
    assert summary(whole) == expected(recording)
    for size in (1, 7):
        assert decode(dialect, recording.pieces(size)) == whole


@needed
@pytest.mark.parametrize("recording", chats("json"))
def test_a_recorded_answer_says_what_its_vendor_read(recording: Recording) -> None:
    events = dialect_of(recording).decode(recording.body)
    assert summary(events) == expected(recording)


@needed
@pytest.mark.parametrize("recording", [*chats("stream"), *chats("json")])
def test_what_a_recorded_model_thought_is_kept(recording: Recording) -> None:
    dialect = dialect_of(recording)
    streamed = recording.kind == "stream"
    events = decode(dialect, [recording.body]) if streamed else dialect.decode(recording.body)
    assert recording.golden is not None
    if thought := recording.golden["reasoning"]:
        assert Completion.of(events).reasoning == thought


@needed
@pytest.mark.parametrize("recording", chats("stream"))
def test_a_recorded_stream_that_is_cut_before_its_finish_is_an_error(recording: Recording) -> None:
    """And behind it, it is the same answer, but for what was counted last."""
    dialect = dialect_of(recording)
    text = Completion.of(decode(dialect, [recording.body])).text
    finish = recording.body.find(b'"finish_reason":"')
    finish = finish if finish >= 0 else recording.body.rindex(b"data: [DONE]")
    for end in range(0, len(recording.body), 1 + len(recording.body) // 60):
        try:
            events = decode(dialect, [recording.body[:end]])
        except TruncatedStreamError:
            continue
        assert end > finish
        assert Completion.of(events).text == text


@needed
@pytest.mark.parametrize(
    "recording",
    cases(
        lambda each: each.kind == "error" and (each.surface == "chat" or each.provider in EMBEDDERS)
    ),
)
def test_a_recorded_error_is_of_its_class_and_keeps_its_message(recording: Recording) -> None:
    error = dialect_of(recording).error(
        recording.status, recording.headers, recording.body, now_s=0.0
    )
    said = json.loads(recording.body)["error"]
    code = said.get("code")
    assert type(error) is ERRORS[recording.status, None if code is None else str(code)]
    behind = said.get("metadata", {}).get("raw", "")
    assert error.message == ": ".join(filter(None, (said["message"], behind)))
    assert error.status == recording.status
    assert error.request_id == recording.headers.get("x-request-id", "")


@needed
@pytest.mark.parametrize("recording", cases(lambda each: each.cid == BLOCKED))
def test_an_error_in_a_body_with_status_200_is_an_error(recording: Recording) -> None:
    said = json.loads(recording.body)["error"]["message"]
    with pytest.raises(ContentFilterError) as caught:
        AzureDialect().decode(recording.body)
    assert caught.value.message == said


@needed
@pytest.mark.parametrize("recording", embeds())
def test_recorded_embeddings_are_the_numbers_that_were_sent(recording: Recording) -> None:
    golden = recording.golden
    assert golden is not None
    found = dialect_of(recording).decode_embeddings(recording.body)
    assert len(found.vectors) == golden["n"]
    assert found.usage is not None
    assert [found.usage.input_tokens, None] == golden["usage"]
    first = golden["first"]
    if isinstance(first, str):
        sent = json.loads(recording.body)["data"][0]["embedding"]
        assert sent.startswith(first)
        assert len(sent) == golden["dim"]
        assert found.vectors[0] == Vector(b64decode(sent))
    else:
        assert len(found.vectors[0]) == golden["dim"]
        assert Vector.of(list(found.vectors[0])[:3]) == Vector.of(first)


def client(recording: Recording) -> openai.OpenAI:
    """OpenAI's own client, in front of a recording."""
    kind = "text/event-stream" if recording.kind == "stream" else "application/json"

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            recording.status, headers={"content-type": kind}, content=recording.body
        )

    return openai.OpenAI(
        api_key="none",
        base_url="http://vendor.test/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )


@needed
@pytest.mark.parametrize("recording", chats("stream"))
def test_openais_own_client_reads_the_same_stream(recording: Recording) -> None:
    with client(recording) as vendor:
        chunks: list[ChatCompletionChunk] = list(
            vendor.chat.completions.create(model="m", messages=[], stream=True)
        )
    texts, refusals, calls, finishes = [], [], dict[int, list[str]](), []
    for chunk in chunks:
        for choice in chunk.choices:
            if choice.index:
                continue
            texts.append(choice.delta.content or "")
            refusals.append(choice.delta.refusal or "")
            finishes += [choice.finish_reason] if choice.finish_reason else []
            for call in choice.delta.tool_calls or ():
                pieces = calls.setdefault(call.index, [call.id or "", "", ""])
                assert call.function is not None
                pieces[1] += call.function.name or ""
                pieces[2] += call.function.arguments or ""
    ours = Completion.of(decode(dialect_of(recording), [recording.body]))
    assert ours.text == "".join(texts)
    assert ours.refusal == "".join(refusals)
    assert [[call.id, call.name, call.arguments] for call in ours.tool_calls] == [
        [id_, name, text or "{}"] for id_, name, text in calls.values()
    ]
    assert ours.stopped.raw == (finishes[-1] if finishes else None)
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    if usages:
        assert ours.usage is not None
        assert ours.usage.input_tokens == usages[-1].prompt_tokens
        assert ours.model == chunks[-1].model
    assert ours.id in {chunk.id for chunk in chunks}


@needed
@pytest.mark.parametrize("recording", chats("json"))
def test_openais_own_client_reads_the_same_answer(recording: Recording) -> None:
    with client(recording) as vendor:
        theirs = vendor.chat.completions.create(model="m", messages=[])
    ours = Completion.of(dialect_of(recording).decode(recording.body))
    message: ChatCompletionMessage | None = theirs.choices[0].message
    if message is not None:  # Azure leaves it out where its filter took all of it
        assert ours.text == (message.content or "")
        assert ours.refusal == (message.refusal or "")
        called = message.tool_calls or ()
        assert [call.id for call in ours.tool_calls] == [call.id for call in called]
    assert ours.stopped.raw == theirs.choices[0].finish_reason
    assert (ours.id, ours.model) == (theirs.id, theirs.model)
    assert theirs.usage is not None
    assert ours.usage is not None
    details = theirs.usage.prompt_tokens_details
    if details is not None and details.cached_tokens is not None:
        assert ours.usage.cached_input_tokens == details.cached_tokens


@needed
@pytest.mark.parametrize("recording", embeds())
def test_openais_own_client_reads_the_same_vectors(recording: Recording) -> None:
    with client(recording) as vendor:
        theirs: CreateEmbeddingResponse = vendor.embeddings.create(model="m", input="text")
    ours = dialect_of(recording).decode_embeddings(recording.body)
    assert [Vector.of(each.embedding) for each in theirs.data] == list(ours.vectors)
