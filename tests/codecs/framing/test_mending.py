"""JSON that is not quite as it should be, of any provider."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.answers import Completion
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.framing.mending import VALUES_MAX, JsonReader, read_whole
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.ollama.dialect import OllamaDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.errors import MalformedStreamError
from orchestra.values import Vector

MARK = b"\xef\xbb\xbf"


def anthropic(text: str) -> Any:
    return {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}


def gemini(text: str) -> Any:
    return {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]}


def converse(text: str) -> Any:
    return {"output": {"message": {"content": [{"text": text}]}}, "stopReason": "end_turn"}


def cohere(text: str) -> Any:
    content = [{"type": "text", "text": text}]
    return {"message": {"content": content}, "finish_reason": "COMPLETE"}


def ollama(text: str) -> Any:
    return {"message": {"content": text}, "done": True}


def openai(text: str) -> Any:
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


WHOLE: list[tuple[Dialect, Callable[[str], Any]]] = [
    (AnthropicDialect(), anthropic),
    (GeminiDialect(), gemini),
    (GeminiDialect(), lambda text: [gemini(text), gemini("")]),
    (BedrockDialect(), converse),
    (BedrockInvokeDialect(), lambda text: {"outputText": text, "completionReason": "FINISH"}),
    (BedrockInvokeDialect(), anthropic),
    (BedrockInvokeDialect(), converse),
    (CohereDialect(), cohere),
    (OllamaDialect(), ollama),
    (OpenAiDialect(), openai),
]


@pytest.mark.parametrize(("dialect", "body_of"), WHOLE)
def test_half_a_character_and_a_mark_before_end_no_whole_answer(
    dialect: Dialect, body_of: Callable[[str], Any]
) -> None:
    for text, expected in (("Hi", "Hi"), ("a\ud83d b", "a\ufffd b"), ("\udc00", "\ufffd")):
        body = json.dumps(body_of(text)).encode()
        for wire in (body, MARK + body, MARK + b"\n " + body):
            assert Completion.of(dialect.decode(wire)).text == expected


TEXTS = msgspec.json.Decoder(dict[str, str])


@given(st.text(st.sampled_from("a\u00e9\U0001f600"), max_size=6), st.data())
def test_a_character_that_is_cut_between_two_payloads_is_whole(
    text: str, data: st.DataObject
) -> None:
    halves = text.encode("utf-16-le")
    at = 2 * data.draw(st.integers(0, len(halves) // 2))
    reader = JsonReader()
    found = [
        reader.read(TEXTS, json.dumps({"text": each}).encode(), "it")["text"]
        for each in (
            halves[:at].decode("utf-16-le", "surrogatepass"),
            halves[at:].decode("utf-16-le", "surrogatepass"),
        )
    ]
    assert "".join(found) == text


@given(st.binary())
def test_what_is_no_such_json_is_malformed(raw: bytes) -> None:
    try:
        expected = msgspec.json.decode(raw, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        with pytest.raises(MalformedStreamError, match="it is invalid"):
            read_whole(TEXTS, raw, "it")
    else:
        assert read_whole(TEXTS, raw, "it") == expected


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_left_out(number: str) -> None:
    raw = f'{{"text": "Hi", "extra": {{"p": [{number}]}}, "score": {number}}}'.encode()
    assert read_whole(TEXTS_AND_MORE, raw, "it") == TextAndMore("Hi", None)


class TextAndMore(msgspec.Struct):
    text: str
    score: float | None


ANYTHING = msgspec.json.Decoder(dict[str, object])
TEXTS_AND_MORE = msgspec.json.Decoder(TextAndMore)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' + b"9" * 5_000 + b"}", b'{"a":1e400}'])
def test_what_python_does_not_read_is_malformed_too(raw: bytes) -> None:
    with pytest.raises(MalformedStreamError):
        read_whole(TEXTS, raw, "it")


@pytest.mark.parametrize("piece", [b"0,", b"[],", b"{},", b'"\\n",'])
def test_a_payload_of_very_many_values_is_not_mended(piece: bytes) -> None:
    """To mend 16 MiB of them takes twenty seconds, in which nobody else has a turn."""
    few, many = (b'{"score": NaN, "x": [%b0]}' % (piece * count) for count in (100, VALUES_MAX))
    assert read_whole(ANYTHING, few, "it")["score"] is None
    with pytest.raises(MalformedStreamError):
        read_whole(ANYTHING, many, "it")


@pytest.mark.parametrize("piece", [b"0,", b"[],"])
def test_a_byte_order_mark_is_passed_over_also_before_very_many_values(piece: bytes) -> None:
    """As of the vectors of many texts."""
    raw = BOM_UTF8 + b'{"text": "Hi", "x": [%b0]}' % (piece * VALUES_MAX)
    assert read_whole(ANYTHING, raw, "it")["text"] == "Hi"


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (OpenAiDialect(), b'{"data":[{"embedding":[0.5,1]}]}'),
        (CohereDialect(), b'{"embeddings":{"float":[[0.5,1]]}}'),
        (GeminiDialect(), b'{"embedding":{"values":[0.5,1]}}'),
        (OllamaDialect(), b'{"embeddings":[[0.5,1]]}'),
        (BedrockInvokeDialect(), b'{"embedding":[0.5,1]}'),
    ],
)
def test_a_byte_order_mark_before_vectors_is_passed_over(dialect: Dialect, body: bytes) -> None:
    found = dialect.decode_embeddings(BOM_UTF8 + body)
    assert found.vectors == (Vector.of([0.5, 1]),)
