"""Anthropic's dialect: its laws, its recorded answers, and its vendor's client as an oracle."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Answer, Completion
from orchestra.codecs.anthropic.dialect import AnthropicDialect, MessageEvents
from orchestra.errors import (
    AuthenticationError,
    CapabilityError,
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
    ReasoningDelta,
    ReasoningPart,
    Stopped,
    StopReason,
    TextPart,
    ToolCall,
    ToolCallDelta,
    UsageReport,
)
from tests.codecs.streamed import events_of, read_any
from tests.recordings import Recording, needed, recordings

DIALECT = AnthropicDialect()


decode = partial(events_of, DIALECT)


def cases(*kinds: str) -> list[Any]:
    found = recordings(lambda each: each.surface == "messages" and each.kind in kinds)
    return [pytest.param(each, id=each.cid) for each in found]


def decoded(recording: Recording) -> list[ModelEvent]:
    whole = recording.kind == "json"
    return DIALECT.decode(recording.body) if whole else decode([recording.body])


def summary(events: list[ModelEvent]) -> dict[str, Any]:
    """What the recordings say of an answer, in the provider's own words."""
    answer = Completion.of(events)
    raw = [event.raw for event in events if isinstance(event, UsageReport)][-1]
    return {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "tools": [
            {"name": call.name, "args": json.loads(call.arguments)} for call in answer.tool_calls
        ],
        "finish": answer.stopped.raw,
        "usage": [raw["input_tokens"], raw["output_tokens"]],
        "model": answer.model,
    }


def expected(recording: Recording) -> dict[str, Any]:
    assert recording.golden is not None
    names = ("text", "reasoning", "tools", "finish", "usage", "model")
    golden = {name: recording.golden[name] for name in names}
    return golden | {"reasoning": golden["reasoning"] or ""}


def vendor(body: bytes, content_type: str, status: int = 200) -> anthropic.Anthropic:
    """Anthropic's own client, to which these bytes are the answer to everything."""
    reply = httpx2.Response(status, headers={"content-type": content_type}, content=body)
    client = httpx2.Client(transport=httpx2.MockTransport(lambda _: reply))
    return anthropic.Anthropic(api_key="key", http_client=client, max_retries=0)


ASKED: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hello"}],
}


def heard(recording: Recording) -> list[Any]:
    """The blocks and the reason that Anthropic's own client makes of a recording."""
    client = vendor(recording.body, recording.content_type)
    if recording.kind == "json":
        message = client.beta.messages.create(**ASKED)
    else:
        with client.beta.messages.stream(**ASKED) as stream:
            message = stream.get_final_message()
    blocks = message.content
    return [
        "".join(block.text for block in blocks if block.type == "text"),
        "".join(block.thinking for block in blocks if block.type == "thinking"),
        [(block.id, block.name, block.input) for block in blocks if block.type == "tool_use"],
        [block.signature for block in blocks if block.type == "thinking"],
        message.stop_reason,
    ]


# --- the laws -----------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
fragments = st.lists(texts, max_size=3)
blocks = st.lists(
    st.one_of(
        st.tuples(st.just("text"), fragments),
        st.tuples(st.just("thinking"), fragments),
        st.tuples(st.just("redacted_thinking"), fragments),
        st.tuples(st.just("tool_use"), fragments),
        st.tuples(st.just("server_tool_use"), fragments),
    ),
    max_size=6,
)
EMPTY: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "redacted_thinking": {},
    "tool_use": {"name": "weather", "input": {}},
    "server_tool_use": {"id": "srv", "name": "web_search", "input": {}},
}
DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
    "server_tool_use": ("input_json_delta", "partial_json"),
}
USAGE = {"input_tokens": 7, "cache_read_input_tokens": 20, "output_tokens": 1}


