"""Gemini's dialect: its laws, its recorded answers, and its vendor's client as an oracle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from google import genai
from google.genai import _api_client as vendor_transport
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Answer, Completion
from orchestra.codecs.framing.frames import FRAME_BYTES_MAX
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.seals import sealed
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
    QuotaError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.values import (
    Began,
    ChatRequest,
    EmbedRequest,
    Message,
    ModelEvent,
    ReasoningPart,
    Stopped,
    StopReason,
    TextPart,
    ToolCall,
    UsageReport,
    Vector,
)
from tests.codecs.streamed import events_of, read_any
from tests.recordings import Recording, needed, recordings

DIALECT = GeminiDialect()
VERTEX = GeminiDialect(vertex=True)
SURFACES = ("generateContent", "streamGenerateContent")


decode = partial(events_of, DIALECT)


def cases(*kinds: str) -> list[Any]:
    found = recordings(lambda each: each.surface in SURFACES and each.kind in kinds)
    return [pytest.param(each, id=each.cid) for each in found]


def decoded(recording: Recording) -> list[ModelEvent]:
    whole = recording.kind == "json"
    return DIALECT.decode(recording.body) if whole else decode([recording.body])


def calls(answer: Completion) -> list[Any]:
    return [{"name": call.name, "args": json.loads(call.arguments)} for call in answer.tool_calls]


def summary(events: list[ModelEvent]) -> dict[str, Any]:
    """What the recordings say of an answer, in the provider's own words."""
    answer = Completion.of(events)
    raw = [event.raw for event in events if isinstance(event, UsageReport)][-1]
    return {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "tools": calls(answer),
        "finish": answer.stopped.raw,
        "usage": [raw.get("promptTokenCount"), raw.get("candidatesTokenCount")],
        "model": answer.model or None,
        "thoughts_tokens": raw.get("thoughtsTokenCount"),
    }


def expected(recording: Recording) -> dict[str, Any]:
    assert recording.golden is not None
    names = ("text", "reasoning", "tools", "finish", "usage", "model", "thoughts_tokens")
    golden = {name: recording.golden[name] for name in names}
    return golden | {"reasoning": golden["reasoning"] or ""}


def in_pieces(recording: Recording) -> bool:
    """Whether its tool calls came in pieces, which Google's own client does not put together."""
    return b'"willContinue"' in recording.body


def vendor(body: bytes, content_type: str) -> genai.Client:
    """Google's own client, to which these bytes are the answer to everything."""
    wire: Any = vars(vendor_transport)["httpx"]
    reply = wire.Response(200, headers={"content-type": content_type}, content=body)
    transport = wire.MockTransport(lambda _: reply)
    options = types.HttpOptions(client_args={"transport": transport})
    return genai.Client(api_key="key", http_options=options)


def heard(recording: Recording) -> Iterator[types.GenerateContentResponse]:
    """The responses that Google's own client makes of a recording."""
    client = vendor(recording.body, recording.content_type)
    if recording.kind == "json":
        yield client.models.generate_content(model="m", contents="hello")
    else:
        yield from client.models.generate_content_stream(model="m", contents="hello")


# --- the laws -----------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
seals = st.sampled_from(["", "c2VhbA=="])
spoken_parts = st.lists(
    st.one_of(
        st.tuples(st.just("text"), texts, seals),
        st.tuples(st.just("thought"), texts, seals),
        st.tuples(st.just("call"), st.dictionaries(texts, texts, max_size=2), seals),
        st.tuples(st.just("code"), texts, seals),
    ),
    max_size=6,
)


def part(kind: str, said: Any, seal: str) -> dict[str, Any]:
    sealed = {"thoughtSignature": seal} if seal else {}
    match kind:
        case "text":
            return {"text": said, **sealed}
        case "thought":
            return {"text": said, "thought": True, **sealed}
        case "call":
            return {"functionCall": {"name": "weather", "args": said}, **sealed}
        case _:
            return {"executableCode": {"language": "PYTHON", "code": said}, **sealed}


def response(*parts: Any, reason: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "gemini", "responseId": "r", **more}


