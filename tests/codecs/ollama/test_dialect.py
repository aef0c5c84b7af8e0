"""Ollama's dialect: its recorded answers, its own client as an oracle, and its laws."""

from __future__ import annotations

import json
from base64 import b64encode
from functools import partial
from typing import Any, get_args

import httpx  # noqa: ASYNC127 - ollama's own client is made of it
import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Completion
from orchestra.codecs.ollama.dialect import OllamaDialect
from orchestra.errors import (
    AuthenticationError,
    CapabilityError,
    InvalidRequestError,
    MalformedStreamError,
    ModelError,
    ModelNotFoundError,
    OverloadedError,
    ProviderServerError,
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
    ReasoningEffort,
    ReasoningPart,
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

DIALECT = OllamaDialect()
PNG = b"\x89PNG"
WEATHER = Tool("weather", "Tells the weather", {"type": "object", "properties": {}})
SURFACES = ("api/chat", "api/generate")


decode = partial(events_of, DIALECT)


def cases(*kinds: str) -> list[Any]:
    found = recordings(
        lambda each: each.provider == "ollama" and each.surface in SURFACES and each.kind in kinds
    )
    return [pytest.param(each, id=each.cid) for each in found]


def summary(events: list[ModelEvent]) -> dict[str, Any]:
    """What the recordings say of an answer, in the provider's own words."""
    answer = Completion.of(events)
    raw = [event.raw for event in events if isinstance(event, UsageReport)][-1]
    return {
        "text": answer.text,
        "tools": [
            {"name": call.name, "args": json.loads(call.arguments)} for call in answer.tool_calls
        ],
        "finish": answer.stopped.raw,
        "usage": [raw.get("prompt_eval_count"), raw.get("eval_count")],
    }


def expected(recording: Recording) -> dict[str, Any]:
    assert recording.golden is not None
    return {name: recording.golden[name] for name in ("text", "tools", "finish", "usage")}


def vendor(body: bytes) -> ollama.Client:
    """Ollama's own client, to which these bytes are the answer to everything."""
    reply = httpx.Response(200, content=body)
    return ollama.Client(transport=httpx.MockTransport(lambda _: reply))


# --- the laws -----------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
arguments = st.dictionaries(texts, st.integers() | texts, max_size=3)
told_lines = st.lists(
    st.fixed_dictionaries({}, optional={"content": texts, "thinking": texts, "call": arguments}),
    max_size=5,
)


def line(message: dict[str, Any], **more: Any) -> bytes:
    found = {"model": "m", "message": {"role": "assistant", **message}, "done": False, **more}
    return json.dumps(found).encode() + b"\n"


def spoken(told: list[dict[str, Any]]) -> bytes:
    wire = []
    for said in told:
        message = {name: value for name, value in said.items() if name != "call"}
        if "call" in said:
            function = {"name": "weather", "arguments": said["call"]}
            message["tool_calls"] = [{"function": function}]
        wire.append(line(message))
    last = line({"content": ""}, done=True, done_reason="stop", prompt_eval_count=7, eval_count=0)
    return b"".join([*wire, last])


@given(told_lines)
def test_what_is_said_comes_out(told: list[dict[str, Any]]) -> None:
    answer = Completion.of(decode([spoken(told)]))
    assert answer.text == "".join(said.get("content", "") for said in told)
    assert answer.reasoning == "".join(said.get("thinking", "") for said in told)
    calls = [said["call"] for said in told if "call" in said]
    assert [json.loads(call.arguments) for call in answer.tool_calls] == calls
    assert [call.id for call in answer.tool_calls] == [f"call_{at}" for at in range(len(calls))]
    reason = StopReason.TOOL_CALLS if calls else StopReason.END
    assert (answer.stopped.reason, answer.stopped.raw) == (reason, "stop")
    assert (answer.usage, answer.model) == (Usage(7, 0), "m")


@given(told_lines, st.data())
def test_any_split_gives_the_same_events(told: list[dict[str, Any]], data: st.DataObject) -> None:
    wire = spoken(told)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)))))
    split = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert decode(split) == decode([wire])