def event(kind: str, **body: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n".encode()


def start(**usage: Any) -> bytes:
    message: dict[str, Any] = {
        "id": "msg",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "usage": usage,
    }
    return event("message_start", message=message)


def block(index: int, kind: str, said: list[str]) -> bytes:
    """A block as Anthropic would send it."""
    begun: dict[str, Any] = {"type": kind, **EMPTY[kind]}
    if kind == "tool_use":
        begun["id"] = f"id{index}"
    if kind == "redacted_thinking":
        begun["data"] = "".join(said)
    wire = [event("content_block_start", index=index, content_block=begun)]
    for each in said if kind in DELTAS else ():
        named, field = DELTAS[kind]
        delta = {"type": named, field: each}
        wire += [event("content_block_delta", index=index, delta=delta), event("ping")]
    if kind == "thinking":
        delta = {"type": "signature_delta", "signature": f"seal{index}"}
        wire.append(event("content_block_delta", index=index, delta=delta))
    return b"".join([*wire, event("content_block_stop", index=index)])


def end(reason: str = "end_turn", **usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": reason}, usage=usage)


def spoken(told: list[tuple[str, list[str]]]) -> bytes:
    """A stream as Anthropic would send it, up to the event that says why it stops."""
    wire = [block(index, kind, said) for index, (kind, said) in enumerate(told)]
    return b"".join([start(**USAGE), event("ping"), *wire, end(output_tokens=9)])


STOP = event("message_stop")


def passed_on(arguments: str) -> str:
    """Arguments as they come out: none are an empty object, and all others as they are."""
    return arguments if arguments.strip() else "{}"


@given(blocks)
def test_what_is_said_comes_out(told: list[tuple[str, list[str]]]) -> None:
    answer = Completion.of(decode([spoken(told) + STOP]))
    assert answer.text == "".join("".join(said) for kind, said in told if kind == "text")
    assert answer.tool_calls == tuple(
        ToolCall(f"id{index}", "weather", passed_on("".join(said)))
        for index, (kind, said) in enumerate(told)
        if kind == "tool_use"
    )
    assert [part for part in answer.parts if isinstance(part, ReasoningPart)] == [
        ReasoningPart("".join(said), f"anthropic:seal{index}")
        if kind == "thinking"
        else ReasoningPart("", "redacted:" + "".join(said))
        for index, (kind, said) in enumerate(told)
        if kind == "thinking" or (kind == "redacted_thinking" and said)
    ]
    assert answer.usage == Usage(27, 9, cached_input_tokens=20)
    assert (answer.id, answer.model) == ("msg", "claude")


@given(blocks, st.data())
def test_any_split_gives_the_same_events(
    told: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    wire = spoken(told) + STOP
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)))))
    split = [wire[at:to] for at, to in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert decode(split) == decode([wire])


@given(blocks, st.data())
def test_a_cut_stream_never_looks_complete(
    told: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    wire = spoken(told)
    whole = wire.rindex(b"}") + 1
    cut = data.draw(st.integers(0, whole - 1))
    with pytest.raises(TruncatedStreamError):
        decode([wire[:cut]])
    assert decode([wire[:whole]]) == decode([wire + STOP])


PARTS = [
    start(**USAGE),
    start(input_tokens="x", output_tokens=-1, cache_read_input_tokens=True),
    block(0, "tool_use", ["{}"]),
    block(2**40, "text", ["x"]),
    end("new", output_tokens=10**30, output_tokens_details=5),
    event("content_block_delta", index=-1, delta={"type": "input_json_delta", "partial_json": "["}),
    event("content_block_start", content_block={"type": "tool_use", "input": [1]}),
    event("content_block_stop"),
    event("new_kind", delta=5, usage=[], message="x"),
    event("message_start"),
    event("error", error="no"),
    b"data: " + b"[" * 5_000 + b"\n\n",
    b'data: {"x":' + b"[" * 5_000 + b"\n\n",
    b'data: {"type":"content_block_delta","delta":{"text":"\xff"}}\n\n',
    STOP,
]


@given(st.lists(st.one_of(st.sampled_from(PARTS), st.binary(max_size=20)), max_size=6))
def test_any_bytes_give_events_or_a_typed_error(parts: list[bytes]) -> None:
    read_any(DIALECT, parts)


# --- what was recorded ----------------------------------------------------------------------------


def joined(recording: Recording) -> bool:
    """Whether these are two messages one behind the other, which no server sends.

    The vendor's client lays the second over the first; for us the first is the answer.
    """
    return recording.body.count(b"event: message_start") > 1


@needed
@pytest.mark.parametrize("recording", cases("stream"))
@pytest.mark.parametrize("size", [1, 7, 10**9])
def test_a_recorded_stream_says_what_it_said(recording: Recording, size: int) -> None:
    said, golden = summary(decode(recording.pieces(size))), expected(recording)
    if joined(recording):
        assert said["tools"] == golden["tools"]
    else:
        assert said == golden


def test_nothing_behind_the_end_of_a_message_belongs_to_it() -> None:
    wire = spoken([("text", ["all"])]) + STOP
    assert decode([wire + wire]) == decode([wire])


@needed
@pytest.mark.parametrize("recording", cases("json"))
def test_a_recorded_answer_says_what_it_said(recording: Recording) -> None:
    assert summary(DIALECT.decode(recording.body)) == expected(recording)


@needed
@pytest.mark.parametrize("recording", cases("stream"))
def test_a_recorded_stream_is_cut_nowhere_in_silence(recording: Recording) -> None:
    last = recording.body.index(b'"type":"message_delta"')
    for cut in [*range(0, last, 97), last]:
        with pytest.raises(TruncatedStreamError):
            decode([recording.body[:cut]])


@needed
@pytest.mark.parametrize("recording", cases("stream", "json"))
def test_anthropic_s_own_client_hears_the_same(recording: Recording) -> None:
    if joined(recording):
        return
    answer = Completion.of(decoded(recording))
    text, thoughts, calls, seals, reason = heard(recording)
    assert answer.stopped.raw == reason
    assert answer.reasoning == thoughts
    assert answer.text == text
    assert [(call.id, call.name, json.loads(call.arguments)) for call in answer.tool_calls] == calls
    assert [
        part.signature.removeprefix("anthropic:")
        for part in answer.parts
        if isinstance(part, ReasoningPart)
    ] == seals


@needed
@pytest.mark.parametrize("recording", cases("error"))
def test_a_recorded_error_keeps_what_anthropic_said(recording: Recording) -> None:
    error = DIALECT.error(recording.status, recording.headers, recording.body, 0)
    body = json.loads(recording.body)
    lacks = "does not support" in error.message  # an effort that another model has
    assert type(error) is (CapabilityError if lacks else InvalidRequestError)
    assert (error.message, error.code) == (body["error"]["message"], "invalid_request_error")
    assert error.status == recording.status
    assert error.request_id == body.get("request_id", recording.headers.get("request-id", ""))


# --- errors -----------------------------------------------------------------------------------------

KINDS: list[tuple[int, str, str, type[ModelError]]] = [
    (400, "invalid_request_error", "messages: field required", InvalidRequestError),
    (400, "invalid_request_error", "prompt is too long: 9 > 8", ContextLengthError),
    (400, "invalid_request_error", "Your credit balance is too low", QuotaError),
    (401, "authentication_error", "invalid x-api-key", AuthenticationError),
    (402, "billing_error", "payment needed", QuotaError),
    (403, "permission_error", "not yours", PermissionDeniedError),
    (404, "not_found_error", "model: claude-9", ModelNotFoundError),
    (413, "request_too_large", "over 32 MB", ContextLengthError),
    (429, "rate_limit_error", "too many", RateLimitError),
    (500, "api_error", "Internal server error", ProviderServerError),
    (504, "timeout_error", "too slow", ModelTimeoutError),
    (529, "overloaded_error", "Overloaded", OverloadedError),
]


@pytest.mark.parametrize(("status", "word", "message", "kind"), KINDS)
def test_an_error_means_the_same_with_a_status_and_in_a_stream(
    status: int, word: str, message: str, kind: type[ModelError]
) -> None:
    told = {"error": {"type": word, "message": message}, "request_id": "req"}
    headers = {"retry-after": "7"}
    answered = DIALECT.error(status, headers, json.dumps({"type": "error", **told}).encode(), 0)
    assert type(answered) is kind
    assert (answered.message, answered.code) == (message, word)
    assert (answered.status, answered.request_id) == (status, "req")
    assert answered.retry_after_s == (7 if answered.retryable else None)
    with pytest.raises(kind, match=message) as streamed:
        decode([start(**USAGE), block(0, "text", ["so far"]), event("error", **told)])
    assert (streamed.value.code, streamed.value.status) == (word, None)
    with pytest.raises(kind):
        DIALECT.decode(json.dumps({"type": "error", **told}).encode())


def test_a_spend_limit_is_no_matter_of_waiting() -> None:
    details = {"error_code": "enforced_spend_limit_reached"}
    error = {"type": "rate_limit_error", "message": "limit", "details": details}
    body = json.dumps({"type": "error", "error": error}).encode()
    assert isinstance(DIALECT.error(429, {}, body, 0), QuotaError)


def test_a_server_that_stays_on_the_line_holds_nobody_up() -> None:
    decoder = DIALECT.decoder()
    decoder.feed(spoken([("text", ["all"])]))
    assert not decoder.done
    decoder.feed(STOP)
    assert decoder.done


def test_what_came_before_an_error_is_not_lost() -> None:
    decoder, answer = DIALECT.decoder(), Answer()
    wire = start(**USAGE) + block(0, "text", ["so far"])
    for each in decoder.feed(wire + event("error", error={"type": "overloaded_error"})):
        answer.add(each)
    assert decoder.done
    assert answer.usage == Usage(27, 1, Certainty.PARTIAL, cached_input_tokens=20)
    assert decoder.feed(b"more") == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error"}}', OverloadedError),
        (b'{"type":"error"}', ProviderServerError),
        (b'{"stop_reason":"end_turn"}', MalformedStreamError),
        (b'{"content":[{"type":"te', MalformedStreamError),
        (b"<html>", MalformedStreamError),
        (b"[" * 100_000, MalformedStreamError),
    ],
)
def test_what_stands_in_place_of_an_answer_is_an_error(body: bytes, kind: type[ModelError]) -> None:
    with pytest.raises(kind):
        DIALECT.decode(body)


