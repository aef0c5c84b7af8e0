"""InvokeModel: its recorded answers read once more, simply, and the laws of its decoder."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.errors import (
    MalformedStreamError,
    ModelError,
    OverloadedError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.values import (
    EmbedRequest,
    Json,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
)
from tests.codecs.amazon import CUTS, event, frame, header, pieces, string
from tests.codecs.streamed import events_of, outcome_of
from tests.recordings import Recording, needed, recordings

DIALECT = BedrockInvokeDialect()
METRICS = "amazon-bedrock-invocationMetrics"


def chunk(found: object) -> bytes:
    text = b64encode(json.dumps(found).encode()).decode()
    return event("chunk", json.dumps({"bytes": text, "p": "abc"}).encode())


decode = partial(events_of, DIALECT)


def outcome(parts: Iterable[bytes]) -> tuple[list[ModelEvent], str]:
    return outcome_of(DIALECT.decoder(), parts)


def summary(events: list[ModelEvent]) -> Json:
    answer = Completion.of(events)
    usage = answer.usage
    return {
        "text": answer.text,
        "tools": [(call.name, json.loads(call.arguments)) for call in answer.tool_calls],
        "finish": answer.stopped.raw,
        "usage": usage and (usage.input_tokens, usage.output_tokens),
    }


# --- recorded: the same, read by what each family's documentation shows -------------------------


def read(body: Json) -> tuple[str, list[tuple[str, Json]], str | None]:
    match body:
        case {"type": "message", "content": content, "stop_reason": finish}:
            text = "".join(part.get("text", "") for part in content)
            uses = [part for part in content if part["type"] == "tool_use"]
            return text, [(use["name"], use["input"]) for use in uses], finish
        case {"output": {"message": {"content": content}}, "stopReason": finish}:
            text = "".join(part.get("text", "") for part in content)
            uses = [part["toolUse"] for part in content if "toolUse" in part]
            return text, [(use["name"], use["input"]) for use in uses], finish
        case {"completion": text, "stop_reason": finish}:
            return text, [], finish
        case {"results": [{"outputText": text, "completionReason": finish}]}:
            return text, [], finish
        case {"completions": [{"data": {"text": text}, "finishReason": {"reason": finish}}]}:
            return text, [], finish
        case {"outputs": [{"text": text, "stop_reason": finish}]}:
            return text, [], finish
        case {"generations": [{"text": text, "finish_reason": finish}]}:
            return text, [], finish
        case {"choices": [{"text": text, "finish_reason": finish}]}:
            return text, [], finish
        case {"generation": text, "stop_reason": finish}:
            return text, [], finish
        case {"text": text, "finish_reason": finish}:
            return text, [], finish
    raise AssertionError(body)


def read_stream(body: bytes) -> Json:
    buffer = EventStreamBuffer()
    buffer.add_data(body)
    found: Json = {"text": "", "finish": None, "usage": None}
    for message in buffer:
        piece = json.loads(b64decode(json.loads(message.payload)["bytes"]))
        if "is_finished" in piece and piece.get("index"):  # another answer of Command's
            continue
        match piece:
            case {"contentBlockDelta": {"delta": {"text": text}}}:
                found["text"] += text
            case {"delta": {"text": text}} | {"outputText": text} | {"text": text}:
                found["text"] += text
        match piece:
            case {"messageStop": {"stopReason": finish}}:
                found["finish"] = finish
            case {"delta": {"stop_reason": finish}} | {"completionReason": finish}:
                found["finish"] = finish
            case {"finish_reason": finish}:
                found["finish"] = finish
        if METRICS in piece:
            counts = piece[METRICS]
            found["usage"] = (counts["inputTokenCount"], counts["outputTokenCount"])
    return found


def cases(surface: str, *, embeddings: bool = False) -> list[Any]:
    found = recordings(
        lambda each: (
            each.surface == surface
            and each.kind != "error"
            and (b'"embeddings"' in each.body) is embeddings
        )
    )
    return [pytest.param(each, id=each.cid) for each in found]


@needed
@pytest.mark.parametrize("case", cases("invoke"))
def test_recorded_answers_of_every_family_are_read(case: Recording) -> None:
    found = summary(DIALECT.decode(case.body))
    assert (found["text"], found["tools"], found["finish"]) == read(json.loads(case.body))
    assert found["text"] or found["tools"]
    assert found["finish"]


@needed
@pytest.mark.parametrize("case", cases("invoke-stream"))
def test_recorded_streams_of_every_family_are_read(case: Recording) -> None:
    events = decode([case.body])
    found = summary(events)
    assert found == {**read_stream(case.body), "tools": []}
    assert found["text"]
    assert decode(case.pieces(1)) == decode(case.pieces(7)) == events


@needed
@pytest.mark.parametrize("case", cases("invoke-stream"))
def test_a_recorded_stream_that_is_cut_before_its_last_two_frames_is_an_error(
    case: Recording,
) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(case.body)
    sizes = [message.prelude.total_length for message in buffer]
    for cut in range(0, sum(sizes[:-3]), 97):
        with pytest.raises(TruncatedStreamError):
            decode([case.body[:cut]])


@needed
@pytest.mark.parametrize("case", cases("invoke", embeddings=True))
def test_recorded_embeddings_are_read(case: Recording) -> None:
    rows = json.loads(case.body)["embeddings"]
    found = DIALECT.decode_embeddings(case.body).vectors
    assert len(found) == len(rows)
    for vector, row in zip(found, rows, strict=True):
        assert list(vector) == pytest.approx(row, rel=1e-6)


# --- the families that no recording has ---------------------------------------------------------

WHOLE: list[tuple[Json, str, str | None, StopReason, Usage | None]] = [
    (
        {
            "generation": "Hi",
            "prompt_token_count": 3,
            "generation_token_count": 1,
            "stop_reason": "stop",
        },
        "Hi",
        "stop",
        StopReason.END,
        Usage(3, 1),
    ),
    (
        {
            "choices": [
                {"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1},
        },
        "Hi",
        "stop",
        StopReason.END,
        Usage(3, 1),
    ),
    (
        {
            "choices": [
                {"message": {"content": [{"type": "text", "text": "Hi"}]}, "stop_reason": "length"}
            ]
        },
        "Hi",
        "length",
        StopReason.LENGTH,
        None,
    ),
    (
        {
            "results": [
                {"outputText": "", "tokenCount": 0, "completionReason": "CONTENT_FILTERED"}
            ],
            "inputTextTokenCount": 0,
        },
        "",
        "CONTENT_FILTERED",
        StopReason.CONTENT_FILTER,
        Usage(0, 0),
    ),
    ({"generated_text": "Hi"}, "Hi", None, StopReason.OTHER, None),
    ({"text": "Hi", "finish_reason": "ODD"}, "Hi", "ODD", StopReason.OTHER, None),
]


@pytest.mark.parametrize(("body", "text", "word", "reason", "usage"), WHOLE)
def test_whole_answers_are_known_by_their_keys(
    body: Json, text: str, word: str | None, reason: StopReason, usage: Usage | None
) -> None:
    answer = Completion.of(DIALECT.decode(json.dumps(body).encode()))
    assert (answer.text, answer.stopped, answer.usage) == (text, Stopped(reason, word), usage)


def test_an_answer_in_a_list_is_the_first() -> None:
    assert Completion.of(DIALECT.decode(b'[{"generated_text":"Hi"}]')).text == "Hi"


CALLS = [{"id": "c1", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]


@pytest.mark.parametrize(
    "calls", [CALLS, [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]]
)
def test_the_calls_of_a_choice_are_read(calls: list[Json]) -> None:
    body = {
        "choices": [
            {"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}
        ]
    }
    answer = Completion.of(DIALECT.decode(json.dumps(body).encode()))
    (call,) = answer.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Rome"})
    assert call.id
    assert answer.stopped.reason is StopReason.TOOL_CALLS


END = {METRICS: {"inputTokenCount": 3, "outputTokenCount": 2, "cacheReadInputTokenCount": 4}}
COUNTED = Usage(7, 2, cached_input_tokens=4)
STREAMED: list[tuple[list[Json], str, Usage | None]] = [
    (
        [
            {
                "generation": "Hel",
                "prompt_token_count": 3,
                "generation_token_count": 1,
                "stop_reason": None,
            },
            {
                "generation": "lo",
                "prompt_token_count": None,
                "generation_token_count": 2,
                "stop_reason": "stop",
            },
        ],
        "stop",
        Usage(3, 2),
    ),
    (
        [
            {"generation": "Hel", "prompt_token_count": 3},
            {"generation": "lo", "stop_reason": "length", **END},
        ],
        "length",
        COUNTED,
    ),
    (
        [
            {"outputs": [{"text": "Hel", "stop_reason": None}]},
            {"outputs": [{"text": "lo", "stop_reason": "stop"}], **END},
        ],
        "stop",
        COUNTED,
    ),
    (
        [
            {"type": "completion", "completion": "Hel", "stop_reason": None, "stop": None},
            {
                "type": "completion",
                "completion": "lo",
                "stop_reason": "stop_sequence",
                "stop": "\n\nHuman:",
                **END,
            },
        ],
        "stop_sequence",
        COUNTED,
    ),
    (
        [
            {
                "choices": [
                    {"delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}
                ]
            },
            {"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        ],
        "stop",
        Usage(3, 2),
    ),
    (
        [
            {"choices": [{"message": {"content": "Hel"}, "stop_reason": None}]},
            {"choices": [{"message": {"content": "lo"}, "stop_reason": "stop"}], **END},
        ],
        "stop",
        COUNTED,
    ),
    (
        [
            {"choices": [{"text": "Hel", "stop_reason": None}]},
            {"choices": [{"text": "lo", "stop_reason": "length"}]},
        ],
        "length",
        None,
    ),
    (
        [
            {"event_type": "text-generation", "text": "Hel", "is_finished": False},
            {"event_type": "text-generation", "text": "lo", "is_finished": False},
            {
                "event_type": "stream-end",
                "is_finished": True,
                "finish_reason": "COMPLETE",
                "response": {"text": "Hello"},
                **END,
            },
        ],
        "COMPLETE",
        COUNTED,
    ),
    (
        [
            {"messageStart": {"role": "assistant"}},
            {"contentBlockDelta": {"delta": {"text": "Hello"}, "contentBlockIndex": 0}},
            {"messageStop": {"stopReason": "end_turn"}},
            {"metadata": {"usage": {"inputTokens": 1, "outputTokens": 2}}, **END},
        ],
        "end_turn",
        Usage(1, 2),
    ),
]


@pytest.mark.parametrize(("told", "word", "usage"), STREAMED)
def test_streams_are_known_by_the_keys_of_their_pieces(
    told: list[Json], word: str, usage: Usage | None
) -> None:
    answer = Completion.of(decode([b"".join(map(chunk, told))]))
    assert (answer.text, answer.stopped.raw, answer.usage) == ("Hello", word, usage)


@pytest.mark.parametrize(("told", "word", "usage"), STREAMED)
def test_no_family_looks_complete_when_it_is_cut(
    told: list[Json], word: str, usage: Usage | None
) -> None:
    whole = [chunk(each) for each in told]
    stop = next(at for at, each in enumerate(told) if f'"{word}"' in json.dumps(each))
    before = b"".join(whole[:stop])
    for cut in range(len(before) + len(whole[stop])):
        events, error = outcome([b"".join(whole)[:cut]])
        assert "TruncatedStreamError" in error
        assert not any(isinstance(each, Stopped) for each in events)


def test_nothing_is_counted_before_the_stop() -> None:
    """The counts of a piece are those of the answer so far."""
    decoder = DIALECT.decoder()
    piece = {"generation": "Hel", "prompt_token_count": 3, "generation_token_count": 1}
    assert decoder.feed(chunk(piece)) == [TextDelta("Hel")]


def test_counts_without_a_stop_do_not_end_an_answer() -> None:
    decoder = DIALECT.decoder()
    decoder.feed(chunk({"outputs": [{"text": "Hel", "stop_reason": None}], **END}))
    assert not decoder.done
    decoder.feed(chunk({"outputs": [{"text": "lo", "stop_reason": "stop"}], **END}))
    assert decoder.done


def test_claudes_own_counts_are_more_than_bedrocks() -> None:
    usage = {"input_tokens": 3, "output_tokens": 1, "cache_read_input_tokens": 5}
    told: list[Json] = [
        {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": usage}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop", **END},
    ]
    events = decode(map(chunk, told))
    answer = Completion.of(events)
    assert (answer.text, answer.model) == ("Hi", "claude")
    assert answer.usage == Usage(8, 2, cached_input_tokens=5)


def test_the_counts_of_bedrock_are_raw_as_they_came() -> None:
    events = decode([chunk({"outputs": [{"text": "Hi", "stop_reason": "stop"}], **END})])
    assert [each.raw for each in events if isinstance(each, UsageReport)] == [END[METRICS]]


# --- errors -------------------------------------------------------------------------------------


def test_an_exception_in_the_stream_waits_behind_what_came_before() -> None:
    told = header(":message-type", string("exception"))
    told += header(":exception-type", string("throttlingException"))
    events, error = outcome(
        [chunk({"generation": "Hel"}) + frame(told, b'{"message":"slow down"}')]
    )
    assert Completion.of([*events, Stopped(StopReason.END)]).text == "Hel"
    assert "RateLimitError" in error
    assert "slow down" in error


def test_an_error_of_claudes_inside_of_a_chunk_is_told() -> None:
    told = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(OverloadedError, match="Overloaded"):
        decode([chunk(told)])


def test_command_rs_calls_have_no_function_around_them() -> None:
    call = {"name": "top_song", "parameters": {"sign": "WZPZ"}}
    body = {"text": "I will search.", "tool_calls": [call], "finish_reason": "COMPLETE"}
    answer = Completion.of(DIALECT.decode(json.dumps(body).encode()))
    assert [(each.name, json.loads(each.arguments)) for each in answer.tool_calls] == [
        ("top_song", {"sign": "WZPZ"})
    ]


@pytest.mark.parametrize("pieces", [["I will", " search."], []])
def test_command_r_says_what_it_plans_once(pieces: list[str]) -> None:
    """In pieces, and whole again with the calls; or only with them."""
    told = [{"event_type": "tool-calls-chunk", "text": each} for each in pieces]
    call = {"name": "top_song", "parameters": {"sign": "WZPZ"}}
    calls = {"event_type": "tool-calls-generation", "text": "I will search.", "tool_calls": [call]}
    end = {"event_type": "stream-end", "response": calls, "finish_reason": "COMPLETE"}
    answer = Completion.of(decode([chunk(each) for each in (*told, calls, end)]))
    assert answer.text == "I will search."
    assert [each.name for each in answer.tool_calls] == ["top_song"]


@given(st.lists(st.tuples(st.integers(0, 2), st.text(min_size=1, max_size=3)), max_size=8))
def test_of_several_answers_in_a_stream_the_first_is_read(said: list[tuple[int, str]]) -> None:
    """Command's stand at the top, those of other families in a list of choices."""
    command: list[Json] = [{"index": at, "text": text, "is_finished": False} for at, text in said]
    choices: list[Json] = [{"choices": [{"index": at, "text": text}]} for at, text in said]
    for told in (command, choices):
        answer = Completion.of(
            decode([chunk(each) for each in (*told, {"finish_reason": "length"})])
        )
        assert answer.text == "".join(text for at, text in said if at == 0)


