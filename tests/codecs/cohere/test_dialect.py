"""Cohere's dialect: its recorded answers, its vendor's client as an oracle, and its laws."""

from __future__ import annotations

import json
from base64 import b64encode
from functools import partial
from typing import Any

import cohere
import httpx  # noqa: ASYNC127 - cohere's own client is made of it
import pytest
from cohere.types import AssistantChatMessageV2, ToolChatMessageV2, ToolV2, UserChatMessageV2
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import Answer, Completion
from orchestra.codecs.cohere.dialect import CohereDialect
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
    ProviderServerError,
    QuotaError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    JsonOutput,
    Message,
    ModelEvent,
    Part,
    ReasoningPart,
    Stopped,
    StopReason,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
    UsageReport,
    Vector,
)
from tests.codecs.streamed import events_of, read_any
from tests.recordings import Recording, needed, recordings

# Cohere's own client, as it is made, on Python 3.14.
pytestmark = pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction':DeprecationWarning")
DIALECT = CohereDialect()
PNG = b"\x89PNG"
WEATHER = Tool("weather", "Tells the weather", {"type": "object", "properties": {}})


decode = partial(events_of, DIALECT)


def cases(kind: str, surface: str = "v2chat") -> list[Any]:
    found = recordings(
        lambda each: (each.provider, each.surface, each.kind) == ("cohere", surface, kind)
    )
    return [pytest.param(each, id=each.cid) for each in found]


def summary(events: list[ModelEvent]) -> dict[str, Any]:
    """What the recordings say of an answer, in the provider's own words."""
    answer = Completion.of(events)
    raw = [event.raw for event in events if isinstance(event, UsageReport)][-1]["tokens"]
    return {
        "text": answer.text,
        "tools": [
            {"name": call.name, "args": json.loads(call.arguments)} for call in answer.tool_calls
        ],
        "finish": answer.stopped.raw,
        "usage": [raw["input_tokens"], raw["output_tokens"]],
    }


def expected(recording: Recording) -> dict[str, Any]:
    assert recording.golden is not None
    return {name: recording.golden[name] for name in ("text", "tools", "finish", "usage")}


def vendor(body: bytes, content_type: str, status: int = 200) -> cohere.ClientV2:
    """Cohere's own client, to which these bytes are the answer to everything."""
    reply = httpx.Response(status, headers={"content-type": content_type}, content=body)
    client = httpx.Client(transport=httpx.MockTransport(lambda _: reply))
    return cohere.ClientV2("key", httpx_client=client, max_retries=0)


# --- the laws -----------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
pieces = st.lists(
    st.one_of(
        st.tuples(st.just("text"), texts),
        st.tuples(st.just("thinking"), texts),
        st.tuples(st.just("plan"), texts),
        st.tuples(st.just("call"), st.lists(texts, max_size=3)),
        st.tuples(st.just("citation"), texts),
    ),
    max_size=6,
)


def event(kind: str, named: bool = True, **body: Any) -> bytes:
    name = f"event: {kind}\n" if named else ""
    return f"{name}data: {json.dumps({'type': kind, **body})}\n\n".encode()


def passed_on(arguments: str) -> str:
    """Arguments as they come out: none are an empty object, and all others as they are."""
    return arguments if arguments.strip() else "{}"


def spoken(told: list[tuple[str, Any]], finish: str = "COMPLETE", named: bool = True) -> bytes:
    """A stream as Cohere would send it, without its `[DONE]`."""
    wire = [event("message-start", named, id="answer", delta={"message": {"content": []}})]
    for at, (kind, said) in enumerate(told):
        if kind in ("text", "thinking"):
            content = {"content": {"type": kind, kind: ""}}
            wire.append(event("content-start", named, index=at, delta={"message": content}))
            content = {"content": {kind: said}}
            wire.append(event("content-delta", named, index=at, delta={"message": content}))
            wire.append(event("content-end", named, index=at))
        elif kind == "plan":
            wire.append(event("tool-plan-delta", named, delta={"message": {"tool_plan": said}}))
        elif kind == "call":
            call: Any = {"id": f"id{at}", "type": "function"}
            call["function"] = {"name": "weather", "arguments": ""}
            message = {"tool_calls": call}
            wire.append(event("tool-call-start", named, index=at, delta={"message": message}))
            for part in said:
                message = {"tool_calls": {"function": {"arguments": part}}}
                wire.append(event("tool-call-delta", named, index=at, delta={"message": message}))
            wire.append(event("tool-call-end", named, index=at))
        else:
            citation = {"citations": {"start": 0, "end": 1, "text": said, "sources": []}}
            wire.append(event("citation-start", named, index=at, delta={"message": citation}))
    counts = {"input_tokens": 7, "output_tokens": 9.0}
    usage = {"billed_units": {"input_tokens": 1, "output_tokens": 2}, "tokens": counts}
    delta = {"finish_reason": finish, "usage": usage}
    return b"".join([*wire, event("message-end", named, delta=delta)])


