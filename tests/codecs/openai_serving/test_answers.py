"""OpenAI's answers, both ways: what we write of an answer is read as the same."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import AnswerPart, Completion
from orchestra.citations import Citation, Cited
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.usage import usage_record
from orchestra.codecs.openai_serving.answers import AnswerWriter, answer_record
from orchestra.codecs.openai_serving.errors import openai_error_body
from orchestra.codecs.serving.errors import error_reply
from orchestra.codecs.withheld import WITHHELD
from orchestra.errors import (
    AuthenticationError,
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    MalformedStreamError,
    ModelConnectionError,
    ModelError,
    ModelNotFoundError,
    ModelTimeoutError,
    OverloadedError,
    PermissionDeniedError,
    ProviderServerError,
    QuotaError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.logprobs import Logprobs, TokenLogprob
from orchestra.values import (
    NO_DETAILS,
    Began,
    Json,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    UsageReport,
)
from tests.codecs.openai_streams import decode

words = st.text(min_size=1, max_size=6)
counts = st.integers(0, 99)
usages = st.builds(
    Usage,
    counts,
    counts,
    cached_input_tokens=counts,
    cache_write_input_tokens=counts,
    reasoning_tokens=counts,
)
tokens = st.builds(
    TokenLogprob,
    words,
    st.sampled_from([-0.5, -9999.0]),
    st.none() | st.tuples(st.integers(0, 255)),
    st.lists(st.builds(TokenLogprob, words, st.just(-2.0)), max_size=2).map(tuple),
)
some = st.lists(tokens, min_size=1, max_size=2).map(tuple)
likely = st.builds(Logprobs, some) | st.builds(Logprobs, some, some)
pages = words.map("https://a.test/".__add__)
numbers = st.integers(0, 9)
cited = st.builds(
    lambda start, length, *rest: Citation(start, start + length, *rest),
    *(numbers, st.integers(1, 9), st.just("") | words, words, pages),
) | st.builds(Citation, st.just(0), st.just(0), words, words, pages)
citations = st.builds(Cited, st.lists(cited, min_size=1, max_size=2).map(tuple))
details = st.dictionaries(st.sampled_from(["service_tier", "system_fingerprint"]), words)
plain = (
    st.builds(TextDelta, words)
    | st.builds(ReasoningDelta, words)
    | st.builds(RefusalDelta, words)
    | citations
)
stops = st.sampled_from(
    [
        Stopped(StopReason.LENGTH, "length"),
        Stopped(StopReason.CONTENT_FILTER, "content_filter"),
        Stopped(StopReason.TOOL_CALLS, "tool_calls"),
    ]
)


@st.composite
def answers(draw: st.DrawFn) -> list[ModelEvent]:
    """The events of an answer, as our decoders give them."""
    events: list[ModelEvent] = [Began(draw(words), draw(words), draw(details))]
    begun = 0
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["plain", "call", "more", "likely"]))
        if kind == "likely":
            events += [draw(likely), TextDelta(draw(words))]
        elif kind == "plain":
            events.append(draw(plain))
        elif kind == "call":
            events.append(
                ToolCallDelta(begun, f"id{begun}", draw(words), draw(st.text(max_size=4)))
            )
            begun += 1
        elif begun:
            events.append(ToolCallDelta(draw(st.integers(0, begun - 1)), arguments=draw(words)))
    if draw(st.booleans()):
        usage = draw(usages)
        events.append(UsageReport(usage, usage_record(usage)))
    return [*events, draw(stops if begun else stops | st.just(Stopped(StopReason.END, "stop")))]


def written(events: list[ModelEvent], **options: Any) -> bytes:
    writer = AnswerWriter(0, include_usage=True, **options)
    return writer.write(events) + writer.close()


@given(answers())
def test_what_is_written_of_an_answer_is_read_as_the_same_events(events: list[ModelEvent]) -> None:
    assert decode([written(events)]) == events


@given(answers())
def test_how_the_events_are_batched_makes_no_difference(events: list[ModelEvent]) -> None:
    writer = AnswerWriter(0, include_usage=True)
    singly = b"".join(writer.write([event]) for event in events) + writer.close()
    assert singly == written(events)


@given(answers(), st.data())
def test_what_is_written_never_looks_complete_before_the_answer_is(
    events: list[ModelEvent], data: st.DataObject
) -> None:
    writer = AnswerWriter(0, include_usage=True)
    raw = writer.write(events[: data.draw(st.integers(0, len(events) - 1))])
    with pytest.raises(TruncatedStreamError):
        decode([raw])
    with pytest.raises(TruncatedStreamError, match="must not look complete"):
        writer.close()
    failure = writer.failed(OverloadedError("slow down"))
    with pytest.raises(OverloadedError, match="overloaded at the moment"):
        decode([raw + failure])


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    parts: list[AnswerPart] = []
    if draw(st.booleans()):
        parts.append(ReasoningPart(draw(words)))
    if draw(st.booleans()):
        parts.append(TextPart(draw(words)))
    calls = [
        ToolCall(f"id{index}", draw(words), draw(st.sampled_from(["{}", '{"a": 1}'])))
        for index in range(draw(st.integers(0, 2)))
    ]
    stopped = draw(stops if calls else stops | st.just(Stopped(StopReason.END, "stop")))
    usage = draw(st.none() | usages)
    refusal = draw(st.just("") | words)
    told = draw(st.none() | likely)
    quoted = draw(st.just(Cited()) | citations).citations
    who = draw(words), draw(words), told, draw(details), quoted
    return Completion((*parts, *calls), stopped, usage, refusal, *who)


def choices_of(raw: bytes) -> tuple[list[bytes], Json | None]:
    """What is written of each of several answers, as a stream of its own; and the usage."""
    streams: dict[int, list[bytes]] = {}
    usage = None
    for frame in raw.decode().split("\n\n"):
        if not frame or frame == "data: [DONE]":
            continue
        chunk = json.loads(frame.removeprefix("data: "))
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            mine = {**chunk, "choices": [{**choice, "index": 0}]}
            own = f"data: {json.dumps(mine)}\n\n".encode()
            streams.setdefault(choice["index"], []).append(own)
    assert raw.endswith(b"data: [DONE]\n\n")
    return [b"".join(streams[index]) for index in sorted(streams)], usage


@given(st.lists(answers(), min_size=1, max_size=3), st.data())
def test_several_answers_at_once_are_read_as_each_alone(
    several: list[list[ModelEvent]], data: st.DataObject
) -> None:
    """However their events are mixed, and however they are batched; their usage is a sum."""
    writer = AnswerWriter(0, answer_id="id", model="m", include_usage=True, choices=len(several))
    left = {index: list(events) for index, events in enumerate(several)}
    raw, first = b"", NO_DETAILS
    while left:
        index = data.draw(st.sampled_from(sorted(left)))
        size = data.draw(st.integers(1, 3))
        first = first if raw else cast("Began", several[index][0]).details
        raw += writer.write(left[index][:size], index)
        del left[index][:size]
        if not left[index]:
            del left[index]
        if left:
            with pytest.raises(TruncatedStreamError):
                writer.close()
    written_alone, usage = choices_of(raw + writer.close())
    for alone, events in zip(written_alone, several, strict=True):
        told = [each for each in events if not isinstance(each, UsageReport)]
        assert decode([alone]) == [Began("id", "m", first), *told[1:]]
    spent = [
        event.usage for events in several for event in events if isinstance(event, UsageReport)
    ]
    assert usage == (usage_record(sum(spent[1:], spent[0])) if spent else None)


def test_whoever_speaks_first_the_first_answer_comes_first() -> None:
    """OpenAI's client has no room for another."""
    raw = AnswerWriter(0, answer_id="a", model="m", choices=3).write([TextDelta("Hi")], 2)
    chunks = [json.loads(each.removeprefix("data: ")) for each in raw.decode().split("\n\n")[:-1]]
    assert [each["choices"][0]["index"] for each in chunks] == [0, 1, 2, 2]