@pytest.mark.parametrize("finish", ["stop", None])
def test_pegasus_says_its_text_as_a_message(finish: str | None) -> None:
    body = json.dumps({"message": "A video", "finishReason": finish}).encode()
    answer = Completion.of(DIALECT.decode(body))
    assert (answer.text, answer.stopped.raw) == ("A video", finish)
    with pytest.raises(ModelError, match="A video"):  # without a finish, it is an error's
        DIALECT.decode(b'{"message":"A video"}')


def test_an_error_inside_of_a_chunk_is_told() -> None:
    with pytest.raises(RateLimitError, match="slow down"):
        decode([chunk({"error": {"type": "rate_limit_error", "message": "slow down"}})])


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":"ThrottlingException"}',
        b'{"error":{"message":"it broke"}}',
        b'{"text":"a","error":{"message":"it broke"}}',
    ],
)
def test_an_error_in_place_of_an_answer_is_told(body: bytes) -> None:
    with pytest.raises(ModelError):
        DIALECT.decode(body)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no", b'{"unknown":1}'])
def test_what_no_family_says_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedStreamError):
        DIALECT.decode(body)


def test_a_field_that_is_null_is_as_one_that_is_missing() -> None:
    """Servers behind Bedrock write all fields of an answer, also an `error` that there is not."""
    fields = ("error", "output", "contentBlockDelta", "contentBlockStart", "messageStop")
    nothing = dict.fromkeys((*fields, "metadata"))
    said = {"generation": "hi", "stop_reason": "stop"}
    assert DIALECT.decode(json.dumps(nothing | said).encode()) == decode([chunk(nothing | said)])
    assert Completion.of(decode([chunk(nothing | said)])).text == "hi"