@pytest.mark.parametrize("more", ["", ',"stop_reason":null'])
def test_a_whole_message_without_a_reason_has_stopped_for_one_that_nobody_knows(more: str) -> None:
    answer = Completion.of(
        DIALECT.decode(b'{"content":[{"type":"text","text":"Hi"}]%b}' % more.encode())
    )
    assert (answer.text, answer.stopped) == ("Hi", Stopped(StopReason.OTHER, None))


ODD = {"type": "odd", "text": {"a": 1}, "name": 5, "id": 3, "data": {"x": 1}, "thinking": [1]}


def test_what_is_not_known_may_have_any_shape() -> None:
    """Of blocks and deltas, only what they are called is read; and of why it stopped, no text."""
    text = {"type": "text_delta", "text": "Hi"}
    wire = (
        event("content_block_start", index=0, content_block=ODD)
        + event("content_block_delta", index=0, delta=ODD | {"type": "odd_delta"})
        + event("content_block_delta", index=0, delta=text | {"text": "a result, say"})
        + event("content_block_stop", index=0)
        + event("content_block_delta", index=0, delta=text)  # some servers count all as 0
        + event("message_delta", delta={"stop_reason": "end_turn", "stop_details": "so"})
    )
    body = {"content": [ODD, {"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}
    whole = json.dumps(body | {"stop_details": "so"}).encode()
    for events in (decode([wire]), DIALECT.decode(whole)):
        answer = Completion.of(events)
        assert (answer.text, answer.refusal, answer.tool_calls) == ("Hi", "", ())


NEW = {"type": "new_delta", "text": "NO", "partial_json": "NO", "thinking": "NO", "signature": "NO"}


def test_of_a_delta_of_a_new_kind_nothing_is_read() -> None:
    """Whatever its members are called."""

    def wire(*new: bytes) -> list[bytes]:
        said = {"type": "text_delta", "text": "Hi"}
        called = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
        return [
            event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            event("content_block_delta", index=0, delta=said),
            *new,
            event("content_block_start", index=1, content_block=called),
            *new,
            end("tool_use"),
        ]

    new = [event("content_block_delta", index=index, delta=NEW) for index in (0, 1)]
    assert decode(wire(*new)) == decode(wire())


@pytest.mark.parametrize("nothing", [{}, {"type": None}])
def test_an_event_that_does_not_say_its_kind_is_of_the_kind_of_its_name(nothing: Any) -> None:
    def bare(kind: str, **body: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps(nothing | body)}\n\n".encode()

    wire = [
        bare("message_start", message=nothing | {"id": "m", "content": []}),
        bare("content_block_start", index=None, content_block=nothing | {"text": "H"}),
        bare("content_block_delta", index=None, delta=nothing | {"text": "i"}),
        bare("content_block_stop", index=None),
        bare("message_delta", delta=nothing | {"stop_reason": "end_turn"}),
        bare("message_stop"),
    ]
    assert Completion.of(decode(wire)).text == "Hi"
    with pytest.raises(OverloadedError):
        decode([*wire[:3], bare("error", error={"type": "overloaded_error", "message": "no"})])
    with pytest.raises(ModelError, match="no room"):
        decode([*wire[:3], bare("error", message="no room")])
    body = nothing | {"content": [nothing | {"text": "Hi"}], "stop_reason": "end_turn"}
    assert Completion.of(DIALECT.decode(json.dumps(body).encode())).text == "Hi"


def test_null_in_what_a_tool_is_called_with_stays_null() -> None:
    called = {"type": "tool_use", "id": "1", "name": "f", "input": {"type": None, "index": None}}
    body = {"type": None, "content": [called], "stop_reason": "tool_use"}
    (call,) = Completion.of(DIALECT.decode(json.dumps(body).encode())).tool_calls
    assert json.loads(call.arguments) == called["input"]


@pytest.mark.parametrize(
    "block", [{"type": "text", "text": {"a": 1}}, {"text": {"a": 1}}, {"type": 5, "text": "a"}]
)
def test_a_text_that_is_none_is_malformed(block: Any) -> None:
    whole = json.dumps({"content": [block], "stop_reason": "end_turn"}).encode()
    with pytest.raises(MalformedStreamError):
        DIALECT.decode(whole)
    with pytest.raises(MalformedStreamError):
        decode([event("content_block_start", index=0, content_block=block)])


@pytest.mark.parametrize(
    "wire",
    [
        b"data: nonsense\n\n",
        b'data: {"delta":5}\n\n',
        b'data: {"type":"content_block_delta","delta":{"text":5}}\n\n',
    ],
)
def test_a_broken_event_is_an_error(wire: bytes) -> None:
    with pytest.raises(MalformedStreamError):
        decode([start(**USAGE), wire, end()])


# --- examples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", StopReason.END),
        ("max_tokens", StopReason.LENGTH),
        ("model_context_window_exceeded", StopReason.LENGTH),
        ("stop_sequence", StopReason.STOP_SEQUENCE),
        ("tool_use", StopReason.TOOL_CALLS),
        ("pause_turn", StopReason.PAUSED),
        ("refusal", StopReason.CONTENT_FILTER),
        ("something_new", StopReason.OTHER),
    ],
)
def test_a_reason_to_stop_is_told_in_our_words_and_in_theirs(raw: str, reason: StopReason) -> None:
    assert decode([start(), end(raw)])[-1] == Stopped(reason, raw)


def test_an_event_of_a_new_kind_may_have_any_shape() -> None:
    wire = event("new_kind", delta=5, usage=[], message="x", index="one")
    assert decode([start(), wire, end()]) == decode([start(), end()])


def test_a_refusal_says_why() -> None:
    delta = {"stop_reason": "refusal", "stop_details": {"explanation": "not this"}}
    wire = start(**USAGE) + event("message_delta", delta=delta, usage={"output_tokens": 5})
    answer = Completion.of(decode([wire]))
    assert (answer.refusal, answer.text) == ("not this", "")


def test_usage_is_a_running_total_and_keeps_what_came_only_once() -> None:
    wire = start(input_tokens=5, cache_creation_input_tokens=3, output_tokens=1)
    details = {"thinking_tokens": 4}
    wire += end(output_tokens=9, input_tokens=None, output_tokens_details=details)
    first, last = (each for each in decode([wire]) if isinstance(each, UsageReport))
    assert first.usage == Usage(8, 1, Certainty.PARTIAL, 0, 3)
    assert last.usage == Usage(8, 9, Certainty.EXACT, 0, 3, 4)
    assert last.raw == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 3,
        "output_tokens": 9,
        "output_tokens_details": details,
    }


