"""What the replay command says of an error, told apart by where it stood, and of odd answers."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest
import trio

from orchestra.accounts import Usage
from orchestra.protocols import HttpReply, HttpRequest
from orchestra.testing.replay import Case, answered, first_of, replay, usage_of
from orchestra.values import Json, UsageReport
from tests.providers.test_remote import Canned

REFUSED = b'{"error":{"message":"busy","code":429,"status_code":429}}'
CHUNK = b'{"choices":[{"index":0,"delta":{"content":"so"}}]}'


def said(
    body: bytes,
    *,
    status: int = 200,
    stream: bool = True,
    provider: str = "groq",
    surface: str = "chat",
) -> Json:
    async def main() -> Json:
        case = Case("c", provider, surface, stream, status, "http://replay.test/v1")
        # Where one dialect finds nothing, a second one may ask.
        return await replay(case, Canned([(status, [body])] * 2))

    return trio.run(main)


@pytest.mark.parametrize(
    ("body", "status", "stream", "expected"),
    [
        (REFUSED, 429, True, {"status": 429, "kind": "http"}),
        (b"<html>", 502, False, {"status": 502, "kind": "http"}),
        (b"<html>", 301, False, {"status": 301, "kind": "http"}),
        (b"", 307, True, {"status": 307, "kind": "http"}),
        # The HTTP status was good: what else the error names is its own affair.
        (b"data: " + REFUSED + b"\n\n", 200, True, {"status": 200, "kind": "stream"}),
        (b"event: error\ndata: " + REFUSED + b"\n\n", 200, True, {"status": 200, "kind": "stream"}),
        (REFUSED, 200, False, {"status": 200, "kind": "stream"}),
        (b"data: " + CHUNK + b"\n\n", 200, True, {"status": 200, "kind": "stream"}),
        (b"data: {\n\n", 200, True, {"status": 200, "kind": "parse"}),
        (b"{", 200, False, {"status": 200, "kind": "parse"}),
    ],
)
def test_an_error_is_told_by_where_it_stood(
    body: bytes, status: int, stream: bool, expected: Json
) -> None:
    assert said(body, status=status, stream=stream) == {"cid": "c", "error": expected}


def test_a_surface_that_is_not_known_cannot_be_read() -> None:
    async def main() -> Json:
        case = Case("c", "groq", "speech", False, 200, "http://replay.test/v1")
        return await replay(case, Canned([]))

    assert trio.run(main) == {"cid": "c", "error": {"status": 200, "kind": "parse"}}


def test_a_fault_of_ours_cannot_be_read_and_ends_nothing() -> None:
    class Broken(Canned):
        def send(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpReply]:
            raise ZeroDivisionError("ours")

    async def main() -> Json:
        case = Case("c", "groq", "chat", False, 200, "http://replay.test/v1")
        return await replay(case, Broken([]))

    assert trio.run(main) == {"cid": "c", "error": {"status": 200, "kind": "parse"}}


def cohere(usage: object) -> bytes:
    message = {"content": [{"type": "text", "text": "Hi"}]}
    return msgspec.json.encode({"message": message, "finish_reason": "COMPLETE", "usage": usage})


def titan(**counts: object) -> bytes:
    result = {"outputText": "Hi", "completionReason": "FINISH", "tokenCount": 0}
    return msgspec.json.encode({"results": [result], **counts})


def gemini(usage: object) -> bytes:
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    return msgspec.json.encode({"candidates": [candidate], "usageMetadata": usage})


def openai(usage: object) -> bytes:
    choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    return msgspec.json.encode({"choices": [choice], "usage": usage})


LLAMA = (
    b'{"generation":"Hi","prompt_token_count":3,"generation_token_count":0,"stop_reason":"stop"}'
)


@pytest.mark.parametrize(
    ("surface", "body", "usage"),
    [
        ("v2chat", cohere({"tokens": {"input_tokens": 3, "output_tokens": 4}}), [3, 4]),
        ("v2chat", cohere({"tokens": None, "billed_units": {"input_tokens": 3}}), None),
        ("v2chat", cohere({"tokens": 7, "billed_units": {"input_tokens": 3}}), [None, None]),
        ("chat", openai({"prompt_tokens": 3, "completion_tokens": 4, "tokens": 7}), [3, 4]),
        ("chat", openai({"prompt_tokens": 3, "total_tokens": 3}), [3, None]),
        ("chat", openai({"prompt_tokens": None, "completion_tokens": 4}), [None, 4]),
        ("chat", openai({"prompt_tokens": 0, "completion_tokens": 0}), [0, 0]),
        ("chat", openai(None), None),
        ("invoke", titan(inputTextTokenCount=3), [3, 0]),
        ("invoke", titan(inputTextTokenCount=0), [0, 0]),
        ("invoke", LLAMA, [3, 0]),
        ("generateContent", gemini({}), [None, None]),
        ("generateContent", gemini({"totalTokenCount": 3}), [None, None]),
        ("generateContent", gemini({"promptTokenCount": 3}), [3, None]),
        ("generateContent", gemini(None), None),
    ],
)
def test_usage_is_what_the_record_counts(surface: str, body: bytes, usage: object) -> None:
    expected = {"text": "Hi", "tools": [], "usage": usage}
    found = said(body, stream=False, surface=surface)
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("provider", "surface", "body"),
    [
        ("openai", "embed", b'{"data":[{"index":0,"embedding":[0.5,1]}]}'),
        ("ollama", "embed", b'{"data":[{"index":0,"embedding":[0.5,1]}]}'),
        ("ollama", "embed", b'{"embeddings":[[0.5,1]]}'),
        ("ollama", "api/embed", b'{"embeddings":[[0.5,1]]}'),
        ("ollama", "api/embeddings", b'{"embedding":[0.5,1]}'),
        ("google", "embed", b'{"embeddings":[{"values":[0.5,1]}]}'),
        ("google", "embedContent", b'{"embedding":{"values":[0.5,1]}}'),
        ("google", "batchEmbedContents", b'{"embeddings":[{"values":[0.5,1]}]}'),
        ("google", "predict", b'{"predictions":[{"embeddings":{"values":[0.5,1]}}]}'),
        ("bedrock", "embed", b'{"embedding":[0.5,1],"inputTextTokenCount":1}'),
        ("bedrock", "invoke", b'{"embeddings":{"int8":[[0.5,1]]}}'),
        ("cohere", "embed", b'{"embeddings":{"float":[[0.5,1]]}}'),
    ],
)
def test_vectors_are_read_under_every_name_of_their_surface(
    provider: str, surface: str, body: bytes
) -> None:
    found = said(body, stream=False, provider=provider, surface=surface)
    assert found == {"cid": "c", "n": 1, "dim": 2, "first": [0.5, 1]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"object":"list","data":[]}', {"n": 0, "dim": 0, "first": []}),
        (b'{"data":[{"index":0,"embedding":[]}]}', {"n": 1, "dim": 0, "first": []}),
        (b'{"data":null}', {"error": {"status": 200, "kind": "parse"}}),
    ],
)
def test_an_answer_without_vectors_has_none(body: bytes, expected: Json) -> None:
    assert said(body, stream=False, provider="ollama", surface="embed") == {"cid": "c", **expected}


def test_the_command_answers_every_line_and_passes_over_empty_ones() -> None:
    """Also where the server of one is not there."""
    told = {"cid": "c", "provider": "openai", "surface": "chat", "stream": False, "status": 200}
    line = json.dumps({**told, "base_url": "http://127.0.0.1:9"})
    ran = subprocess.run(
        [sys.executable, "-m", "orchestra.testing.replay"],
        input=f"{line}\n\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert ran.stderr == ""
    assert json.loads(ran.stdout) == {"cid": "c", "error": {"status": 200, "kind": "stream"}}


WRITTEN = [0.1, -2, 3e-9, 4.000000001]


@pytest.mark.parametrize(
    ("answer", "first"),
    [
        ({"data": [{"embedding": WRITTEN}, {"embedding": [7]}]}, WRITTEN),
        ({"data": [{"embedding": "AAAA"}]}, "AAAA"),
        ({"embeddings": {"float": [WRITTEN, [7]]}}, WRITTEN),
        ({"embeddings": [WRITTEN, [7]]}, WRITTEN),
        ({"embeddings": [{"values": WRITTEN}]}, WRITTEN),
        ({"embeddings": [{"embedding": WRITTEN}]}, WRITTEN),
        ({"embedding": {"values": WRITTEN}}, WRITTEN),
        ({"embedding": WRITTEN}, WRITTEN),
        ({"predictions": [{"embeddings": {"values": WRITTEN}}]}, WRITTEN),
        ({"embeddings": {"int8": [[1]]}}, None),
        ({"embeddings": [], "data": []}, None),
        ([], None),
    ],
)
def test_the_first_vector_is_told_as_it_was_written(answer: object, first: object) -> None:
    """Not as the nearest float32: 0.1 would be 0.10000000149011612."""
    assert first_of(json.dumps(answer).encode()) == first


@pytest.mark.parametrize("body", [b"", b"\xef\xbb\xbf{}", b'{"embedding": [NaN]}', b"[" * 9999])
def test_what_is_no_json_tells_no_first_vector(body: bytes) -> None:
    assert first_of(body) is None


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"billed_units": {"input_tokens": 5, "output_tokens": 6}}, None),
        (
            {
                "billed_units": {"input_tokens": 5, "output_tokens": 6},
                "tokens": {"input_tokens": 7, "output_tokens": 8},
            },
            [7, 8],
        ),
        ({"promptTokenCount": 5}, [5, None]),
        ({"trafficType": "ON_DEMAND"}, [None, None]),
    ],
)
def test_what_is_only_billed_is_not_told_as_counted(record: Json, told: object) -> None:
    assert usage_of(UsageReport(Usage(5, 6), record)) == told


@pytest.mark.parametrize(
    ("line", "cid", "status"),
    [
        (b"nonsense", None, None),
        (b"[1]", None, None),
        (b'"\xff"', None, None),
        (b'{"a":' * 5_000, None, None),
        (b'{"cid":"c","provider":"groq","surface":"chat","stream":true}', "c", None),
        (b'{"cid":"c","status":200}', "c", 200),
    ],
)
def test_a_line_that_asks_for_nothing_is_answered_too(
    line: bytes, cid: str | None, status: int | None
) -> None:
    found = trio.run(answered, line, Canned([]))
    assert found == {"cid": cid, "error": {"status": status, "kind": "parse"}}
