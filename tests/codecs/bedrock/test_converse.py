"""Converse: its recorded answers, botocore's shapes and parsers as oracles, and its laws."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import botocore.eventstream  # type: ignore[import-untyped]
import botocore.parsers  # type: ignore[import-untyped]
import botocore.serialize  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
import botocore.validate  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import Answer, Completion
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.framing.frames import LARGE_BYTES
from orchestra.errors import (
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    MalformedStreamError,
    ModelError,
    ModelNotFoundError,
    ModelTimeoutError,
    OverloadedError,
    PermissionDeniedError,
    ProviderServerError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.testing.replay import dialect_of
from orchestra.values import (
    ChatRequest,
    Json,
    ModelEvent,
    Stopped,
    StopReason,
    ToolCallDelta,
    UsageReport,
)
from tests.codecs.amazon import CUTS, event, frame, header, pieces, string
from tests.codecs.streamed import events_of, outcome_of
from tests.recordings import Recording, needed, recordings

DIALECT = BedrockDialect()
RECORDED = dialect_of("bedrock", "converse")
"""The recordings have the calls that the provider itself answers, too."""
CLAUDE = "anthropic.claude-sonnet-4-6"
SERVICE = botocore.session.get_session().get_service_model("bedrock-runtime")
CONVERSE = SERVICE.operation_model("Converse")
CONVERSE_STREAM = SERVICE.operation_model("ConverseStream")
SURFACES = ("converse", "converse-stream")


decode = partial(events_of, DIALECT)


def outcome(parts: Iterable[bytes]) -> tuple[list[ModelEvent], str]:
    return outcome_of(DIALECT.decoder(), parts)


def summary(events: list[ModelEvent]) -> Json:
    answer = Completion.of(events)
    raw = [each.raw for each in events if isinstance(each, UsageReport)]
    return {
        "text": answer.text,
        "tools": [
            {"name": call.name, "args": json.loads(call.arguments)} for call in answer.tool_calls
        ],
        "finish": answer.stopped.raw,
        "usage": [raw[-1]["inputTokens"], raw[-1]["outputTokens"]] if raw else None,
    }


def expected(case: Recording) -> Json:
    assert case.golden is not None
    return {name: case.golden[name] for name in ("text", "tools", "finish", "usage")}


def cases(*kinds: str) -> list[Any]:
    found = recordings(lambda each: each.surface in SURFACES and each.kind in kinds)
    return [pytest.param(each, id=each.cid) for each in found]


# --- recorded -----------------------------------------------------------------------------------


@needed
@pytest.mark.parametrize("case", cases("stream"))
def test_recorded_streams_are_what_they_were(case: Recording) -> None:
    events = events_of(RECORDED, [case.body])
    assert summary(events) == expected(case)
    assert events_of(RECORDED, case.pieces(1)) == events_of(RECORDED, case.pieces(7)) == events


@needed
@pytest.mark.parametrize("case", cases("json"))
def test_recorded_answers_are_what_they_were(case: Recording) -> None:
    events = RECORDED.decode(case.body)
    assert summary(events) == expected(case)
    assert isinstance(events[-1], Stopped)


@needed
@pytest.mark.parametrize("case", cases("stream"))
def test_a_recorded_stream_that_is_cut_before_its_stop_is_an_error(case: Recording) -> None:
    at = case.body.index(b"messageStop")
    for cut in range(0, at, 97):
        with pytest.raises(TruncatedStreamError):
            decode([case.body[:cut]])


@needed
@pytest.mark.parametrize("case", cases("error"))
def test_recorded_errors_keep_the_message(case: Recording) -> None:
    error = DIALECT.error(case.status, case.headers, case.body, 0)
    assert error.message == json.loads(case.body)["message"]
    assert error.status == case.status
    assert isinstance(
        error,
        AuthenticationError if case.status == 403 else InvalidRequestError | ModelNotFoundError,
    )


# --- the stream, against botocore ---------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
WORDS = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=6)
STOPS = st.sampled_from(CONVERSE.output_shape.members["stopReason"].enum)
COUNTS = st.integers(0, 10**6)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[str, list[Json]]:
    """One block of an answer: what starts it, if anything, and its deltas."""
    match draw(st.sampled_from(("text", "call", "thought", "withheld"))):
        case "text":
            return "text", [{"text": text} for text in draw(st.lists(TEXTS, max_size=3))]
        case "call":
            text = json.dumps(draw(st.dictionaries(WORDS, TEXTS, max_size=2)))
            at = draw(st.integers(0, len(text)))
            return draw(WORDS), [{"toolUse": {"input": part}} for part in (text[:at], text[at:])]
        case "withheld":
            return "text", [{"reasoningContent": {"redactedContent": "c2VjcmV0"}}]
    thoughts = draw(st.lists(TEXTS, min_size=1, max_size=3))
    deltas: list[Json] = [{"reasoningContent": {"text": text}} for text in thoughts]
    return "text", [*deltas, {"reasoningContent": {"signature": "c2VhbA=="}}]


@st.composite
def answers(draw: st.DrawFn) -> list[tuple[str, Json]]:
    told: list[tuple[str, Json]] = [("messageStart", {"role": "assistant"})]
    for index, (name, deltas) in enumerate(draw(st.lists(blocks(), max_size=5))):
        if deltas and "toolUse" in deltas[0]:
            start = {"toolUse": {"toolUseId": f"id{index}", "name": name}}
            told.append(("contentBlockStart", {"contentBlockIndex": index, "start": start}))
        told += [
            ("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas
        ]
        told.append(("contentBlockStop", {"contentBlockIndex": index}))
    told.append(("messageStop", {"stopReason": draw(STOPS)}))
    usage = {"inputTokens": draw(COUNTS), "outputTokens": draw(COUNTS), "totalTokens": draw(COUNTS)}
    usage |= draw(st.fixed_dictionaries({}, optional={"cacheReadInputTokens": COUNTS}))
    told.append(("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}))
    return told


def framed(told: list[tuple[str, Json]]) -> bytes:
    return b"".join(event(name, json.dumps(body).encode()) for name, body in told)


class _Raw(io.BytesIO):
    def stream(self) -> Iterable[bytes]:
        yield self.getvalue()


def by_botocore(data: bytes) -> Json:
    """A simple reading of what botocore's own parser makes of the stream."""
    parser = botocore.parsers.EventStreamJSONParser()
    shape = CONVERSE_STREAM.output_shape.members["stream"]
    found: Json = {"text": "", "thoughts": "", "calls": {}}
    for each in botocore.eventstream.EventStream(_Raw(data), shape, parser, "ConverseStream"):
        match each:
            case {"contentBlockStart": {"start": {"toolUse": use}, "contentBlockIndex": at}}:
                found["calls"][at] = [use["toolUseId"], use["name"], ""]
            case {"contentBlockDelta": {"delta": {"text": text}}}:
                found["text"] += text
            case {"contentBlockDelta": {"delta": {"toolUse": use}, "contentBlockIndex": at}}:
                found["calls"][at][2] += use["input"]
            case {"contentBlockDelta": {"delta": {"reasoningContent": {"text": text}}}}:
                found["thoughts"] += text
            case {"messageStop": {"stopReason": reason}}:
                found["stop"] = reason
            case {"metadata": {"usage": usage}}:
                found["usage"] = usage
    return found