@given(pieces, st.booleans())
def test_what_is_said_comes_out(told: list[tuple[str, Any]], named: bool) -> None:
    answer = Completion.of(decode([spoken(told, named=named)]))
    assert answer.text == "".join(said for kind, said in told if kind == "text")
    thoughts = [said for kind, said in told if kind in ("thinking", "plan")]
    assert answer.reasoning == "".join(thoughts)
    assert answer.tool_calls == tuple(
        ToolCall(f"id{at}", "weather", passed_on("".join(said)))
        for at, (kind, said) in enumerate(told)
        if kind == "call"
    )
    assert (answer.usage, answer.id) == (Usage(7, 9), "answer")


@given(pieces, st.data())
def test_any_split_gives_the_same_events(told: list[tuple[str, Any]], data: st.DataObject) -> None:
    wire = spoken(told) + b"data: [DONE]\n\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)))))
    split = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert decode(split) == decode([wire])


@given(pieces, st.data())
def test_a_cut_stream_never_looks_complete(
    told: list[tuple[str, Any]], data: st.DataObject
) -> None:
    wire = spoken(told)
    whole = wire.rindex(b"}") + 1
    cut = data.draw(st.integers(0, whole - 1))
    with pytest.raises(TruncatedStreamError):
        decode([wire[:cut]])
    assert decode([wire[:whole]])