def test_frames_that_are_no_chunks_say_nothing() -> None:
    with pytest.raises(TruncatedStreamError):
        decode([event("initial-response", b"{}")])


# --- any bytes ----------------------------------------------------------------------------------

KEYS = st.sampled_from(
    (
        "type",
        "text",
        "completion",
        "generation",
        "choices",
        "delta",
        "message",
        "outputs",
        "stop_reason",
        "finishReason",
        "usage",
        "tool_calls",
        "contentBlockDelta",
        "messageStop",
        "metadata",
        "output",
        "content",
        "error",
        METRICS,
    )
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(max_size=4),
        st.sampled_from(("message", "completion", "content_block_delta", "end_turn")),
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.dictionaries(KEYS, VALUES, max_size=4)


@given(BODIES.map(json.dumps).map(str.encode) | st.binary(max_size=40))
def test_any_body_gives_events_with_the_stop_last_or_a_typed_error(body: bytes) -> None:
    try:
        events = DIALECT.decode(body)
    except ModelError:
        return
    assert isinstance(events[-1], Stopped)
    assert sum(isinstance(each, Stopped) for each in events) == 1


@given(
    st.lists(
        BODIES.map(chunk)
        | st.sampled_from([event("chunk", b'{"bytes":7}'), event("chunk", b'{"bytes":"?"}')]),
        max_size=4,
    ),
    CUTS,
)
def test_any_pieces_give_events_or_a_typed_error_and_the_same_wherever_they_are_cut(
    parts: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(parts)
    assert outcome([data]) == outcome(pieces(data, cuts)) == outcome([bytes([b]) for b in data])


# --- embeddings ---------------------------------------------------------------------------------


def test_a_family_that_the_id_does_not_tell_can_be_named() -> None:
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"
    dialect = BedrockInvokeDialect(family="cohere.embed", texts_max=96)
    call = dialect.ask_embeddings(arn, EmbedRequest(("a", "b")))
    assert call.path.endswith("%2Fabc/invoke")
    assert json.loads(call.body)["texts"] == ["a", "b"]


def test_an_http_error_is_told_by_the_word_in_its_header() -> None:
    headers = {"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/"}
    error = DIALECT.error(429, headers, b'{"message":"Too many requests"}', 0)
    assert isinstance(error, RateLimitError)
    assert error.code == "ThrottlingException"