def test_what_is_told_of_the_usage_goes_before_what_the_answers_tell() -> None:
    writer = AnswerWriter(0, include_usage=True)
    raw = writer.write([UsageReport(Usage(1, 2)), Stopped(StopReason.END)])
    _, usage = choices_of(raw + writer.close({"prompt_tokens": 9}))
    assert usage == {"prompt_tokens": 9}


@given(completions())
def test_what_is_written_of_a_whole_answer_is_read_as_the_same(answer: Completion) -> None:
    body = json.dumps(answer_record([answer], 0)).encode()
    assert Completion.of(OpenAiDialect().decode(body)) == answer


def test_usage_is_written_where_it_was_asked_for_only() -> None:
    events: list[ModelEvent] = [TextDelta("Hi"), Stopped(StopReason.END), UsageReport(Usage(1, 2))]
    writer = AnswerWriter(0)
    assert b"usage" not in writer.write(events) + writer.close()
    last, done = written(events).decode().strip().split("\n\n")[-2:]
    assert json.loads(last.removeprefix("data: "))["choices"] == []
    assert json.loads(last.removeprefix("data: "))["usage"]["total_tokens"] == 3
    assert done == "data: [DONE]"


@given(answers(), st.integers(1, 3))
def test_where_usage_was_asked_for_each_chunk_before_it_says_null(
    events: list[ModelEvent], choices: int
) -> None:
    """As OpenAI's documentation says of `include_usage`."""
    writer = AnswerWriter(0, include_usage=True, choices=choices)
    raw = b"".join(writer.write(events, choice) for choice in range(choices))
    chunks = [json.loads(each.removeprefix("data: ")) for each in raw.decode().split("\n\n")[:-1]]
    assert {each["usage"] for each in chunks} == {None}