def test_where_nothing_is_counted_nothing_is_reported() -> None:
    assert Completion.of(decode([start(), end()])).usage is None
    body = b'{"content":[],"stop_reason":"end_turn"}'
    assert DIALECT.decode(body) == [Began("", ""), Stopped(StopReason.END, "end_turn")]


def test_a_message_delta_without_a_reason_does_not_stop() -> None:
    wire = start(**USAGE) + event("message_delta", delta={"stop_reason": None}, usage={})
    with pytest.raises(TruncatedStreamError):
        decode([wire])


def test_an_empty_reason_stops_only_where_the_stream_says_that_it_ends() -> None:
    """Or the beginning of an answer through a gateway would look like a whole one."""
    unsaid = event("message_delta", delta={"stop_reason": ""}, usage={"output_tokens": 3})
    with pytest.raises(TruncatedStreamError):
        decode([start(**USAGE), unsaid])
    for wire, reason in ((unsaid + STOP, ""), (unsaid + end() + STOP, "end_turn")):
        events = decode([start(**USAGE), wire])
        assert [each.raw for each in events if isinstance(each, Stopped)] == [reason]


def test_an_answer_stops_once_even_if_a_gateway_says_so_twice() -> None:
    twice = end(output_tokens=3) + end("max_tokens", output_tokens=4) + STOP
    events = decode([start(**USAGE), twice])
    stops = [each for each in events if isinstance(each, Stopped)]
    assert stops == [Stopped(StopReason.END, "end_turn")]
    usage = Completion.of(events).usage
    assert usage is not None
    assert usage.output_tokens == 4