@given(answers(), CUTS)
def test_a_stream_says_what_botocore_reads_wherever_it_is_cut(
    told: list[tuple[str, Json]], cuts: list[int]
) -> None:
    data = framed(told)
    events = decode(pieces(data, cuts))
    assert decode([data]) == events
    answer, theirs = Completion.of(events), by_botocore(data)
    assert answer.text == theirs["text"]
    assert answer.reasoning == theirs["thoughts"]
    assert [[call.id, call.name, call.arguments] for call in answer.tool_calls] == list(
        theirs["calls"].values()
    )
    assert answer.stopped.raw == theirs["stop"]
    usage = theirs["usage"]
    cached = usage.get("cacheReadInputTokens", 0)
    assert answer.usage == Usage(
        usage["inputTokens"] + cached, usage["outputTokens"], cached_input_tokens=cached
    )


@given(answers(), st.data())
def test_a_cut_stream_never_looks_complete(
    told: list[tuple[str, Json]], data: st.DataObject
) -> None:
    whole = framed(told)
    stop_end = len(framed(told[:-1]))
    cut = data.draw(st.integers(0, len(whole)))
    events, error = outcome([whole[:cut]])
    assert ("TruncatedStreamError" in error) == (cut < stop_end)
    assert any(isinstance(each, Stopped) for each in events) == (cut >= stop_end)


