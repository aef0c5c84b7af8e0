"""Errors of OpenAI-shaped servers, in answers whose status was 200, and others."""

from __future__ import annotations

import json

import pytest

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GENERIC, OPENROUTER
from orchestra.errors import (
    ContentFilterError,
    ContextLengthError,
    MalformedStreamError,
    ModelError,
    OverloadedError,
    ProviderServerError,
    QuotaError,
    RateLimitError,
)
from orchestra.values import Began, Json, TextDelta, UsageReport
from tests.codecs.openai_streams import USAGE, chunk, decode, frame, stream

LIMITED: Json = {"status_code": 1002, "status_msg": "rate limit exceeded"}
"""MiniMax's, whose status is 200 whatever it says."""
BADLY_SAID: Json = {"type": "invalid_request_error", "code": "tool_use_failed", "message": "no"}
"""Groq's, of what its model said."""


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        (frame({"error": {"message": "too fast", "code": "rate_limit_exceeded"}}), RateLimitError),
        (frame({"error": {"message": "no", "code": 429, "metadata": {}}}), RateLimitError),
        (
            b'event: error\ndata: {"error":{"message":"busy","code":"over_capacity"}}\n\n',
            OverloadedError,
        ),
        (b'event: error\ndata: {"message":"busy","type":"overloaded_error"}\n\n', OverloadedError),
        (frame({"object": "error", "message": "no", "type": "server_error"}), ProviderServerError),
        (frame({"error": "out of memory"}), ProviderServerError),
        (frame({"error": BADLY_SAID}), ProviderServerError),
        (frame({"id": "a", "choices": None, "base_resp": LIMITED}), RateLimitError),
        (frame({"error": {"message": "m", "code": "context_length_exceeded"}}), ContextLengthError),
        (frame(chunk({}, "error")), ProviderServerError),
        (
            frame(chunk({}, "error", error={"message": "filtered", "code": "content_filter"})),
            ContentFilterError,
        ),
        (frame(chunk({}, "insufficient_system_resource")), OverloadedError),
        (frame(chunk({}, "network_error")), ProviderServerError),
        (frame({"id": "a", "x_groq": {"error": "over capacity"}}), ProviderServerError),
    ],
)
def test_an_error_in_a_stream_is_classified_by_its_body(
    frames: bytes, kind: type[ModelError]
) -> None:
    """And it waits behind what came before it, whatever comes after it."""
    raw = frame(chunk({"content": "Hi"})) + frames + stream(chunk({}, "stop"))
    for pieces in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
        decoder = OpenAiDialect().decoder()
        events = [event for piece in pieces for event in decoder.feed(piece)]
        assert decoder.done
        assert events[:2] == [Began("a", "m"), TextDelta("Hi")]
        with pytest.raises(kind) as caught:
            decoder.close()
        assert type(caught.value) is kind


def test_an_error_of_a_choice_is_the_answers() -> None:
    """OpenRouter's, where a provider behind it failed half-way; what was counted is told."""
    failed = chunk({"content": "x"}, "error", usage=USAGE)
    failed["choices"][0]["error"] = {"code": 502, "message": "Upstream broke"}
    decoder = OpenAiDialect(OPENROUTER).decoder()
    events = decoder.feed(stream(failed))
    assert UsageReport(Usage(5, 2, Certainty.PARTIAL), USAGE) in events
    with pytest.raises(ProviderServerError, match="Upstream broke"):
        decoder.close()


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [], "usage": USAGE}])
def test_an_answer_without_choices_is_none(body: Json) -> None:
    with pytest.raises(MalformedStreamError, match="no choices"):
        OpenAiDialect(GENERIC).decode(json.dumps(body).encode())


@pytest.mark.parametrize("body", [{"detail": "gone"}, {"code": "1302", "msg": "gone"}])
def test_an_error_in_place_of_a_whole_answer_is_told_whatever_its_shape(body: Json) -> None:
    with pytest.raises(ProviderServerError, match="gone"):
        OpenAiDialect(GENERIC).decode(json.dumps(body).encode())