def sse(*responses: Any) -> bytes:
    return b"".join(b"data: %s\r\n\r\n" % json.dumps(each).encode() for each in responses)


def usage(prompt: int, answer: int, **more: int) -> dict[str, Any]:
    return {"promptTokenCount": prompt, "candidatesTokenCount": answer, **more}


def spoken(told: list[tuple[str, Any, str]]) -> list[dict[str, Any]]:
    """The responses of a stream as Gemini would send it."""
    counts = [usage(7, count) for count in range(len(told))]
    middle = [
        response(part(*each), usageMetadata=count) for each, count in zip(told, counts, strict=True)
    ]
    final = usage(7, 9, thoughtsTokenCount=4, cachedContentTokenCount=2)
    return [*middle, response(reason="STOP", usageMetadata=final)]


@given(spoken_parts)
def test_what_is_said_comes_out(told: list[tuple[str, Any, str]]) -> None:
    answer = Completion.of(decode([sse(*spoken(told))]))
    assert answer.text == "".join(said for kind, said, _ in told if kind == "text")
    assert answer.reasoning == "".join(said for kind, said, _ in told if kind == "thought")
    called = [(said, sealed("gemini", seal)) for kind, said, seal in told if kind == "call"]
    assert [(json.loads(call.arguments), call.signature) for call in answer.tool_calls] == called
    assert [call.id for call in answer.tool_calls] == [
        f"call_r_{index}" for index in range(len(called))
    ]
    assert answer.usage == Usage(7, 13, Certainty.EXACT, 2, 0, 4)
    assert answer.stopped.raw == "STOP"
    assert answer.stopped.reason is (StopReason.TOOL_CALLS if called else StopReason.END)


@given(spoken_parts)
def test_however_it_is_framed_the_events_are_the_same(told: list[tuple[str, Any, str]]) -> None:
    """As events, as an array in a stream, as an array; a blank before it changes nothing."""
    responses = spoken(told)
    array = json.dumps(responses, indent=1).encode()
    events = decode([sse(*responses)])
    assert decode([array]) == decode([b" \r\n", array]) == events
    assert DIALECT.decode(array) == events


