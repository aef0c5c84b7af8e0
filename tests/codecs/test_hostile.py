"""Streams of providers that are broken on purpose: typed errors, and bounds on what is kept."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.answers import Completion
from orchestra.codecs.anthropic.blocks import STRANGE_MAX
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.faults import read_error
from orchestra.codecs.framing.frames import FRAME_BYTES_MAX
from orchestra.codecs.gemini.dialect import RESPONSES_MAX, GeminiDialect
from orchestra.codecs.ollama.dialect import OllamaDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.usage_counts import COUNTS_MAX
from orchestra.errors import (
    MalformedStreamError,
    ModelError,
    ProviderServerError,
    TruncatedStreamError,
)
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.values import Json, ModelEvent, ToolCallDelta
from tests.codecs.amazon import event as amazon

Frame = Callable[[str, bytes], bytes]
MEGABYTE = "x" * 1024 * 1024


def sse(name: str, payload: bytes) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + payload + b"\n\n"


def line(name: str, payload: bytes) -> bytes:
    del name
    return payload + b"\n"


def chunk(name: str, payload: bytes) -> bytes:
    del name
    return amazon("chunk", json.dumps({"bytes": b64encode(payload).decode()}).encode())


DIALECTS: dict[str, tuple[Dialect, Frame]] = {
    "openai": (OpenAiDialect(), sse),
    "anthropic": (AnthropicDialect(), sse),
    "gemini": (GeminiDialect(), sse),
    "converse": (BedrockDialect(), amazon),
    "invoke": (BedrockInvokeDialect(), chunk),
    "cohere": (CohereDialect(), sse),
    "ollama": (OllamaDialect(), line),
}
CALL = {"index": 0, "id": "i", "function": {"name": "n", "arguments": "{}"}}
PIECE = {"jsonPath": "$.a.b[0]", "stringValue": "v"}
COUNTS = {"prompt_tokens": 1, "completion_tokens": 2}
COHERE_END = {"finish_reason": "ERROR", "error": "x", "usage": {"tokens": {"input_tokens": 1}}}
DETAILS = [{"reason": "r", "retryDelay": "34s", "violations": [{"quotaId": "PerDay"}]}]
GEMINI_CALL = {"name": "f", "args": {"a": {}}, "partialArgs": [PIECE], "willContinue": True}
GEMINI_PART = {"text": "x", "thought": True, "thoughtSignature": "s"}
EVENTS: list[tuple[str, str, Json]] = [
    ("openai", "", {"choices": [{"delta": {"content": "x", "tool_calls": [CALL]}, "index": 0}]}),
    ("openai", "", {"choices": [], "usage": COUNTS, "error": {"message": "m", "code": 1}}),
    (
        "anthropic",
        "message_start",
        {
            "message": {
                "id": "m",
                "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}}],
                "usage": {"input_tokens": 1, "output_tokens_details": {"thinking_tokens": 1}},
            }
        },
    ),
    (
        "anthropic",
        "content_block_delta",
        {"index": 0, "delta": {"type": "thinking_delta", "thinking": "h", "signature": "s"}},
    ),
    (
        "anthropic",
        "message_delta",
        {"delta": {"stop_reason": "x", "stop_details": {}}, "usage": {"output_tokens": 3}},
    ),
    ("gemini", "", {"error": {"code": "429", "status": "X", "message": "m", "details": DETAILS}}),
    (
        "gemini",
        "",
        {
            "candidates": [
                {
                    "content": {"parts": [GEMINI_PART, {"functionCall": GEMINI_CALL}]},
                    "finishReason": "STOP",
                }
            ],
            "usageMetadata": {"promptTokenCount": 1},
            "responseId": "r",
        },
    ),
    ("converse", "contentBlockDelta", {"delta": {"text": "x", "toolUse": {"input": "{}"}}}),
    ("converse", "metadata", {"usage": {"inputTokens": 1, "outputTokens": 2}}),
    ("invoke", "", {"content": [{"text": "x"}], "tool_calls": [CALL], "usage": COUNTS}),
    ("invoke", "", {"contentBlockDelta": {"delta": {"text": "x"}}, "delta": {"text": "y"}}),
    ("cohere", "tool-call-start", {"index": 0, "delta": {"message": {"tool_calls": CALL}}}),
    ("cohere", "message-end", {"delta": COHERE_END}),
    ("ollama", "", {"message": {"content": "x", "tool_calls": [CALL]}}),
    ("ollama", "", {"done": True, "done_reason": "stop", "eval_count": 2, "total_duration": 3}),
]
NUMBERS = ("-1", "1.5", "NaN", "-Infinity", "1e999", "9" * 30, "9" * 5_000)
TEXTS = ('""', r'"\ud800"', f'"{"9" * 5_000}"', '"²"', r'"\u2028\r\n\u0000\u001b[2J"')
BOXES = ("null", "true", "[]", "{}", "[1]", '{"a":NaN}', '{"type":[]}')


def nested(begin: str, end: str) -> st.SearchStrategy[str]:
    """Boxes in boxes, up to where a reader of JSON gives up, and further."""
    return st.integers(1, 1_200).map(lambda depth: begin * depth + "{}" + end * depth)


hostile = st.one_of(
    st.sampled_from((*NUMBERS, *TEXTS, *BOXES)),
    nested("[", "]"),
    nested('{"a":', "}"),
    nested('{"content":[', "]}"),
    nested('{"delta":', "}"),
    nested('{"error":', "}"),
)


def places(value: object, at: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    yield at
    inner: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, each in inner:
        yield from places(each, (*at, key))


def written(value: object, place: tuple[object, ...], there: str) -> str:
    """The value as JSON, with something else in one place."""
    if not place:
        return there
    first, *rest = place
    if isinstance(value, dict):
        parts = value.items() if first in value else [*value.items(), (first, None)]
        pairs = (
            f"{json.dumps(key)}:{written(each, tuple(rest), there) if key == first else json.dumps(each)}"
            for key, each in parts
        )
        return "{" + ",".join(pairs) + "}"
    assert isinstance(value, list), value
    items = (
        written(each, tuple(rest), there) if at == first else json.dumps(each)
        for at, each in enumerate(value)
    )
    return "[" + ",".join(items) + "]"


OPTIONS = {"model": "m", "family": "anthropic.claude"}
MADE = {row.name: row.dialect(OPTIONS) for row in PROVIDERS.values() if row.dialect is not None}


@pytest.mark.parametrize("provider", MADE)
def test_the_dialect_of_every_provider_is_tested_here(provider: str) -> None:
    dialect = MADE[provider]
    found = [name for name, (each, _) in DIALECTS.items() if isinstance(dialect, type(each))]
    assert found, f"add {type(dialect).__name__}, of {provider}, to DIALECTS and EVENTS"
    assert {name for name, _, _ in EVENTS} >= {*found}


def heard(name: str, frames: Iterable[tuple[str, bytes]]) -> list[ModelEvent]:
    """All that a stream tells; raises as its close does."""
    dialect, framed = DIALECTS[name]
    decoder = dialect.decoder()
    events = [event for each in frames for event in decoder.feed(framed(*each))]
    return [*events, *decoder.close()]


@given(st.sampled_from(EVENTS), hostile, st.data())
def test_whatever_stands_wherever_it_is_read_or_a_model_error(
    event: tuple[str, str, Json], there: str, data: st.DataObject
) -> None:
    dialect, name, said = event
    place = data.draw(st.sampled_from([*places(said), ("unknown",), ("done",)]))
    before = data.draw(st.sampled_from([each for each in EVENTS if each[0] == dialect]))
    payload = written(said, place, there).encode()
    try:
        told = heard(dialect, [(before[1], json.dumps(before[2]).encode()), (name, payload)])
        Completion.of(told)
    except ModelError as error:
        length = len(str(error).encode())
    else:
        length = 0
    assert length < 20_000


BEGINNINGS: dict[str, tuple[str, Json]] = {
    "openai": ("", {"id": "1", "choices": [{"delta": {"content": "x"}, "index": 0}]}),
    "anthropic": (
        "content_block_delta",
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
    ),
    "gemini": ("", {"candidates": [{"content": {"parts": [{"text": "x"}]}}]}),
    "cohere": ("", {"type": "content-delta", "delta": {"message": {"content": {"text": "x"}}}}),
}


@pytest.mark.parametrize("done", [[], [("", b"[DONE]")]])
@pytest.mark.parametrize("dialect", BEGINNINGS)
def test_an_error_of_a_gateway_at_the_end_of_a_stream_is_that_error(
    dialect: str, done: list[tuple[str, bytes]]
) -> None:
    """FastAPI's form, without a name that the dialect knows; some gateways write `[DONE]` then."""
    name, began = BEGINNINGS[dialect]
    told = b'{"detail": "the model has run out of memory"}'
    frames = [(name, json.dumps(began).encode()), ("", told)]
    with pytest.raises(ProviderServerError, match="the model has run out of memory"):
        heard(dialect, [*frames, *done])
    with pytest.raises(TruncatedStreamError):
        heard(dialect, frames[:1])