@given(answers())
def test_an_answer_is_done_with_its_usage_and_not_with_its_stop(
    told: list[tuple[str, Json]],
) -> None:
    decoder = DIALECT.decoder()
    decoder.feed(framed(told[:-1]))
    assert not decoder.done
    decoder.feed(framed(told[-1:]))
    assert decoder.done


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(
                event,
                WORDS
                | st.sampled_from(
                    ("contentBlockDelta", "contentBlockStart", "messageStop", "metadata")
                ),
                st.binary(max_size=60)
                | st.sampled_from(
                    (
                        b"{}",
                        b'{"delta":{}}',
                        b'{"delta":{"toolUse":{"input":7}}}',
                        b'{"start":{"toolUse":{}}}',
                        b"[" * 5000,
                        b'{"usage":[]}',
                        b"null",
                    )
                ),
            ),
        ),
        max_size=5,
    ),
    CUTS,
)
def test_any_bytes_give_events_or_a_typed_error_and_the_same_wherever_they_are_cut(
    parts: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(parts)
    assert outcome([data]) == outcome(pieces(data, cuts)) == outcome([bytes([b]) for b in data])


@given(
    st.binary(max_size=80)
    | st.sampled_from(
        (
            b"{}",
            b"[" * 9999,
            b'{"output":{"message":{}}}',
            b'{"output":{"message":{"content":[{"toolUse":{"input":"\xff"}}]}}}',
        )
    )
)
def test_any_body_gives_events_or_a_typed_error(body: bytes) -> None:
    for read in (DIALECT.decode, DIALECT.decode_embeddings):
        try:
            read(body)
        except ModelError:
            continue
    assert isinstance(DIALECT.error(400, {}, body, 0), ModelError)


EXCEPTIONS: list[tuple[str, str, type[ModelError]]] = [
    ("internalServerException", "it broke", ProviderServerError),
    ("modelStreamErrorException", "it broke", ProviderServerError),
    ("throttlingException", "too many", RateLimitError),
    ("serviceUnavailableException", "no room", OverloadedError),
    ("modelTimeoutException", "too slow", ModelTimeoutError),
    ("validationException", "it is wrong", InvalidRequestError),
    ("validationException", "Input is too long for requested model.", ContextLengthError),
    ("accessDeniedException", "not you", PermissionDeniedError),
]


@pytest.mark.parametrize(("name", "message", "kind"), EXCEPTIONS)
def test_an_exception_in_the_stream_waits_behind_what_came_before(
    name: str, message: str, kind: type[ModelError]
) -> None:
    told = header(":message-type", string("exception")) + header(":exception-type", string(name))
    said = event("contentBlockDelta", b'{"delta":{"text":"Hel"}}')
    decoder = DIALECT.decoder()
    events = decoder.feed(said + frame(told, json.dumps({"message": message}).encode()) + said)
    assert Completion.of([*events, Stopped(StopReason.END)]).text == "Hel"
    assert decoder.done
    with pytest.raises(kind) as caught:
        decoder.close()
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.code) == (message, name)


def test_an_exception_that_is_mostly_brackets_is_not_decoded() -> None:
    """Decoded, it would take a hundred times its size."""
    told = header(":message-type", string("exception")) + header(":exception-type", string("x"))
    payload = b'[{"message": "no"}' + b",{}" * LARGE_BYTES + b"]"
    with pytest.raises(ModelError, match=r'^\[\{"message": "no"\},\{\},'):
        decode([frame(told, payload)])


def test_an_error_that_has_no_exception_is_told_too() -> None:
    told = header(":message-type", string("error")) + header(
        ":error-code", string("internalFailure")
    )
    with pytest.raises(ProviderServerError, match="internalFailure"):
        decode([frame(told, b"")])


HTTP_ERRORS: list[tuple[int, str, str, type[ModelError]]] = [
    (400, "ValidationException", "Malformed input request", InvalidRequestError),
    (400, "ValidationException", "too many input tokens", ContextLengthError),
    (403, "AccessDeniedException", "You don't have access to the model", PermissionDeniedError),
    (403, "UnrecognizedClientException", "security token is invalid", AuthenticationError),
    (403, "ExpiredTokenException", "security token is expired", AuthenticationError),
    (403, "InvalidSignatureException", "signature does not match", AuthenticationError),
    (403, "RequestTimeTooSkewed", "The difference is too large.", AuthenticationError),
    (403, "RequestExpired", "It has expired.", AuthenticationError),
    (
        403,
        "",
        "Authentication failed: Please make sure your API Key is valid.",
        AuthenticationError,
    ),
    (
        403,
        "AccessDeniedException",
        "Authentication failed: Please make sure your API Key is valid.",
        AuthenticationError,
    ),
    (403, "", "The security token included in the request is invalid.", AuthenticationError),
    (404, "ResourceNotFoundException", "no such model", ModelNotFoundError),
    (400, "", "The provided model identifier is invalid.", ModelNotFoundError),
    (408, "ModelTimeoutException", "too slow", ModelTimeoutError),
    (424, "ModelErrorException", "the model broke", ProviderServerError),
    (429, "ThrottlingException", "Too many requests", RateLimitError),
    (429, "ModelNotReadyException", "not ready", OverloadedError),
    (500, "InternalServerException", "broke", ProviderServerError),
    (503, "ServiceUnavailableException", "no room", OverloadedError),
]