@given(spoken_parts, st.data(), st.booleans())
def test_any_split_gives_the_same_events(
    told: list[tuple[str, Any, str]], data: st.DataObject, array: bool
) -> None:
    responses = spoken(told)
    wire = json.dumps(responses).encode() if array else sse(*responses)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)))))
    split = [wire[at:to] for at, to in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert decode(split) == decode([wire])


@given(spoken_parts, st.data(), st.booleans())
def test_a_cut_stream_never_looks_complete(
    told: list[tuple[str, Any, str]], data: st.DataObject, array: bool
) -> None:
    responses = spoken(told)
    wire = json.dumps(responses).encode() if array else sse(*responses)
    whole = wire.rindex(b"}") + 1  # of an array, the end alone says nothing
    cut = data.draw(st.integers(0, whole - 1))
    with pytest.raises(TruncatedStreamError):
        decode([wire[:cut]])
    assert decode([wire[:whole]]) == decode([wire])


PARTS = [
    sse(response(part("call", {}, ""), reason="STOP")),
    sse(response({"functionCall": {"name": "f", "willContinue": True, "args": 5}})),
    sse(response({"functionCall": {"name": "f", "willContinue": True, "args": None}})),
    sse(response({"functionCall": {"partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}]}})),
    sse(response({"functionCall": {"partialArgs": [{"jsonPath": "$[9]"}]}})),
    sse(response(reason="NEW", usageMetadata={"promptTokenCount": "x"})),
    sse({"promptFeedback": {"blockReason": "SAFETY"}}),
    sse({"candidates": [{"content": None}, {}], "usageMetadata": {}}),
    sse({"error": "no"}),
    sse({"error": {"code": 10**30}}),
    b"[",
    b"{}",
    b"[" * 5_000,
    b'data: {"x":' + b"[" * 5_000 + b"\n\n",
    b'data: {"responseId":"\xff"}\n\n',
    b"event: ping\ndata: {}\n\n",
]


@given(st.lists(st.one_of(st.sampled_from(PARTS), st.binary(max_size=20)), max_size=6))
def test_any_bytes_give_events_or_a_typed_error(parts: list[bytes]) -> None:
    read_any(DIALECT, parts)
    with pytest.raises(ModelError):
        DIALECT.decode_embeddings(b"".join(parts))


# --- what was recorded ----------------------------------------------------------------------------


@needed
@pytest.mark.parametrize("recording", cases("stream"))
@pytest.mark.parametrize("size", [1, 7, 10**9])
def test_a_recorded_stream_says_what_it_said(recording: Recording, size: int) -> None:
    said, golden = summary(decode(recording.pieces(size))), expected(recording)
    if in_pieces(recording):
        named = [call["name"] for call in golden.pop("tools") if call["name"]]
        tools = said.pop("tools")
        assert [call["name"] for call in tools] == named
        assert all(call["args"] for call in tools)
    assert said == golden


@needed
@pytest.mark.parametrize("recording", cases("json"))
def test_a_recorded_answer_says_what_it_said(recording: Recording) -> None:
    assert summary(DIALECT.decode(recording.body)) == expected(recording)


@needed
@pytest.mark.parametrize("recording", cases("stream"))
def test_a_recorded_stream_is_cut_nowhere_in_silence(recording: Recording) -> None:
    finish = recording.body.index(b'"finishReason"')
    for cut in [*range(0, finish, 97), finish]:
        with pytest.raises(TruncatedStreamError):
            decode([recording.body[:cut]])


@needed
@pytest.mark.parametrize("recording", cases("stream", "json"))
def test_google_s_own_client_hears_the_same(recording: Recording) -> None:
    answer, responses = Completion.of(decoded(recording)), list(heard(recording))
    parts = [
        each
        for response in responses
        for candidate in response.candidates or ()
        for each in (candidate.content.parts if candidate.content else None) or ()
    ]
    assert answer.text == "".join(each.text or "" for each in parts if not each.thought)
    assert answer.reasoning == "".join(each.text or "" for each in parts if each.thought)
    called = [each.function_call for each in parts if each.function_call]
    if in_pieces(recording):
        called = [call for call in called if call.name]
        assert [call.name for call in answer.tool_calls] == [call.name for call in called]
    else:
        assert calls(answer) == [{"name": call.name, "args": call.args or {}} for call in called]
    assert answer.id == (responses[0].response_id or "")


@needed
@pytest.mark.parametrize("recording", cases("error"))
def test_a_recorded_error_keeps_what_google_said(recording: Recording) -> None:
    error = DIALECT.error(recording.status, recording.headers, recording.body, 0)
    told = json.loads(recording.body)["error"]
    kinds = {400: InvalidRequestError, 404: ModelNotFoundError}
    assert type(error) is kinds[recording.status]
    assert (error.message, error.code) == (told["message"], told["status"])
    assert error.status == recording.status


# --- errors -----------------------------------------------------------------------------------------

PLAN = "You exceeded your current quota, please check your plan and billing details."
WAIT = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}


def info(reason: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}


def spent(quota: str) -> dict[str, Any]:
    kind = "type.googleapis.com/google.rpc.QuotaFailure"
    return {"@type": kind, "violations": [{"quotaMetric": "m", "quotaId": quota}]}


@pytest.mark.parametrize(
    ("status", "word", "message", "details", "kind"),
    [
        (400, "INVALID_ARGUMENT", "no such role", [], InvalidRequestError),
        (400, "INVALID_ARGUMENT", "bad key", [info("API_KEY_INVALID")], AuthenticationError),
        (400, "INVALID_ARGUMENT", "API key not valid.", [], AuthenticationError),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (9) exceeds the maximum number of tokens allowed (8).",
            [],
            ContextLengthError,
        ),
        (400, "FAILED_PRECONDITION", "not in your region", [], PermissionDeniedError),
        (401, "UNAUTHENTICATED", "no token", [], AuthenticationError),
        (403, "PERMISSION_DENIED", "not yours", [], PermissionDeniedError),
        (404, "NOT_FOUND", "no such model", [], ModelNotFoundError),
        (429, "RESOURCE_EXHAUSTED", "Resource exhausted. Try again.", [], RateLimitError),
        (
            429,
            "RESOURCE_EXHAUSTED",
            PLAN,
            [spent("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"), WAIT],
            RateLimitError,
        ),
        (
            429,
            "RESOURCE_EXHAUSTED",
            PLAN,
            [spent("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), WAIT],
            QuotaError,
        ),
        (429, "RESOURCE_EXHAUSTED", PLAN, [], QuotaError),
        (500, "INTERNAL", "An internal error", [], ProviderServerError),
        (503, "UNAVAILABLE", "The model is overloaded.", [], OverloadedError),
        (504, "DEADLINE_EXCEEDED", "too slow", [], ModelTimeoutError),
    ],
)
def test_an_error_means_the_same_with_a_status_and_in_a_stream(
    status: int, word: str, message: str, details: list[Any], kind: type[ModelError]
) -> None:
    told = {"error": {"code": status, "message": message, "status": word, "details": details}}
    for body in (told, [told]):
        wire = json.dumps(body).encode()
        error = DIALECT.error(status, {}, wire, 0)
        assert type(error) is kind
        assert (error.message, error.status) == (message, status)
        assert error.retry_after_s == (34.5 if WAIT in details and error.retryable else None)
        for read in (DIALECT.decode, lambda each: decode([each])):
            with pytest.raises(kind):
                read(wire)
    with pytest.raises(kind) as streamed:
        decode([sse(response(part("text", "so far", "")), told)])
    assert streamed.value.message == message


def test_what_came_before_an_error_is_not_lost() -> None:
    decoder, answer = DIALECT.decoder(), Answer()
    first = response(part("text", "so far", ""), usageMetadata=usage(7, 3, thoughtsTokenCount=1))
    for each in decoder.feed(sse(first, {"error": {"status": "UNAVAILABLE"}})):
        answer.add(each)
    assert decoder.done
    assert answer.usage == Usage(7, 4, Certainty.PARTIAL, reasoning_tokens=1)
    assert decoder.feed(b"more") == []


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"",
        b"<html>",
        b"[" * 100_000,
        json.dumps({"candidates": [], "usageMetadata": {"promptTokenCount": 3}}).encode(),
    ],
)
def test_what_is_no_whole_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(MalformedStreamError):
        DIALECT.decode(body)


@pytest.mark.parametrize("reason", [None, "", "FINISH_REASON_UNSPECIFIED"])
def test_a_whole_answer_without_a_reason_has_stopped_for_one_that_nobody_knows(
    reason: str | None,
) -> None:
    one = response(part("text", "so", ""), reason=reason)
    for body in (one, [one]):
        answer = Completion.of(DIALECT.decode(json.dumps(body).encode()))
        assert (answer.text, answer.stopped) == ("so", Stopped(StopReason.OTHER, reason))
    with pytest.raises(TruncatedStreamError):
        decode([sse(one)])
    several = [one, response(part("text", "!", ""), reason="STOP"), one]
    stopped = Completion.of(DIALECT.decode(json.dumps(several).encode())).stopped
    assert stopped == Stopped(StopReason.END, "STOP")


def split(wire: bytes, data: st.DataObject) -> list[bytes]:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)))))
    return [wire[at:to] for at, to in zip([0, *cuts], [*cuts, len(wire)], strict=True)]