@given(st.sampled_from(EVENTS), hostile, st.data())
def test_so_it_is_in_a_whole_answer_and_in_an_error(
    event: tuple[str, str, Json], there: str, data: st.DataObject
) -> None:
    name, _, said = event
    payload = written(said, data.draw(st.sampled_from([*places(said)])), there).encode()
    dialect = DIALECTS[name][0]
    assert isinstance(dialect.error(500, {}, payload, 0.0), ModelError)
    try:
        Completion.of(dialect.decode(payload))
    except ModelError as error:
        str(error).encode()


@pytest.mark.parametrize("code", ["9" * 5_000, "²", "٤٢٩", "42", "4290"])
def test_a_status_is_three_digits(code: str) -> None:
    assert read_error(json.dumps({"error": {"code": code, "message": "m"}}).encode()).status is None


def test_a_last_line_that_had_to_be_mended_counts_all_the_same() -> None:
    line = b'{"done":true,"eval_count":2,"prompt_eval_count":1,"x":NaN}'
    usage = Completion.of(heard("ollama", [("", line)])).usage
    assert usage is not None
    assert usage.output_tokens == 2


def growing_call(at: int, text: str) -> Json:
    piece = {"jsonPath": f"$.a{at}", "stringValue": text}
    call = {"name": None if at else "f", "willContinue": True, "partialArgs": [piece]}
    return {"candidates": [{"content": {"parts": [{"functionCall": call}]}}]}