@pytest.mark.parametrize(("status", "word", "message", "kind"), HTTP_ERRORS)
def test_an_error_is_told_by_the_word_in_its_header(
    status: int, word: str, message: str, kind: type[ModelError]
) -> None:
    headers = {"x-amzn-errortype": f"{word}:http://internal.amazon.com/", "x-amzn-requestid": "r1"}
    error = DIALECT.error(status, headers, json.dumps({"message": message}).encode(), 0)
    assert type(error) is kind
    assert (error.message, error.request_id) == (message, "r1")


EXPIRED = (
    "Signature expired: 20261129T120000Z is now earlier than 20261129T122000Z "
    "(20261129T122500Z - 5 min.)"
)
HERE_S = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("word", "message", "date", "told"),
    [
        ("InvalidSignatureException", EXPIRED, "Sun, 29 Nov 2026 12:25:00 GMT", "1500 s behind"),
        ("RequestTimeTooSkewed", "Too large.", "Sun, 29 Nov 2026 11:00:00 GMT", "3600 s ahead of"),
        # It is the key, or a call that has waited too long to be sent:
        ("InvalidSignatureException", EXPIRED, "Sun, 29 Nov 2026 12:04:00 GMT", ""),
        ("InvalidSignatureException", EXPIRED, "yesterday", ""),
        ("UnrecognizedClientException", "invalid", "Sun, 29 Nov 2026 12:25:00 GMT", ""),
    ],
)
def test_a_signature_of_another_time_is_told_with_how_far_the_clock_is_off(
    word: str, message: str, date: str, told: str
) -> None:
    """It looks like a wrong key otherwise, and keys are changed in vain."""
    headers = {"x-amzn-errortype": word, "date": date}
    error = DIALECT.error(403, headers, json.dumps({"message": message}).encode(), HERE_S)
    assert type(error) is AuthenticationError
    hint = f" (the clock of this host is {told} the provider's, "
    assert error.message.startswith(message + hint) if told else error.message == message


def test_calls_are_counted_from_zero_whatever_block_they_stand_in() -> None:
    told: list[tuple[str, Json]] = [
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Wait"}}),
        (
            "contentBlockStart",
            {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "c1", "name": "weather"}}},
        ),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{}"}}}),
        (
            "contentBlockStart",
            {"contentBlockIndex": 4, "start": {"toolUse": {"toolUseId": "c2", "name": "weather"}}},
        ),
        ("messageStop", {"stopReason": "tool_use"}),
    ]
    calls = [each for each in decode([framed(told)]) if isinstance(each, ToolCallDelta)]
    assert [(each.index, each.id) for each in calls] == [(0, "c1"), (0, ""), (1, "c2")]


@pytest.mark.parametrize("counted", [{}, {"contentBlockIndex": 0}])
def test_calls_in_blocks_that_are_not_counted_are_told_apart_by_their_ids(counted: Json) -> None:
    told: list[tuple[str, Json]] = []
    for id_ in ("c1", "c2"):
        begun = counted | {"start": {"toolUse": {"toolUseId": id_, "name": "weather"}}}
        piece = counted | {"delta": {"toolUse": {"input": f'"{id_}"'}}}
        told += [("contentBlockStart", begun), ("contentBlockDelta", piece)]
    answer = Completion.of(decode([framed([*told, ("messageStop", {"stopReason": "tool_use"})])]))
    assert [(each.id, each.arguments) for each in answer.tool_calls] == [
        ("c1", '"c1"'),
        ("c2", '"c2"'),
    ]