PARTS = [
    b"event: message-start\n",
    b"event: error\n",
    b"\n\n",
    b'data: {"type":"message-end","delta":{"finish_reason":"COMPLETE"}}\n\n',
    b'data: {"type":"message-end","delta":{"usage":{"tokens":{"input_tokens":1e300}}}}\n\n',
    b'data: {"type":"tool-call-delta","index":4,"delta":{"message":{"tool_calls":{}}}}\n\n',
    b'data: {"type":"content-start","delta":{"message":{"content":[{"text":"x"},{}]}}}\n\n',
    b'data: {"type":"content-delta","delta":{"message":{"content":"x"}}}\n\n',
    b'data: {"message":"no"}\n\n',
    b"data: " + b"[" * 5_000 + b"\n\n",
    b'data: {"type":"message-end","delta":{"error":[{}]}}\n\n',
    b"data: [DONE]\n\n",
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
    assert summary(decode(recording.pieces(size))) == expected(recording)


@needed
@pytest.mark.parametrize("recording", cases("stream"))
def test_a_recorded_stream_is_cut_nowhere_in_silence(recording: Recording) -> None:
    end = recording.body.index(b'"message-end"')
    for cut in range(0, end, 97):
        with pytest.raises(TruncatedStreamError):
            decode([recording.body[:cut]])


@needed
@pytest.mark.parametrize("recording", cases("stream"))
def test_cohere_s_own_client_hears_the_same(recording: Recording) -> None:
    client = vendor(recording.body, recording.content_type)
    heard = client.chat_stream(model="m", messages=[UserChatMessageV2(content="hello")])
    text = "".join(
        each.delta.message.content.text or ""  # type: ignore[union-attr]
        for each in heard
        if each.type == "content-delta"
    )
    assert Completion.of(decode([recording.body])).text == text


@needed
@pytest.mark.parametrize("recording", cases("json"))
def test_a_recorded_answer_says_what_it_said(recording: Recording) -> None:
    assert summary(DIALECT.decode(recording.body)) == expected(recording)
    client = vendor(recording.body, recording.content_type)
    heard = client.chat(model="m", messages=[UserChatMessageV2(content="hello")])
    answer = Completion.of(DIALECT.decode(recording.body))
    assert answer.id == heard.id
    assert answer.reasoning == (heard.message.tool_plan or "")
    assert [call.id for call in answer.tool_calls] == [
        call.id for call in heard.message.tool_calls or ()
    ]


@needed
@pytest.mark.parametrize("recording", cases("json", "embed"))
def test_recorded_vectors_are_those_that_were_sent(recording: Recording) -> None:
    found = DIALECT.decode_embeddings(recording.body)
    assert recording.golden is not None
    assert len(found.vectors) == recording.golden["n"] == len(recording.request["texts"])
    assert {len(vector) for vector in found.vectors} == {recording.golden["dim"]}
    assert list(found.vectors[0])[:3] == pytest.approx(recording.golden["first"], rel=1e-6)
    heard = vendor(recording.body, "application/json").embed(
        model="m", input_type="search_query", texts=["hello"]
    )
    numbers = heard.embeddings.float_
    assert numbers is not None
    assert [Vector.of(each) for each in numbers] == list(found.vectors)
    assert heard.meta is not None
    assert heard.meta.billed_units is not None
    assert found.usage == Usage(input_tokens=int(heard.meta.billed_units.input_tokens or 0))


@needed
@pytest.mark.parametrize("recording", cases("error", "embed"))
def test_a_recorded_error_keeps_what_cohere_said(recording: Recording) -> None:
    error = DIALECT.error(recording.status, recording.headers, recording.body, 0)
    assert isinstance(error, ModelNotFoundError)
    assert error.message == json.loads(recording.body)["message"]
    assert error.status == recording.status


# --- errors -----------------------------------------------------------------------------------------

PER_MONTH = (
    "You are using a Trial key, which is limited to 1000 API calls / month. You can continue to "
    "use the Trial key for free or upgrade to a Production key with higher rate limits"
)
PER_MINUTE = PER_MONTH.replace("1000 API calls / month", "20 API calls / minute")


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "invalid request: tools are not supported", CapabilityError),
        (400, "too many tokens: total number of tokens exceeds the limit", ContextLengthError),
        (401, "invalid api token", AuthenticationError),
        (402, "Please add or update your payment method", QuotaError),
        (422, "could not parse", InvalidRequestError),
        (429, PER_MINUTE, RateLimitError),
        (429, PER_MONTH, QuotaError),
        (498, "invalid token", AuthenticationError),
        (499, "request cancelled", ProviderServerError),
        (500, "internal server error", ProviderServerError),
        (501, "not implemented", ProviderServerError),
        (503, "service unavailable", OverloadedError),
        (504, "gateway timeout", ModelTimeoutError),
    ],
)
def test_an_error_is_what_its_status_and_message_say(
    status: int, message: str, kind: type[ModelError]
) -> None:
    body = json.dumps({"id": "x", "message": message}).encode()
    error = DIALECT.error(status, {"x-debug-trace-id": "trace"}, body, 0)
    assert type(error) is kind
    assert (error.message, error.status, error.request_id) == (message, status, "trace")


@pytest.mark.parametrize(
    ("wire", "kind", "message"),
    [
        (spoken([("text", "so")], "ERROR"), ProviderServerError, "ended the answer with ERROR"),
        (spoken([("text", "so")], "TIMEOUT"), ModelTimeoutError, "ended the answer with TIMEOUT"),
        (
            event("message-end", delta={"finish_reason": "ERROR", "error": "cuda fell over"}),
            ProviderServerError,
            "cuda fell over",
        ),
        (b'data: {"message":"too many tokens"}\n\n', ContextLengthError, "too many tokens"),
        (b'event: error\ndata: {"message":"no"}\n\n', ProviderServerError, "no"),
        (b'data: {"error":{"message":"no"}}\n\n', ProviderServerError, "no"),
        (b"data: nonsense\n\n", MalformedStreamError, "nonsense"),
        (b"data: [DONE]\n\n", TruncatedStreamError, "cut"),
        (event("message-end", delta={}), TruncatedStreamError, "cut"),
    ],
)
def test_an_error_in_the_stream_ends_it(wire: bytes, kind: type[ModelError], message: str) -> None:
    with pytest.raises(kind, match=message):
        decode([wire])