def block(at: int, **said: object) -> Json:
    return {"type": "content_block_start", "index": at, "content_block": said}


Endless = Callable[[int], Json]
UNNAMED = {"index": 0, "function": {"arguments": MEGABYTE}}
ENDLESS: dict[str, tuple[str, Endless, int]] = {
    "blocks of no known kind": ("anthropic", lambda at: block(at, type="new"), STRANGE_MAX),
    "arguments of blocks that do not end": (
        "anthropic",
        lambda at: block(at, type="tool_use", name="n", input={"a": MEGABYTE}),
        FRAME_BYTES_MAX // len(MEGABYTE) - 1,  # each is a bit longer
    ),
    "counts of Claude's": (
        "anthropic",
        lambda at: {"type": "message_delta", "usage": {f"k{at}": 1}},
        COUNTS_MAX,
    ),
    "counts of Gemini's": ("gemini", lambda at: {"usageMetadata": {f"k{at}": 1}}, COUNTS_MAX),
    "counts on Bedrock": ("invoke", lambda at: {"usage": {f"k{at}": 1}}, COUNTS_MAX),
    "a call's arguments in large pieces": (
        "gemini",
        lambda at: growing_call(at, MEGABYTE),
        FRAME_BYTES_MAX // len(MEGABYTE) - 1,  # each is a bit longer
    ),
    "a call that has no name": (
        "openai",
        lambda at: {"choices": [{"index": 0, "delta": {"tool_calls": [UNNAMED]}}], "id": str(at)},
        FRAME_BYTES_MAX // len(MEGABYTE) - 1,  # each is a bit longer
    ),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_is_kept_of_an_answer_that_says_nothing_has_a_bound(what: str) -> None:
    name, said, most = ENDLESS[what]
    dialect, framed = DIALECTS[name]
    decoder = dialect.decoder()
    for at in range(most + 1):
        assert not decoder.done, f"after {at} of {most}"
        decoder.feed(framed("", json.dumps(said(at)).encode()))
    assert decoder.done
    with pytest.raises(MalformedStreamError):
        decoder.close()


def test_the_id_of_an_answer_is_not_kept_with_each_of_its_calls() -> None:
    calls: list[Any] = [{"functionCall": {"name": "f"}}] * 100
    said = {"responseId": MEGABYTE, "candidates": [{"content": {"parts": calls}}]}
    decoder = GeminiDialect().decoder()
    told = decoder.feed(sse("", json.dumps(said).encode()))
    ids = {event.id for event in told if isinstance(event, ToolCallDelta)}
    assert len(ids) == len(calls)
    assert sum(map(len, ids)) < 10_000


def test_a_call_has_no_number_below_0() -> None:
    pieces = [
        ("", json.dumps({"tool_calls": [{**CALL, "index": -at}]}).encode()) for at in range(9)
    ]
    told = heard("invoke", [*pieces, ("", b'{"stop_reason":"tool_use"}')])
    assert {each.index for each in told if isinstance(each, ToolCallDelta)} == {0}


HOLLOW = b",".join([b"{}"] * 500_000)


@pytest.mark.parametrize(
    ("name", "kind", "payload"),
    [
        ("openai", "", b'{"choices":[' + HOLLOW + b"]}"),
        ("anthropic", "", b'{"type":"message_start","message":{"content":[' + HOLLOW + b"]}}"),
        ("gemini", "", b'{"candidates":[{"content":{"parts":[' + HOLLOW + b"]}}]}"),
        ("converse", "metadata", b'{"usage":{"a":[' + HOLLOW + b"]}}"),
        ("invoke", "", b'{"content":[' + HOLLOW + b"]}"),
        ("cohere", "content-delta", b'{"delta":{"message":{"content":[' + HOLLOW + b"]}}}"),
        ("ollama", "", b'{"message":{"tool_calls":[' + HOLLOW + b"]}}"),
    ],
)
def test_a_payload_of_empty_boxes_is_not_unpacked(name: str, kind: str, payload: bytes) -> None:
    with pytest.raises(MalformedStreamError, match="nearly all of them empty"):
        heard(name, [(kind, payload)])


@pytest.mark.parametrize("body", [b"[%s]", b"%s"])
def test_a_body_of_very_many_responses_is_read_no_further(body: bytes) -> None:
    """They are all read in one turn, in which nobody else has one."""
    said = b'{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}]}'
    decoder = GeminiDialect().decoder()
    decoder.feed(body % b",".join([said] * (RESPONSES_MAX + 1)))
    assert len(decoder.close()) <= RESPONSES_MAX + 3