def test_a_client_is_told_our_names_where_we_have_some() -> None:
    events: list[ModelEvent] = [Began("theirs", "gpt"), TextDelta("Hi"), Stopped(StopReason.END)]
    answer = Completion.of(decode([written(events, answer_id="ours", model="pipeline")]))
    assert (answer.id, answer.model) == ("ours", "pipeline")
    whole = answer_record([answer], 7, answer_id="o", model="p")
    assert (whole["id"], whole["model"], whole["created"]) == ("o", "p", 7)


@pytest.mark.parametrize("reason", StopReason)
def test_an_answer_that_may_not_be_whole_never_looks_complete(reason: StopReason) -> None:
    """The dialect has no word for a pause, nor for a reason that only one provider has."""
    events: list[ModelEvent] = [Began("a", "m"), TextDelta("Hi"), Stopped(reason, "raw")]
    told = decode([written(events)])[-1]
    whole = answer_record([Completion.of(events)], 7)["choices"][0]["finish_reason"]
    assert told == Stopped(told.reason, whole)  # type: ignore[union-attr]
    ends = reason in (StopReason.END, StopReason.STOP_SEQUENCE)
    assert (whole == "stop") == ends
    if reason in (StopReason.LENGTH, StopReason.PAUSED, StopReason.OTHER):
        assert whole == "length"


def test_what_a_provider_says_of_who_answers_is_told_in_every_chunk_and_read_once() -> None:
    said = {"service_tier": "flex", "system_fingerprint": "fp_1"}
    events: list[ModelEvent] = [
        Began("a", "m", {**said, "secret": "x"}),
        TextDelta("Hi"),
        UsageReport(Usage(1, 2), usage_record(Usage(1, 2))),
        Stopped(StopReason.END, "stop"),
    ]
    raw = written(events)
    frames = [each.removeprefix(b"data: ") for each in raw.split(b"\n\n")[:-2]]
    assert [{name: json.loads(each)[name] for name in said} for each in frames] == [said] * 4
    assert b"secret" not in raw
    assert decode([raw]) == [Began("a", "m", said), *events[1:]]
    whole = answer_record([Completion.of(events)], 0)
    assert {name: whole[name] for name in said} == said
    for odd in ("null", "5", '""', "{}"):
        body = b'{"id":"a","service_tier":%b,"choices":[{"delta":{"content":"Hi"}}]}' % odd.encode()
        assert OpenAiDialect().decoder().feed(b"data: %b\n\n" % body)[0] == Began("a", "")