@given(told_lines, st.data())
def test_a_cut_stream_never_looks_complete(told: list[dict[str, Any]], data: st.DataObject) -> None:
    wire = spoken(told).rstrip()
    cut = data.draw(st.integers(0, len(wire) - 1))
    with pytest.raises(TruncatedStreamError):
        decode([wire[:cut]])
    assert decode([wire]) == decode([wire + b"\n"])


@given(told_lines)
def test_ollama_s_own_client_hears_the_same(told: list[dict[str, Any]]) -> None:
    wire = spoken(told)
    answer = Completion.of(decode([wire]))
    heard = list(vendor(wire).chat(model="m", messages=[], stream=True))
    assert answer.text == "".join(each.message.content or "" for each in heard)
    assert answer.reasoning == "".join(each.message.thinking or "" for each in heard)
    calls = [call for each in heard for call in each.message.tool_calls or ()]
    assert [json.loads(call.arguments) for call in answer.tool_calls] == [
        call.function.arguments for call in calls
    ]


PARTS = [
    b"\n",
    b"{}\n",
    b'{"done":true}\n',
    b'{"done":true,"prompt_eval_count":null,"eval_count":3}\n',
    b'{"message":{"tool_calls":[{"function":{"name":"a","arguments":"\\ud800"}}]}}\n',
    b'{"message":{"tool_calls":[{"function":{"name":"a","arguments":[1]}}]}}\n',
    b'{"error":[]}\n',
    b'{"error":{"message":"no"}}\n',
    b'{"response":"x"}\n',
    b'{"x":' + b"[" * 5_000 + b"\n",
    b'{"embeddings":[[1e300]]}',
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
    body = recording.body.rstrip()
    for cut in [*range(0, len(body) - 1, 97), len(body) - 1]:
        with pytest.raises(TruncatedStreamError):
            decode([body[:cut]])


@needed
@pytest.mark.parametrize("recording", cases("json"))
def test_a_recorded_answer_says_what_it_said(recording: Recording) -> None:
    assert summary(DIALECT.decode(recording.body)) == expected(recording)


@needed
@pytest.mark.parametrize("recording", cases("stream", "json"))
def test_the_client_hears_the_same_of_what_was_recorded(recording: Recording) -> None:
    streamed = recording.kind == "stream"
    events = decode([recording.body]) if streamed else DIALECT.decode(recording.body)
    client = vendor(recording.body)
    text = ""
    if recording.surface == "api/chat":
        for each in (
            client.chat(model="m", messages=[], stream=True)
            if streamed
            else [client.chat(model="m", messages=[])]
        ):
            text += each.message.content or ""
    else:
        for said in (
            client.generate(model="m", stream=True) if streamed else [client.generate(model="m")]
        ):
            text += said.response or ""
    assert Completion.of(events).text == text


# --- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "model is required", InvalidRequestError),
        (400, '"m" does not support tools', CapabilityError),
        (401, "unauthorized", AuthenticationError),
        (404, 'model "m" not found, try pulling it first', ModelNotFoundError),
        (429, "too many requests", RateLimitError),
        (500, "llama runner process has terminated", ProviderServerError),
        (502, "could not reach the cloud", ProviderServerError),
        (503, "server busy, please try again. maximum pending requests exceeded", OverloadedError),
    ],
)
def test_an_error_is_what_its_status_and_message_say(
    status: int, message: str, kind: type[ModelError]
) -> None:
    error = DIALECT.error(status, {}, json.dumps({"error": message}).encode(), 0)
    assert type(error) is kind
    assert (error.message, error.status) == (message, status)


@pytest.mark.parametrize(
    ("wire", "kind", "message"),
    [
        (line({"content": "so"}) + b'{"error":"out of memory"}\n', ProviderServerError, "memory"),
        (b'{"error":"unexpected EOF"}', ProviderServerError, "unexpected EOF"),
        (b"nonsense\n", MalformedStreamError, "nonsense"),
        (b'{"done":0}\n', MalformedStreamError, "done"),
    ],
)
def test_an_error_in_the_stream_ends_it(wire: bytes, kind: type[ModelError], message: str) -> None:
    with pytest.raises(kind, match=message):
        decode([wire])
    with pytest.raises(ModelError):
        DIALECT.decode(wire)