def test_an_answer_is_done_with_its_last_event() -> None:
    decoder = DIALECT.decoder()
    wire = spoken([("text", "so")])
    decoder.feed(wire[:-2])
    before = decoder.done
    decoder.feed(wire[-2:])  # [DONE] may never come
    assert (before, decoder.done) == (False, True)


def test_events_that_are_new_are_passed_over() -> None:
    new = b'event: cohere-news\ndata: {"type":"cohere-news","delta":[1]}\n\n'
    later = event("news", named=False, delta={}, index=None)
    again = event("tool-call-start", index=3, delta={"message": {"tool_calls": {}}}) * 2
    assert Completion.of(decode([new, later, spoken([("text", "so")])])).text == "so"
    answer = Completion.of(decode([again, spoken([])]))
    assert answer.tool_calls == (ToolCall("call_0", "", "{}"),)


def test_what_came_before_an_error_is_not_lost() -> None:
    decoder, answer = DIALECT.decoder(), Answer()
    for each in decoder.feed(spoken([("text", "so far")], "ERROR")):
        answer.add(each)
    assert decoder.done
    assert answer.usage == Usage(7, 9)
    assert decoder.feed(b"more") == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"message":"invalid api key"}', AuthenticationError),
        (b'{"error":"so"}', ProviderServerError),
        (b'{"id":"x"}', MalformedStreamError),
        (b'{"message":{"content":[]},"finish_reason":"TIMEOUT"}', ModelTimeoutError),
        (b'{"message":{"content":[{"type":"te', MalformedStreamError),
    ],
)
def test_what_stands_in_place_of_an_answer_is_an_error(body: bytes, kind: type[ModelError]) -> None:
    with pytest.raises(kind):
        DIALECT.decode(body)


def test_a_whole_answer_without_a_reason_has_stopped_for_one_that_nobody_knows() -> None:
    body = b'{"message":{"content":[{"type":"text","text":"Hi"}]},"finish_reason":null}'
    answer = Completion.of(DIALECT.decode(body))
    assert (answer.text, answer.stopped) == ("Hi", Stopped(StopReason.OTHER, None))


# --- examples ---------------------------------------------------------------------------------------


def test_calls_at_once_are_counted_from_zero_and_told_apart() -> None:
    def call(index: int, name: str | None, arguments: str) -> bytes:
        function = {"arguments": arguments} | ({"name": name} if name else {})
        calls = {"tool_calls": {"function": function}}
        kind = "tool-call-start" if name else "tool-call-delta"
        return event(kind, index=index, delta={"message": calls})

    end = event("message-end", delta={"finish_reason": "TOOL_CALL"})
    wire = [call(1, "a", ""), call(2, "b", '{"y"'), call(1, None, "{}"), call(2, None, ":2}")]
    answer = Completion.of(decode([*wire, end]))
    assert answer.tool_calls == (ToolCall("call_0", "a", "{}"), ToolCall("call_1", "b", '{"y":2}'))
    assert answer.stopped.reason is StopReason.TOOL_CALLS
    assert answer.usage is None


@pytest.mark.parametrize("counted", [{}, {"index": 0}, {"index": None}])
def test_calls_that_are_not_counted_are_told_apart_by_their_beginnings(counted: Any) -> None:
    def call(kind: str, **function: object) -> bytes:
        calls = {"tool_calls": {"function": function}}
        return event(f"tool-call-{kind}", **counted, delta={"message": calls})

    end = event("message-end", delta={"finish_reason": "TOOL_CALL"})
    wire = [
        part
        for name in ("a", "b")
        for part in (call("start", name=name, arguments=""), call("delta", arguments=f'"{name}"'))
    ]
    answer = Completion.of(decode([*wire, end]))
    assert answer.tool_calls == (ToolCall("call_0", "a", '"a"'), ToolCall("call_1", "b", '"b"'))


@pytest.mark.parametrize(
    ("sent", "text"), [({"a": {"b": [1, None]}}, '{"a":{"b":[1,null]}}'), ({}, "{}"), ("{}", "{}")]
)
def test_arguments_may_be_an_object(sent: object, text: str) -> None:
    called = {"id": "1", "type": "function", "function": {"name": "f", "arguments": sent}}
    body = {"message": {"tool_calls": [called]}, "finish_reason": "TOOL_CALL"}
    end = event("message-end", delta={"finish_reason": "TOOL_CALL"})
    begun = event("tool-call-start", index=0, delta={"message": {"tool_calls": called}})
    for events in (DIALECT.decode(json.dumps(body).encode()), decode([begun, end])):
        (call,) = Completion.of(events).tool_calls
        assert (call.name, call.arguments) == ("f", text)