def test_minimax_says_of_an_answer_whether_it_is_one() -> None:
    """And where it is one, what else it says of it does not count."""
    fine: Json = {"status_code": 0, "status_msg": "Invalid parameters detected"}
    said = chunk({"content": "Hi"}, "stop")
    assert TextDelta("Hi") in decode([stream({**said, "base_resp": fine})])
    whole = {"id": "a", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    dialect = OpenAiDialect(GENERIC)
    assert TextDelta("Hi") in dialect.decode(json.dumps({**whole, "base_resp": fine}).encode())
    with pytest.raises(RateLimitError, match="rate limit exceeded"):
        dialect.decode(json.dumps({**whole, "choices": None, "base_resp": LIMITED}).encode())


def test_a_chunk_that_is_not_json_is_an_error_and_not_skipped() -> None:
    with pytest.raises(MalformedStreamError, match="oops"):
        decode([frame(chunk({"content": "Hi"})) + b"data: oops\n\n" + stream(chunk({}, "stop"))])


def test_openrouter_tells_too_much_at_once_and_no_money_by_its_words() -> None:
    dialect = OpenAiDialect(OPENROUTER)
    busy = b'{"error":{"code":402,"message":"no","metadata":{"limit_source":"openrouter_in_flight_budget"}}}'
    error = dialect.error(402, {"retry-after": "3"}, busy, 0.0)
    assert (type(error), error.status, error.retry_after_s) == (RateLimitError, 402, 3.0)
    empty = dialect.error(402, {}, b'{"error":{"code":402,"message":"Insufficient credits"}}', 0.0)
    assert type(empty) is QuotaError
    spent = b'{"error":{"code":403,"message":"Key limit exceeded (total limit)"}}'
    error = dialect.error(403, {}, spent, 0.0)
    assert (type(error), error.status) == (QuotaError, 403)


BUSY: Json = {
    "code": 402,
    "message": "Insufficient credits for what is under way",
    "metadata": {"limit_source": "openrouter_in_flight_budget"},
}
SPENT: Json = {"code": 403, "message": "Key limit exceeded (total limit)"}
MARKED = [(BUSY, RateLimitError, 402), (SPENT, QuotaError, 403)]


@pytest.mark.parametrize(("told", "kind", "status"), MARKED)
def test_openrouters_words_count_wherever_an_error_stands(
    told: Json, kind: type[ModelError], status: int
) -> None:
    """Beside a choice, in one, alone, in place of a stream, of an answer and of vectors."""
    dialect = OpenAiDialect(OPENROUTER)
    body = json.dumps({"error": told}).encode()
    spoken = frame(chunk({"content": "Hi"}))
    for raw in (
        spoken + frame({**chunk({}, "error"), "error": told}),
        spoken + frame(chunk({}, "error", error=told)),
        spoken + b"event: error\ndata: " + body + b"\n\n",
        spoken + frame({"id": "a", "x_groq": {"error": told}}),
        body,
        json.dumps(told).encode(),
    ):
        decoder = dialect.decoder()
        decoder.feed(raw)
        with pytest.raises(ModelError) as caught:
            decoder.close()
        assert (type(caught.value), caught.value.status) == (kind, status), raw
    for decode_whole in (dialect.decode, dialect.decode_embeddings):
        with pytest.raises(ModelError) as caught:
            decode_whole(body)
        assert (type(caught.value), caught.value.status) == (kind, status)
    with pytest.raises(ModelError) as caught:
        dialect.decode(json.dumps({"detail": told["message"], "metadata": told}).encode())
    assert type(caught.value) is kind
    assert type(dialect.error(status, {}, body, 0.0)) is kind
    assert type(OpenAiDialect(GENERIC).error(status, {}, body, 0.0)) is not kind


def test_an_error_without_a_word_still_says_something() -> None:
    with pytest.raises(ProviderServerError, match="no reason given"):
        decode([frame({"error": {"details": []}})])