def test_an_answer_that_is_not_done_was_cut() -> None:
    with pytest.raises(TruncatedStreamError):
        DIALECT.decode(line({"content": "so"}))


# --- examples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("stop", StopReason.END),
        ("length", StopReason.LENGTH),
        ("load", StopReason.OTHER),
        (None, StopReason.END),
    ],
)
def test_why_it_stopped_is_told(raw: str | None, reason: StopReason) -> None:
    stopped = Completion.of(DIALECT.decode(line({}, done=True, done_reason=raw))).stopped
    assert (stopped.reason, stopped.raw) == (reason, raw)


@pytest.mark.parametrize(
    ("sent", "text"),
    [({"a": 1}, '{"a": 1}'), ('{"a":1}', '{"a":1}'), (None, "{}"), ({}, "{}")],
)
def test_the_arguments_of_a_call_are_the_text_that_was_sent(sent: object, text: str) -> None:
    calls = [{"id": "id", "function": {"name": "a", "arguments": sent}}]
    answer = Completion.of(DIALECT.decode(line({"tool_calls": calls}, done=True)))
    assert answer.tool_calls == (ToolCall("id", "a", text),)


def test_null_is_as_good_as_left_out() -> None:
    wire = line({"content": "so"}, model=None, done=None) + line({}, model=None, done=True)
    answer = Completion.of(decode([wire]))
    assert (answer.text, answer.model) == ("so", "")
    assert DIALECT.decode_embeddings(b'{"model":null,"embeddings":[[1]]}').model == ""


def test_a_count_that_is_left_out_is_not_known() -> None:
    answer = Completion.of(DIALECT.decode(line({}, done=True, eval_count=3)))
    assert answer.usage == Usage(0, 3, Certainty.PARTIAL)
    assert Completion.of(DIALECT.decode(line({}, done=True))).usage is None
    nothing = line({}, done=True, prompt_eval_count=0, eval_count=0)
    assert Completion.of(DIALECT.decode(nothing)).usage == Usage(0, 0)


def test_an_answer_is_done_with_its_last_line() -> None:
    decoder = DIALECT.decoder()
    decoder.feed(line({"content": "so"}))
    before = decoder.done
    decoder.feed(line({}, done=True))
    assert (before, decoder.done) == (False, True)
    assert decoder.feed(line({"content": "more"})) == []


def test_pretty_json_is_an_answer_too() -> None:
    found = json.loads(line({"content": "so"}, done=True))
    assert Completion.of(DIALECT.decode(json.dumps(found, indent=2).encode())).text == "so"


def test_a_request_says_all_that_it_was_given() -> None:
    schema = {"type": "object"}
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
        tools=(WEATHER,),
        output=JsonOutput(schema),
        extras={"ollama": {"keep_alive": "5m", "options": {"num_ctx": 8192, "seed": 8}}},
    )
    call = DIALECT.ask("llama3", request, stream=False)
    assert call.path == "/chat"
    body = json.loads(call.body)
    assert body == {
        "model": "llama3",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
        ],
        "stream": False,
        "options": {
            "temperature": 0.5,
            "num_predict": 10,
            "stop": ["END"],
            "seed": 8,
            "top_p": 0.9,
            "top_k": 40,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "num_ctx": 8192,
        },
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "Tells the weather",
                    "parameters": WEATHER.parameters,
                },
            }
        ],
        "think": False,
        "format": schema,
        "keep_alive": "5m",
    }


def asked(*messages: Message, **options: Any) -> dict[str, Any]:
    body = json.loads(DIALECT.ask("m", ChatRequest(messages, **options), stream=True).body)
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize("effort", get_args(ReasoningEffort))
def test_a_wish_to_think_is_not_told_as_models_that_cannot_refuse_it(effort: Any) -> None:
    hello = Message("user", "Hello")
    wished = asked(hello, reasoning_effort=effort, effort_if_able=True)
    assert wished.get("think") is (False if effort == "none" else None)
    assert "think" in asked(hello, reasoning_effort=effort)