LINES = [
    response(part("text", text, ""), reason=reason, usageMetadata=usage(3, 4))
    for text, reason in (("so\n[{]}, ", None), ('\\" far', "STOP"))
]


@pytest.mark.parametrize("indent", [None, 2])
@given(st.data())
def test_responses_one_behind_the_other_are_a_stream(
    indent: int | None, data: st.DataObject
) -> None:
    """As some gateways send them, a line each; cut anywhere, they are cut."""
    wire = "\n".join(json.dumps(each, indent=indent) for each in LINES).encode()
    assert Completion.of(decode(split(wire, data))).text == 'so\n[{]}, \\" far'
    end = data.draw(st.integers(0, len(wire) - 1))
    with pytest.raises(TruncatedStreamError):
        decode(split(wire[:end], data))
    with pytest.raises(MalformedStreamError):  # it is no answer in one piece
        DIALECT.decode(wire)


@given(st.data())
def test_an_array_that_is_cut_behind_its_last_response_is_whole(data: st.DataObject) -> None:
    wire = json.dumps(LINES).encode()
    end = data.draw(st.integers(0, len(wire) - 2))
    with pytest.raises(TruncatedStreamError):
        decode(split(wire[:end], data))
    for rest in (b"", b"\n", b"\n,\r\n", b', {"candidates": [{"con'):
        events = decode(split(wire[:-1] + rest, data))
        assert Completion.of(events).stopped == Stopped(StopReason.END, "STOP")
    with pytest.raises(MalformedStreamError):
        DIALECT.decode(wire[:-1])