@pytest.mark.parametrize("closed", [True, False])
def test_arguments_may_come_whole_at_the_beginning_of_a_block(closed: bool) -> None:
    begun = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    wire = event("content_block_start", index=1, content_block=begun)
    wire += event("content_block_stop", index=1) if closed else b""
    answer = Completion.of(decode([start(), wire, end("tool_use")]))
    assert [json.loads(call.arguments) for call in answer.tool_calls] == [{"x": 1}]
    delta = {"type": "input_json_delta", "partial_json": '{"y":2}'}
    wire = event("content_block_start", index=1, content_block=begun)
    wire += event("content_block_delta", index=1, delta=delta)
    answer = Completion.of(decode([start(), wire, end("tool_use")]))
    assert answer.tool_calls == (ToolCall("a", "f", '{"y":2}'),)


@pytest.mark.parametrize("lost", ["start", "order"])
def test_arguments_outside_the_block_of_a_call_are_malformed(lost: str) -> None:
    """Or the call would be made without them."""
    begun = event("content_block_start", index=1, content_block={"type": "tool_use", "name": "f"})
    delta = {"type": "input_json_delta", "partial_json": '{"y":2}'}
    piece = event("content_block_delta", index=1, delta=delta)
    stop = event("content_block_stop", index=1)
    wire = piece + stop if lost == "start" else begun + stop + piece
    with pytest.raises(MalformedStreamError, match="came in block 1"):
        decode([start(), wire, end("tool_use")])