def test_arguments_that_begin_as_an_empty_object_are_those_that_follow() -> None:
    def call(kind: str, **function: object) -> bytes:
        calls = {"tool_calls": {"function": function}}
        return event(f"tool-call-{kind}", index=0, delta={"message": calls})

    end = event("message-end", delta={"finish_reason": "TOOL_CALL"})
    wire = [call("start", name="f", arguments={}), call("delta", arguments='{"a":1}'), end]
    assert Completion.of(decode(wire)).tool_calls == (ToolCall("call_0", "f", '{"a":1}'),)


def test_cached_tokens_are_a_part_of_the_input() -> None:
    tokens = {"input_tokens": 212, "output_tokens": 65}
    body = {"message": {"content": "so"}, "finish_reason": "MAX_TOKENS"}
    usage = {"tokens": tokens, "cached_tokens": 208}
    answer = Completion.of(DIALECT.decode(json.dumps(body | {"usage": usage}).encode()))
    assert answer.usage == Usage(212, 65, cached_input_tokens=208)
    assert (answer.text, answer.stopped.reason) == ("so", StopReason.LENGTH)
    usage = {"billed_units": tokens}
    answer = Completion.of(DIALECT.decode(json.dumps(body | {"usage": usage}).encode()))
    assert answer.usage == Usage(212, 65)
    answer = Completion.of(DIALECT.decode(json.dumps(body | {"usage": {}}).encode()))
    assert answer.usage is None


def test_a_request_says_all_that_it_was_given() -> None:
    request = ChatRequest(
        (Message("system", "Be brief."), Message("user", "Hello")),
        temperature=0.5,
        output_tokens_max=10,
        stop=("END",),
        seed=7,
        top_p=0.9,
        top_k=40,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        reasoning_effort="none",
        output=JsonOutput({"type": "object"}),
        extras={"cohere": {"safety_mode": "OFF", "seed": 8}, "openai": {"user": "me"}},
    )
    call = DIALECT.ask("command-a", request, stream=True)
    assert call.path == "/chat"
    assert json.loads(call.body) == {
        "model": "command-a",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
        ],
        "stream": True,
        "temperature": 0.5,
        "max_tokens": 10,
        "stop_sequences": ["END"],
        "seed": 8,
        "p": 0.9,
        "k": 40,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "thinking": {"type": "disabled"},
        "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
        "safety_mode": "OFF",
    }


def asked(*messages: Message, **options: Any) -> dict[str, Any]:
    body = json.loads(DIALECT.ask("m", ChatRequest(messages, **options), stream=False).body)
    assert isinstance(body, dict)
    return body


def turn(role: Any, *parts: Part) -> Message:
    return Message(role, parts)


def test_a_conversation_with_tools_goes_back_as_cohere_sent_it() -> None:
    messages = asked(
        turn("user", TextPart("What is this?"), ImagePart(PNG), ImageUrlPart("https://x/y.png")),
        turn("assistant", ReasoningPart("I plan"), ToolCall("1", "weather", "{}")),
        turn("tool", ToolResult("1", "weather", "sun"), ToolResult("2", "weather", "no", True)),
        turn("assistant", ReasoningPart("hm"), TextPart("It is sunny.")),
        turn("assistant", TextPart("Yes."), ToolCall("3", "weather", "null")),
        Message("assistant", ""),
    )["messages"]
    image = f"data:image/png;base64,{b64encode(PNG).decode()}"
    function = {"name": "weather", "arguments": "{}"}
    assert messages == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": image}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
            "tool_plan": "I plan",
        },
        {"role": "tool", "tool_call_id": "1", "content": "sun"},
        {"role": "tool", "tool_call_id": "2", "content": '{"error":"no"}'},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "text", "text": "It is sunny."},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "3", "type": "function", "function": function}],
            "content": "Yes.",
        },
        {"role": "assistant", "content": ""},
    ]
    for each in messages:  # as Cohere's own client types them
        kind = {"user": UserChatMessageV2, "assistant": AssistantChatMessageV2}.get(each["role"])
        (kind or ToolChatMessageV2)(**each)