def test_a_last_word_of_openais_is_passed_over() -> None:
    wire = sse(*LINES) + b"data: [DONE]\r\n\r\n"
    assert Completion.of(decode([wire])).usage == Usage(3, 4)


@pytest.mark.parametrize(
    "wire",
    [
        b"data: nonsense\n\n",
        sse(response({"text": 5})),
        sse(response({"functionCall": {"partialArgs": [{"jsonPath": "$.a"}]}})),
        sse(response({"functionCall": {"name": "f", "willContinue": True, "args": 5}})),
    ],
)
def test_a_broken_event_is_an_error(wire: bytes) -> None:
    with pytest.raises(MalformedStreamError):
        decode([wire, sse(response(reason="STOP"))])


def test_an_array_has_a_limit() -> None:
    decoder = DIALECT.decoder()
    decoder.feed(b"[")
    decoder.feed(b" " * FRAME_BYTES_MAX)
    assert decoder.done
    with pytest.raises(MalformedStreamError, match="over"):
        decoder.close()


# --- examples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("STOP", StopReason.END),
        ("MAX_TOKENS", StopReason.LENGTH),
        ("SAFETY", StopReason.CONTENT_FILTER),
        ("RECITATION", StopReason.CONTENT_FILTER),
        ("BLOCKLIST", StopReason.CONTENT_FILTER),
        ("PROHIBITED_CONTENT", StopReason.CONTENT_FILTER),
        ("SPII", StopReason.CONTENT_FILTER),
        ("MODEL_ARMOR", StopReason.CONTENT_FILTER),
        ("IMAGE_SAFETY", StopReason.CONTENT_FILTER),
        ("IMAGE_PROHIBITED_CONTENT", StopReason.CONTENT_FILTER),
        ("IMAGE_RECITATION", StopReason.CONTENT_FILTER),
        ("LANGUAGE", StopReason.CONTENT_FILTER),
        ("ESCALATION", StopReason.CONTENT_FILTER),
        ("PUP_LIMITED_DISABLED", StopReason.CONTENT_FILTER),
        ("CONTINUATION", StopReason.LENGTH),
        ("MALFORMED_FUNCTION_CALL", StopReason.OTHER),
        ("MALFORMED_RESPONSE", StopReason.OTHER),
        ("UNEXPECTED_TOOL_CALL", StopReason.OTHER),
        ("TOO_MANY_TOOL_CALLS", StopReason.OTHER),
        ("MISSING_THOUGHT_SIGNATURE", StopReason.OTHER),
        ("IMAGE_OTHER", StopReason.OTHER),
        ("NO_IMAGE", StopReason.OTHER),
        ("OTHER", StopReason.OTHER),
        ("SOMETHING_NEW", StopReason.OTHER),
    ],
)
def test_a_reason_to_stop_is_told_in_our_words_and_in_theirs(raw: str, reason: StopReason) -> None:
    assert decode([sse(response(reason=raw))])[-1] == Stopped(reason, raw)


def test_only_an_answer_that_ended_by_itself_asks_for_its_calls() -> None:
    cut = response(part("call", {}, ""), reason="MAX_TOKENS")
    assert decode([sse(cut)])[-1] == Stopped(StopReason.LENGTH, "MAX_TOKENS")