def test_text_and_thoughts_may_come_with_the_beginning_of_a_block() -> None:
    wire = b"".join(
        event("content_block_start", index=index, content_block=begun)
        for index, begun in enumerate(
            [
                {"type": "thinking", "thinking": "hm"},
                {"type": "text", "text": "so"},
                {"type": "tool_use"},
            ]
        )
    )
    events = decode([start(), wire, event("content_block_delta"), end()])
    assert ReasoningDelta("hm") in events
    assert ToolCallDelta(0, "call_0", "") in events
    assert Completion.of(events).text == "so"


WHOLE_TURN = [
    {"type": "code_execution_tool_result", "tool_use_id": "srv", "content": {"stdout": "7"}},
    {"type": "text", "text": "so "},
    {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
]


def begun_with(blocks: list[Any], reason: str | None) -> bytes:
    message = {"content": blocks, "stop_reason": reason, "usage": USAGE}
    return event("message_start", message=message)


def test_a_turn_may_come_whole_in_the_beginning_of_its_stream() -> None:
    wire = begun_with(WHOLE_TURN, "tool_use") + event("message_stop")
    events = decode([wire])
    answer = Completion.of(events)
    assert (answer.text, answer.tool_calls) == ("so ", (ToolCall("a", "f", '{"x":1}'),))
    assert events[-2:] == [
        UsageReport(Usage(27, 1, cached_input_tokens=20), USAGE),
        Stopped(StopReason.TOOL_CALLS, "tool_use"),
    ]


def test_a_beginning_that_a_gateway_sends_twice_counts_once() -> None:
    message = {"id": "msg_7", "content": WHOLE_TURN, "usage": USAGE}
    begun = event("message_start", message=message)
    again = event("message_start", message=message | {"usage": USAGE | {"input_tokens": 99}})
    rest = end("tool_use") + event("message_stop")
    assert decode([begun, again, rest]) == decode([begun, rest])


def test_a_reason_at_the_beginning_of_a_stream_does_not_end_it() -> None:
    begun = begun_with(WHOLE_TURN, "tool_use")
    with pytest.raises(TruncatedStreamError):
        decode([begun])
    more = event("content_block_start", index=3, content_block={"type": "text", "text": "far"})
    answer = Completion.of(decode([begun, more, end("end_turn")]))
    assert (answer.text, answer.stopped.raw) == ("so far", "end_turn")
    whole = [begun, end("end_turn"), event("message_stop")]
    stops = [each for each in decode(whole) if isinstance(each, Stopped)]
    assert [each.raw for each in stops] == ["end_turn"]


def test_blocks_behind_a_beginning_that_had_some_are_counted_as_they_like() -> None:
    begun = begun_with(WHOLE_TURN, None)
    call = {"type": "tool_use", "id": "b", "name": "g"}
    more = event("content_block_start", index=2, content_block=call)
    delta = {"type": "input_json_delta", "partial_json": '{"y":2}'}
    more += event("content_block_delta", index=2, delta=delta)
    answer = Completion.of(decode([begun, more, end("tool_use")]))
    assert answer.tool_calls == (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y":2}'))


def test_a_whole_message_has_all_its_blocks() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "seal"},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "thinking"},
        {"type": "redacted_thinking"},
        {"type": "text", "text": "so"},
        {"type": "text", "text": ""},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": [1]}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}},
    ]
    message = {"id": "m", "model": "c", "content": content, "stop_reason": "tool_use"}
    answer = Completion.of(DIALECT.decode(json.dumps(message | {"usage": USAGE}).encode()))
    assert answer.parts == (
        ReasoningPart("hm", "anthropic:seal"),
        ReasoningPart("", "redacted:secret"),
        TextPart("so"),
        ToolCall("a", "f", '{"x":[1]}'),
        ToolCall("b", "g", "{}"),
    )
    assert answer.usage == Usage(27, 1, cached_input_tokens=20)


def test_events_need_no_framing() -> None:
    """Bedrock has the same events in frames of its own."""
    message = MessageEvents()
    assert message.take(b'{"type":"ping"}') == []
    assert not message.stopped
    message.take(b'{"type":"message_delta","delta":{"stop_reason":"end_turn"}}')
    assert message.stopped


def test_a_call_names_the_version_and_the_place() -> None:
    call = DIALECT.ask("claude-sonnet-5", ChatRequest((Message("user", "hi"),)), stream=True)
    assert call.path == "/messages"
    assert ("anthropic-version", "2023-06-01") in call.headers
    assert json.loads(call.body)["stream"] is True
    told = AnthropicDialect(output_tokens=5).ask("m", ChatRequest(()), stream=False)
    assert json.loads(told.body)["max_tokens"] == 5


def test_there_are_no_embeddings() -> None:
    with pytest.raises(CapabilityError, match="no embeddings"):
        DIALECT.ask_embeddings("claude", EmbedRequest(("a", "b")))
    with pytest.raises(MalformedStreamError, match="no embeddings"):
        DIALECT.decode_embeddings(b"{}")
    assert DIALECT.texts_max == 1
