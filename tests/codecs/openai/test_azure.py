"""Azure's OpenAI: its addresses, its filters, and its errors."""

from __future__ import annotations

import json

import pytest

from orchestra.answers import Completion
from orchestra.codecs.openai.azure import AzureDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.errors import (
    AuthenticationError,
    ContentFilterError,
    ModelNotFoundError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.values import ChatRequest, EmbedRequest, Json, Message, ModelEvent, StopReason
from tests.codecs.openai_streams import chunk, frame, stream

HELLO = ChatRequest((Message("user", "Hello"),), extras={"azure": {"user": "u"}})
CLASSIC = AzureDialect(api_version="2024-10-21")
OPENING = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
    "choices": [],
}
BLOCKED = {
    "error": {
        "message": "The response was filtered",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"hate": {"filtered": True, "severity": "high"}},
        },
    }
}


def decode(raw: bytes) -> list[ModelEvent]:
    decoder = AzureDialect().decoder()
    events = decoder.feed(raw)
    return events + decoder.close()


def test_the_v1_interface_is_openais_but_for_the_base_url() -> None:
    call = AzureDialect().ask("gpt", HELLO, stream=True)
    assert call.path == "/chat/completions"
    asked = json.loads(call.body)
    assert (asked["model"], asked["user"]) == ("gpt", "u")
    assert AzureDialect().ask_embeddings("e", EmbedRequest(("a",))).path == "/embeddings"


def test_the_classic_interface_has_deployment_and_version_in_its_path() -> None:
    call = CLASSIC.ask("gpt 4/o", HELLO, stream=False)
    assert call.path == "/deployments/gpt%204%2Fo/chat/completions?api-version=2024-10-21"
    assert json.loads(call.body)["model"] == "gpt 4/o"
    call = CLASSIC.ask_embeddings("e", EmbedRequest(("a",)))
    assert call.path == "/deployments/e/embeddings?api-version=2024-10-21"


def test_a_deployment_is_asked_in_place_of_the_model() -> None:
    assert json.loads(AzureDialect("mine").ask("gpt", HELLO, stream=False).body)["model"] == "mine"
    dialect = AzureDialect("mine", "v&1")
    call = dialect.ask_embeddings("e", EmbedRequest(("a",)))
    assert call.path == "/deployments/mine/embeddings?api-version=v%261"


def test_a_stream_may_open_with_what_the_filter_found() -> None:
    """That chunk has neither an id nor a model: they are those of the next."""
    offsets: Json = {
        "id": "a",
        "choices": [
            {
                "index": 0,
                "finish_reason": None,
                "content_filter_offsets": {"check_offset": 0},
                "content_filter_results": {"hate": {"filtered": False}},
            }
        ],
    }
    raw = stream(OPENING, chunk({"content": "Hi"}), offsets, chunk({}, "stop"), offsets)
    answer = Completion.of(decode(raw))
    assert (answer.id, answer.model, answer.text, answer.stopped.raw) == ("a", "m", "Hi", "stop")


def test_an_answer_that_the_filter_cut_says_so() -> None:
    answer = Completion.of(decode(stream(OPENING, chunk({"content": "H"}, "content_filter"))))
    assert answer.stopped.reason is StopReason.CONTENT_FILTER


def test_a_prompt_that_the_filter_stopped_is_an_error_of_its_own() -> None:
    body = json.dumps(BLOCKED).encode()
    error = AzureDialect().error(400, {"apim-request-id": "r1"}, body, 0.0)
    assert type(error) is ContentFilterError
    assert (error.message, error.request_id) == ("The response was filtered", "r1")
    assert error.code == "ResponsibleAIPolicyViolation"
    with pytest.raises(ContentFilterError):
        AzureDialect().decode(body)


def test_an_error_behind_the_opening_and_the_role_is_an_error_without_any_event_of_content() -> (
    None
):
    decoder = AzureDialect().decoder()
    role = chunk({"role": "assistant", "content": ""})
    events = decoder.feed(frame(OPENING) + frame(role) + frame(BLOCKED))
    assert [type(event).__name__ for event in events] == ["Began"]
    assert decoder.done
    with pytest.raises(ContentFilterError, match="The response was filtered"):
        decoder.close()


def test_an_opening_alone_is_a_cut_answer() -> None:
    with pytest.raises(TruncatedStreamError):
        decode(stream(OPENING))


def test_errors_of_azures_gateway() -> None:
    dialect = AzureDialect()
    missing = b'{"error":{"code":"DeploymentNotFound","message":"no such deployment"}}'
    assert type(dialect.error(404, {}, missing, 0.0)) is ModelNotFoundError
    key = b'{"error":{"code":"401","message":"Access denied"}}'
    assert type(dialect.error(401, {}, key, 0.0)) is AuthenticationError
    busy = b'{"error":{"code":"429","message":"Requests have exceeded call rate limit"}}'
    error = dialect.error(429, {"retry-after": "7", "retry-after-ms": "6200"}, busy, 0.0)
    assert (type(error), error.retry_after_s) == (RateLimitError, 6.2)


def test_it_is_openais_dialect() -> None:
    assert isinstance(AzureDialect(), OpenAiDialect)