def turn(role: Any, *parts: Part) -> Message:
    return Message(role, parts)


def test_a_conversation_with_tools_goes_back_as_ollama_sent_it() -> None:
    image = f"data:image/png;base64,{b64encode(PNG).decode()}"
    messages = asked(
        turn("user", TextPart("What is this?"), ImagePart(PNG), ImageUrlPart(image)),
        turn("assistant", ReasoningPart("hm"), ToolCall("1", "weather", '{"at": 1}')),
        turn("tool", ToolResult("1", "weather", "sun"), ToolResult("", "weather", "no", True)),
        turn("assistant", TextPart("It is."), ToolCall("", "weather", "nonsense")),
    )["messages"]
    assert messages == [
        {
            "role": "user",
            "content": "What is this?",
            "images": [b64encode(PNG).decode()] * 2,
        },
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [{"id": "1", "function": {"name": "weather", "arguments": {"at": 1}}}],
        },
        {"role": "tool", "content": "sun", "tool_name": "weather", "tool_call_id": "1"},
        {"role": "tool", "content": "error: no", "tool_name": "weather"},
        {
            "role": "assistant",
            "content": "It is.",
            "tool_calls": [
                {"function": {"name": "weather", "arguments": {"INVALID_JSON": "nonsense"}}}
            ],
        },
    ]
    for each in messages:  # as Ollama's own client types them
        ollama.Message(**{name: value for name, value in each.items() if name != "images"})


def test_json_without_a_schema_is_asked_for_by_its_name() -> None:
    assert asked(Message("user", "x"), output=JsonOutput())["format"] == "json"


def test_no_tool_is_offered_where_none_may_be_called() -> None:
    hello = Message("user", "x")
    assert "tools" not in asked(hello, tools=(WEATHER,), tool_choice="none")
    assert "tools" in asked(hello, tools=(WEATHER,), tool_choice="auto")


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (Message("user", "x"), {"tools": (WEATHER,), "tool_choice": "required"}),
        (Message("user", "x"), {"tools": (WEATHER,), "tool_choice": ForcedTool("weather")}),
        (Message("user", "x"), {"tools": (WEATHER,), "parallel_tool_calls": False}),
        (Message("user", (ImageUrlPart("https://x/y.png"),)), {}),
    ],
)
def test_what_ollama_has_no_words_for_is_refused(message: Message, options: Any) -> None:
    with pytest.raises(CapabilityError):
        asked(message, **options)


def test_embeddings_are_asked_for_and_read() -> None:
    request = EmbedRequest(("a", "b"), "query", 256, {"ollama": {"truncate": False}})
    call = DIALECT.ask_embeddings("m", request)
    assert call.path == "/embed"
    assert json.loads(call.body) == {
        "model": "m",
        "input": ["a", "b"],
        "dimensions": 256,
        "truncate": False,
    }
    body = b'{"model":"m","embeddings":[[0.5,1],[2,3]],"prompt_eval_count":4}'
    found = DIALECT.decode_embeddings(body)
    assert found.vectors == (Vector.of([0.5, 1]), Vector.of([2, 3]))
    assert (found.usage, found.model) == (Usage(input_tokens=4), "m")
    heard = vendor(body).embed(model="m", input="a")
    assert [Vector.of(each) for each in heard.embeddings] == list(found.vectors)
    assert DIALECT.decode_embeddings(b'{"embeddings":[]}').usage is None
    old = DIALECT.decode_embeddings(b'{"embedding":[0.5,1]}')
    assert old.vectors == (Vector.of([0.5, 1]),)
    plain = json.loads(DIALECT.ask_embeddings("m", EmbedRequest(("a",))).body)
    assert plain == {"model": "m", "input": ["a"]}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":"unauthorized"}', ProviderServerError),
        (b"{}", MalformedStreamError),
        (b'{"embeddings":[[1e300]]}', MalformedStreamError),
    ],
)
def test_what_is_no_vector_is_an_error(body: bytes, kind: type[ModelError]) -> None:
    with pytest.raises(kind):
        DIALECT.decode_embeddings(body)