def test_the_first_chunk_says_who_speaks() -> None:
    first = AnswerWriter(5).write([Began("a", "m")])
    assert json.loads(first.removeprefix(b"data: ")) == {
        "id": "a",
        "object": "chat.completion.chunk",
        "created": 5,
        "model": "m",
        "choices": [
            {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        ],
    }


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "read_as"),
    [
        (AuthenticationError, 502, ProviderServerError),
        (PermissionDeniedError, 502, ProviderServerError),
        (InvalidRequestError, 400, InvalidRequestError),
        (ContextLengthError, 400, ContextLengthError),
        (CapabilityError, 400, CapabilityError),
        (ContentFilterError, 400, ContentFilterError),
        (ModelNotFoundError, 502, ProviderServerError),
        (RateLimitError, 429, RateLimitError),
        (QuotaError, 429, QuotaError),
        (OverloadedError, 503, OverloadedError),
        (ProviderServerError, 500, ProviderServerError),
        (ModelTimeoutError, 504, ModelTimeoutError),
        (ModelConnectionError, 502, ProviderServerError),
        (TruncatedStreamError, 502, ProviderServerError),
        (MalformedStreamError, 502, ProviderServerError),
    ],
)
def test_an_error_is_read_as_what_it_was(
    kind: type[ModelError], status: int, read_as: type[ModelError]
) -> None:
    """As an HTTP answer, and as the last event of a stream."""
    reply = error_reply(kind("It went wrong.", retry_after_s=1.5, code="odd"))
    assert reply.status == status
    assert reply.headers[:1] == (("retry-after", "2"),), "whole seconds, and never too early"
    found = OpenAiDialect().error(reply.status, dict(reply.headers), openai_error_body(reply), 0.0)
    told = WITHHELD.get(kind, "It went wrong.")
    assert (type(found), found.message) == (read_as, told)
    with pytest.raises(read_as) as caught:
        decode([AnswerWriter(0).failed(kind("It went wrong."))])
    assert type(caught.value) is read_as


def test_a_refused_field_is_the_errors_param() -> None:
    def param(error: ModelError) -> object:
        return error_reply(error).param

    assert param(InvalidRequestError("messages[0].role: no")) == "messages[0].role"
    assert param(InvalidRequestError("metadata[...]: no")) == "metadata", "a key is not known"
    assert param(InvalidRequestError("the body is not JSON: x")) is None
    assert param(InvalidRequestError("no")) is None
    assert param(ProviderServerError("panic: no")) is None
    assert error_reply(InvalidRequestError("no")).headers == ()


# --- OpenAI's own client in front of us --------------------------------------------------------


def client(status: int, content: bytes, media_type: str) -> openai.OpenAI:
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(status, headers={"content-type": media_type}, content=content)
    )
    return openai.OpenAI(
        api_key="none",
        base_url="http://us.test/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=transport),
    )


@given(answers())
def test_openais_own_client_reads_what_we_stream(events: list[ModelEvent]) -> None:
    with client(200, written(events), "text/event-stream") as vendor:
        chunks = list(vendor.chat.completions.create(model="m", messages=[], stream=True))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    ours = Completion.of(events)
    assert "".join(delta.content or "" for delta in deltas) == ours.text
    assert "".join(delta.refusal or "" for delta in deltas) == ours.refusal
    called = [call for delta in deltas for call in delta.tool_calls or ()]
    named = [(call.index, call.id, call.function and call.function.name) for call in called]
    assert [each for each in named if each[1]] == [
        (index, call.id, call.name) for index, call in enumerate(ours.tool_calls)
    ]
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert [reason for reason in reasons if reason] == [ours.stopped.raw]
    usage = chunks[-1].usage
    assert (usage and usage.prompt_tokens) == (ours.usage and ours.usage.input_tokens)


def test_openais_own_client_raises_our_errors() -> None:
    reply = error_reply(RateLimitError("slow down", retry_after_s=1.0))
    with (
        client(reply.status, openai_error_body(reply), "application/json") as vendor,
        pytest.raises(openai.RateLimitError, match="limits this server's rate"),
    ):
        vendor.chat.completions.create(model="m", messages=[])
    writer = AnswerWriter(0)
    raw = writer.write([TextDelta("Hi")]) + writer.failed(OverloadedError("busy"))
    with (
        client(200, raw, "text/event-stream") as vendor,
        pytest.raises(openai.APIError, match="overloaded at the moment"),
    ):
        list(vendor.chat.completions.create(model="m", messages=[], stream=True))