def test_a_blocked_prompt_is_an_answer_that_a_filter_stopped() -> None:
    feedback = {"blockReason": "SAFETY", "blockReasonMessage": "not this"}
    body = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 8}}
    for events in (decode([sse(body)]), DIALECT.decode(json.dumps(body).encode())):
        answer = Completion.of(events)
        assert answer.stopped == Stopped(StopReason.CONTENT_FILTER, None)
        assert (answer.parts, answer.refusal, answer.usage) == ((), "not this", Usage(8))
    del feedback["blockReasonMessage"], body["usageMetadata"]
    assert decode([sse(body)]) == [Began("", ""), Stopped(StopReason.CONTENT_FILTER, None)]


def test_a_filtered_answer_says_why() -> None:
    filtered = response(part("text", "so", ""), reason="SAFETY")
    filtered["candidates"][0]["finishMessage"] = "not this"
    answer = Completion.of(decode([sse(filtered)]))
    assert (answer.text, answer.refusal) == ("so", "not this")


def test_usage_is_a_running_total_and_the_last_with_counts_is_exact() -> None:
    final = usage(7, 3, toolUsePromptTokenCount=5) | {"trafficType": "ON_DEMAND"}
    nothing = {"trafficType": "ON_DEMAND"}
    wire = sse(
        response(usageMetadata=nothing),
        response(usageMetadata=nothing),
        response(usageMetadata=usage(7, 1)),
        response(usageMetadata=final, reason="STOP"),
        response(usageMetadata=nothing),
    )
    reports = [each for each in decode([wire]) if isinstance(each, UsageReport)]
    assert [each.usage for each in reports] == [
        Usage(certainty=Certainty.PARTIAL),
        Usage(7, 1, Certainty.PARTIAL),
        Usage(12, 3, Certainty.PARTIAL),
        Usage(12, 3, Certainty.PARTIAL),
        Usage(12, 3),
    ]
    assert reports[-1].raw == nothing
    uncounted = decode([sse(response(usageMetadata=nothing, reason="STOP"))])
    assert UsageReport(Usage(certainty=Certainty.PARTIAL), nothing) in uncounted


def test_a_count_that_the_last_record_leaves_out_is_that_of_the_one_before() -> None:
    last = {"candidatesTokenCount": 9, "promptTokenCount": None}
    wire = sse(response(usageMetadata=usage(7, 3)), response(usageMetadata=last, reason="STOP"))
    assert decode([wire])[-2] == UsageReport(Usage(7, 9), last)


@pytest.mark.parametrize("indices", [(None, None), (0, None), (0, 1), (None, 1)])
def test_of_answers_that_are_not_counted_the_first_is_read(
    indices: tuple[int | None, int | None],
) -> None:
    candidates = [
        response(part("text", text, ""), reason=reason)["candidates"][0] | {"index": index}
        for index, text, reason in zip(indices, ("one", "two"), ("STOP", "MAX_TOKENS"), strict=True)
    ]
    for events in (
        decode([sse({"candidates": candidates})]),
        DIALECT.decode(json.dumps({"candidates": candidates}).encode()),
    ):
        answer = Completion.of(events)
        assert (answer.text, answer.stopped.raw) == ("one", "STOP")
    last = [candidates[1] | {"index": 1}]
    whole = DIALECT.decode(json.dumps({"candidates": last}).encode())
    assert Completion.of(whole).text == "two"
    with pytest.raises(TruncatedStreamError):
        decode([sse({"candidates": last})])


def test_of_several_answers_the_first_is_read() -> None:
    both = response(part("text", "one", ""), reason="STOP")
    both["candidates"].append({"content": {"parts": [{"text": "two"}]}, "index": 1})
    assert Completion.of(decode([sse(both)])).text == "one"


def test_of_several_reasons_the_last_counts() -> None:
    """Old models give one with every piece."""
    wire = sse(
        response(part("text", "a", ""), reason="STOP"),
        response(part("text", "b", ""), reason="MAX_TOKENS"),
    )
    assert decode([wire])[-1] == Stopped(StopReason.LENGTH, "MAX_TOKENS")
    assert Completion.of(decode([wire])).text == "ab"