def test_an_answer_goes_back_as_it_came() -> None:
    told: list[tuple[str, Json]] = [
        (
            "contentBlockDelta",
            {
                "contentBlockIndex": 0,
                "delta": {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
            },
        ),
        (
            "contentBlockDelta",
            {"contentBlockIndex": 1, "delta": {"reasoningContent": {"text": "hm"}}},
        ),
        (
            "contentBlockDelta",
            {"contentBlockIndex": 1, "delta": {"reasoningContent": {"signature": "c2VhbA=="}}},
        ),
        ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"text": "Wait"}}),
        (
            "contentBlockStart",
            {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "c1", "name": "weather"}}},
        ),
        (
            "contentBlockDelta",
            {"contentBlockIndex": 3, "delta": {"toolUse": {"input": '{"city": "Rome"}'}}},
        ),
        ("messageStop", {"stopReason": "tool_use"}),
    ]
    answer = Completion.of(decode([framed(told)]))
    call = DIALECT.ask(CLAUDE, ChatRequest((answer.message,)), stream=False)
    (turn,) = json.loads(call.body)["messages"]
    assert turn["content"] == [
        {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2VhbA=="}}},
        {"text": "Wait"},
        {"toolUse": {"toolUseId": "c1", "name": "weather", "input": {"city": "Rome"}}},
    ]


# --- whole answers ------------------------------------------------------------------------------


def test_an_error_in_place_of_an_answer_is_told_by_its_word() -> None:
    with pytest.raises(RateLimitError, match="slow down"):
        DIALECT.decode(b'{"__type":"ThrottlingException","message":"slow down"}')


def test_a_text_with_its_sources_is_text() -> None:
    cited = {"content": [{"text": "ci"}, {"text": "ted"}], "citations": [{"title": "t"}]}
    content = [{"citationsContent": cited}, {"text": "."}, {"citationsContent": {}}]
    body = {"output": {"message": {"content": content}}, "stopReason": "end_turn"}
    assert Completion.of(DIALECT.decode(json.dumps(body).encode())).text == "cited."


def test_an_answer_may_have_no_content() -> None:
    body = b'{"output":{"message":{"content":null}},"stopReason":"end_turn"}'
    assert DIALECT.decode(body) == [Stopped(StopReason.END, "end_turn")]


def test_a_body_without_a_message_is_no_answer() -> None:
    with pytest.raises(MalformedStreamError):
        DIALECT.decode(b'{"output":{}}')


def test_the_cache_is_part_of_the_input() -> None:
    usage = {
        "inputTokens": 1,
        "outputTokens": 2,
        "cacheReadInputTokens": 3,
        "cacheWriteInputTokens": 4,
    }
    body = {
        "output": {"message": {"content": [{"text": "Hi"}]}},
        "stopReason": "end_turn",
        "usage": usage,
    }
    answer = Answer()
    for each in DIALECT.decode(json.dumps(body).encode()):
        answer.add(each)
    assert answer.usage == Usage(8, 2, cached_input_tokens=3, cache_write_input_tokens=4)


SEARCH: Json = {"toolUseId": "s", "name": "nova_grounding", "type": "server_tool_use"}
FOUND: Json = {"toolUseId": "s", "type": "nova_grounding_result", "status": "success"}
OURS: Json = {"toolUseId": "t", "name": "weather"}


def test_a_call_that_the_provider_answers_itself_is_left_out() -> None:
    """Nobody else could answer it: a pipeline without tools would fail, one with tools ask again."""
    frames = [
        _frame("contentBlockStart", contentBlockIndex=0, start={"toolUse": SEARCH}),
        _frame("contentBlockDelta", contentBlockIndex=0, delta={"toolUse": {"input": '{"a":'}}),
        _frame("contentBlockDelta", contentBlockIndex=0, delta={"toolUse": {"input": "1}"}}),
        _frame("contentBlockStop", contentBlockIndex=0),
        _frame("contentBlockStart", contentBlockIndex=1, start={"toolResult": FOUND}),
        _frame("contentBlockDelta", contentBlockIndex=1, delta={"toolResult": [{"text": "no"}]}),
        _frame("contentBlockDelta", contentBlockIndex=2, delta={"text": "It rains."}),
        _frame("contentBlockStart", contentBlockIndex=3, start={"toolUse": OURS}),
        _frame("contentBlockDelta", contentBlockIndex=3, delta={"toolUse": {"input": "{}"}}),
        _frame("messageStop", stopReason="tool_use"),
    ]
    content: list[Json] = [
        {"toolUse": SEARCH | {"input": {"a": 1}}},
        {"toolResult": FOUND | {"content": [{"text": "no"}]}},
        {"text": "It rains."},
        {"toolUse": OURS | {"input": {}}},
    ]
    body = {"output": {"message": {"content": content}}, "stopReason": "tool_use"}
    whole = json.dumps(body).encode()
    for events in (decode(frames), DIALECT.decode(whole)):
        answer = Completion.of(events)
        assert answer.text == "It rains."
        assert [(call.name, call.arguments) for call in answer.tool_calls] == [("weather", "{}")]
    for events in (events_of(RECORDED, frames), RECORDED.decode(whole)):
        names = [call.name for call in Completion.of(events).tool_calls]
        assert names == ["nova_grounding", "weather"]


def _frame(kind: str, **payload: Any) -> bytes:
    return event(kind, json.dumps(payload).encode())