def test_tools_are_offered_and_a_forced_one_is_the_only_one() -> None:
    other = Tool("other", "", {"type": "object"}, strict=True)
    hello = Message("user", "Hello")
    body = asked(hello, tools=(WEATHER, other), tool_choice="required")
    assert body["tool_choice"] == "REQUIRED"
    assert body["strict_tools"] is True
    assert ToolV2(**body["tools"][0]).function is not None
    body = asked(hello, tools=(WEATHER, other), tool_choice=ForcedTool("weather"))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["weather"]
    assert body["tool_choice"] == "REQUIRED"
    assert "strict_tools" not in body
    assert asked(hello, tools=(WEATHER,), tool_choice="none")["tool_choice"] == "NONE"
    assert "tool_choice" not in asked(hello, tools=(WEATHER,), tool_choice="auto")
    assert "tools" not in asked(hello)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (Message("user", "x"), {"tools": (WEATHER,), "parallel_tool_calls": False}),
        (Message("user", "x"), {"tools": (WEATHER,), "tool_choice": ForcedTool("none such")}),
        (Message("user", (ToolCall("1", "weather"),)), {}),
    ],
)
def test_what_cohere_has_no_words_for_is_refused(message: Message, options: Any) -> None:
    with pytest.raises(CapabilityError):
        asked(message, **options)


def test_json_without_a_schema_and_effort_are_asked_for() -> None:
    body = asked(Message("user", "x"), output=JsonOutput(), reasoning_effort="low")
    assert body["response_format"] == {"type": "json_object"}
    assert body["thinking"] == {"type": "enabled", "token_budget": 2048}
    body = asked(Message("user", "x"), reasoning_effort="low", reasoning_tokens_max=99)
    assert body["thinking"] == {"type": "enabled", "token_budget": 99}


def test_embeddings_are_asked_for_with_their_purpose() -> None:
    request = EmbedRequest(("a", "b"), "query", 256, {"cohere": {"truncate": "END"}})
    call = DIALECT.ask_embeddings("embed-v4.0", request)
    assert call.path == "/embed"
    assert json.loads(call.body) == {
        "model": "embed-v4.0",
        "input_type": "search_query",
        "texts": ["a", "b"],
        "embedding_types": ["float"],
        "output_dimension": 256,
        "truncate": "END",
    }
    for purpose, name in [(None, "search_document"), ("clustering", "clustering")]:
        body = json.loads(DIALECT.ask_embeddings("m", EmbedRequest(("a",), purpose)).body)  # type: ignore[arg-type]
        assert body["input_type"] == name
    assert DIALECT.texts_max == 96


@pytest.mark.parametrize("name", ["int8", "uint8", "binary", "ubinary"])
def test_vectors_of_whole_numbers_are_vectors(name: str) -> None:
    for more in ({}, {"float": None}):
        body = json.dumps({"embeddings": {name: [[1, 2]], **more}}).encode()
        assert DIALECT.decode_embeddings(body).vectors == (Vector.of([1, 2]),)


def test_vectors_in_base64_are_the_same_vectors() -> None:
    vector = Vector.of([0.5, -1.25])
    for found in (
        {"base64": [b64encode(vector.data).decode()]},
        {"float": [[0.5, -1.25]]},
        [[0.5, -1.25]],
    ):
        body = json.dumps({"embeddings": found}).encode()
        assert DIALECT.decode_embeddings(body).vectors == (vector,)
        assert DIALECT.decode_embeddings(body).usage is None


@pytest.mark.parametrize(
    "embeddings",
    [{"float": [[1e300]]}, {"base64": ["?"]}, {"base64": ["AAA="]}, {"int8": None}, {}],
)
def test_what_is_no_vector_is_an_error(embeddings: Any) -> None:
    with pytest.raises(MalformedStreamError):
        DIALECT.decode_embeddings(json.dumps({"embeddings": embeddings}).encode())


def test_an_error_in_place_of_vectors_is_told() -> None:
    with pytest.raises(AuthenticationError, match="invalid api key"):
        DIALECT.decode_embeddings(b'{"message":"invalid api key"}')