def test_a_cut_behind_the_reason_loses_nothing() -> None:
    wire = sse(response(part("text", "so", ""), reason="STOP")) + b'data: {"usageMeta'
    assert Completion.of(decode([wire])).text == "so"


def test_a_call_may_come_in_pieces() -> None:
    def piece(path: str, text: str, **more: bool) -> dict[str, Any]:
        return {"jsonPath": path, "stringValue": text, **more}

    def call(*pieces: Any, **more: Any) -> dict[str, Any]:
        told = {"partialArgs": list(pieces)} if pieces else {}
        return response({"functionCall": {**told, **more}})

    wire = sse(
        call(name="f", id="a", willContinue=True),
        call(piece("$.x", "Bos", willContinue=True), willContinue=True),
        call(piece("$.x", "ton"), piece("$.y[0]", "z"), willContinue=True),
        call(),
        call(name="g", args={"kept": 1}, willContinue=True),
        call(piece("$.x", "un"), willContinue=True),
        call(piece("$.x", "ended"), name="h"),
        call(),
        call(name="i", willContinue=True),
        response(reason="STOP"),
    )
    answer = Completion.of(decode([wire]))
    assert answer.tool_calls == (
        ToolCall("a", "f", '{"x":"Boston","y":["z"]}'),
        ToolCall("call_r_1", "g", '{"kept":1,"x":"un"}'),
        ToolCall("call_r_2", "h", '{"x":"ended"}'),
        ToolCall("call_r_3", "i", "{}"),
    )


def test_a_seal_on_text_is_marked_as_such() -> None:
    parts = (part("thought", "hm", ""), part("text", "so", "seal"), part("text", "then", ""))
    answer = Completion.of(decode([sse(response(*parts, reason="STOP"))]))
    assert answer.parts == (ReasoningPart("hm", "text:seal"), TextPart("sothen"))
    bare = response({"text": "", "thoughtSignature": "seal"}, {"text": ""}, reason="STOP")
    assert Completion.of(decode([sse(bare)])).parts == (ReasoningPart("", "text:seal"),)
    empty = response({"text": "", "thought": True}, {"text": "so"}, reason="STOP")
    assert Completion.of(decode([sse(empty)])).parts == (TextPart("so"),)


@pytest.mark.parametrize("args", [{"a": 1}, [], "x"])
def test_a_call_that_has_arguments_and_no_name_is_malformed(args: Any) -> None:
    """It would be gone without a word."""
    found = response({"functionCall": {"args": args}}, reason="STOP")
    with pytest.raises(MalformedStreamError, match="without its name"):
        decode([sse(found)])
    with pytest.raises(MalformedStreamError, match="without its name"):
        DIALECT.decode(json.dumps(found).encode())


@pytest.mark.parametrize("call", [{}, {"args": {}}, {"args": None}, {"id": "7"}])
def test_a_call_of_nothing_is_none(call: Any) -> None:
    found = response({"functionCall": call}, {"text": "so"}, reason="STOP")
    answer = Completion.of(decode([sse(found)]))
    assert (answer.text, answer.tool_calls) == ("so", ())


def test_calls_without_ids_get_some() -> None:
    call = {"functionCall": {"name": "f", "args": None}}
    body = {"candidates": [{"content": {"parts": [call, call]}, "finishReason": "STOP"}]}
    answer = Completion.of(DIALECT.decode(json.dumps(body).encode()))
    assert answer.tool_calls == (ToolCall("call_0", "f"), ToolCall("call_1", "f"))


# --- paths and embeddings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "model", "path"),
    [
        (DIALECT, "gemini-3", "/models/gemini-3"),
        (DIALECT, "models/gemini-3", "/models/gemini-3"),
        (DIALECT, "tunedModels/mine", "/tunedModels/mine"),
        (DIALECT, "a?b:c#d", "/models/a%3Fb%3Ac%23d"),
        (VERTEX, "gemini-3", "/publishers/google/models/gemini-3"),
        (VERTEX, "models/gemini-3", "/publishers/google/models/gemini-3"),
        (VERTEX, "text-embedding@001", "/publishers/google/models/text-embedding@001"),
        (VERTEX, "/publishers/other/models/m", "/publishers/other/models/m"),
        (VERTEX, "endpoints/123", "/endpoints/123"),
    ],
)
def test_a_model_is_named_as_its_place_wants_it(
    dialect: GeminiDialect, model: str, path: str
) -> None:
    request = ChatRequest((Message("user", "hello"),))
    assert dialect.ask(model, request, stream=False).path == f"{path}:generateContent"
    streamed = dialect.ask(model, request, stream=True).path
    assert streamed == f"{path}:streamGenerateContent?alt=sse"
    act = "predict" if dialect is VERTEX else "batchEmbedContents"
    assert dialect.ask_embeddings(model, EmbedRequest(("a",))).path == f"{path}:{act}"


def test_a_call_may_have_as_many_texts_as_its_place_takes() -> None:
    assert (DIALECT.texts_max, VERTEX.texts_max) == (100, 1)


def test_the_one_vector_of_embed_content_is_read() -> None:
    found = DIALECT.decode_embeddings(b'{"embedding":{"values":[0.5,0.25]}}')
    assert found.vectors == (Vector.of([0.5, 0.25]),)


def test_vectors_are_asked_for() -> None:
    request = EmbedRequest(
        ("a", "b"), "query", 256, {"gemini": {"autoTruncate": False}, "openai": {"user": "me"}}
    )
    made = json.loads(DIALECT.ask_embeddings("m", request).body)
    assert made == {
        "requests": [
            {
                "model": "models/m",
                "taskType": "RETRIEVAL_QUERY",
                "outputDimensionality": 256,
                "content": {"parts": [{"text": text}]},
                "autoTruncate": False,
            }
            for text in "ab"
        ]
    }
    made = json.loads(VERTEX.ask_embeddings("m", request).body)
    assert made == {
        "instances": [{"content": text, "task_type": "RETRIEVAL_QUERY"} for text in "ab"],
        "parameters": {"outputDimensionality": 256},
        "autoTruncate": False,
    }
    bare = EmbedRequest(("a",))
    assert json.loads(VERTEX.ask_embeddings("m", bare).body) == {"instances": [{"content": "a"}]}
    (asked,) = json.loads(DIALECT.ask_embeddings("m", bare).body)["requests"]
    assert asked == {"model": "models/m", "content": {"parts": [{"text": "a"}]}}


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)), max_size=3))
def test_vectors_come_as_they_were_sent(numbers: list[list[float]]) -> None:
    vectors = tuple(map(Vector.of, numbers))
    body: dict[str, Any] = {"embeddings": [{"values": each} for each in numbers]}
    studio = DIALECT.decode_embeddings(json.dumps(body).encode())
    assert (studio.vectors, studio.usage) == (vectors, None)
    client = vendor(json.dumps(body).encode(), "application/json")
    heard = client.models.embed_content(model="m", contents=["hello"])
    assert tuple(Vector.of(each.values or ()) for each in heard.embeddings or ()) == vectors
    body["usageMetadata"] = {"promptTokenCount": 5}
    assert DIALECT.decode_embeddings(json.dumps(body).encode()).usage == Usage(5)
    counted = [{"values": each, "statistics": {"token_count": 3}} for each in numbers]
    body = {"predictions": [{"embeddings": each} for each in counted]}
    vertex = VERTEX.decode_embeddings(json.dumps(body).encode())
    assert vertex.vectors == vectors
    assert vertex.usage == (Usage(3 * len(numbers)) if numbers else None)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", MalformedStreamError),
        (b'{"embeddings":[{}]}', MalformedStreamError),
        (b'{"embeddings":[{"values":[1e300]}]}', MalformedStreamError),
        (b'{"error":{"status":"UNAVAILABLE","message":"no"}}', OverloadedError),
    ],
)
def test_what_is_no_vectors_is_an_error(body: bytes, kind: type[ModelError]) -> None:
    with pytest.raises(kind):
        DIALECT.decode_embeddings(body)
