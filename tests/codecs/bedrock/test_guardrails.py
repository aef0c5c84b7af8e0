"""InvokeModel behind a guardrail: what Bedrock changes in an answer, and what it says itself."""

from __future__ import annotations

import json
from base64 import b64encode
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Completion
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.usage_counts import TOKENS_MAX
from orchestra.errors import ModelError, TruncatedStreamError
from orchestra.values import Json, Stopped, StopReason, TextDelta, UsageReport
from tests.codecs.amazon import CUTS, event, pieces
from tests.codecs.streamed import events_of

DIALECT = BedrockInvokeDialect()
INTERVENED: Json = {"amazon-bedrock-guardrailAction": "INTERVENED"}
PASSED: Json = {"amazon-bedrock-guardrailAction": "NONE"}
COUNTS = st.integers(0, TOKENS_MAX).flatmap(lambda count: st.sampled_from([count, float(count)]))
"""Behind a guardrail, Bedrock writes 3 as `3.0`."""


def chunk(found: Json) -> bytes:
    told = b64encode(json.dumps(found).encode()).decode()
    return event("chunk", json.dumps({"bytes": told}).encode())


decode = partial(events_of, DIALECT)


def titan(text: str, asked: float, answered: float) -> Json:
    return {
        "outputText": text,
        "index": 0.0,
        "totalOutputTextTokenCount": answered,
        "inputTextTokenCount": asked,
    }


@given(st.text(min_size=1), COUNTS, COUNTS, CUTS)
def test_what_a_guardrail_says_in_the_place_of_a_model_has_stopped_by_it(
    text: str, asked: float, answered: float, cuts: list[int]
) -> None:
    """No piece of it says why it stops."""
    piece = chunk(titan(text, asked, answered) | INTERVENED)
    events = decode(pieces(piece, cuts))
    answer = Completion.of(events)
    assert (answer.text, answer.stopped) == (text, Stopped(StopReason.CONTENT_FILTER))
    assert answer.usage == Usage(int(asked), int(answered))
    (report,) = [each for each in events if isinstance(each, UsageReport)]
    assert report.raw["inputTextTokenCount"] == asked


@given(COUNTS, COUNTS)
def test_what_a_guardrail_only_masked_has_stopped_as_the_model_says(
    asked: float, answered: float
) -> None:
    said = {"outputText": "Call {NUMBER}.", "tokenCount": answered, "completionReason": "FINISH"}
    body = {"inputTextTokenCount": asked, "results": [said]} | INTERVENED
    answer = Completion.of(DIALECT.decode(json.dumps(body).encode()))
    assert answer.stopped == Stopped(StopReason.END, "FINISH")
    assert answer.usage == Usage(int(asked), int(answered))


def test_a_reason_behind_an_intervention_is_the_one_that_counts() -> None:
    told: list[Json] = [
        {"outputText": "Call {NUMBER}", "completionReason": None} | INTERVENED,
        {"outputText": " now.", "completionReason": "LENGTH"} | INTERVENED,
    ]
    answer = Completion.of(decode([chunk(each) for each in told]))
    assert (answer.text, answer.stopped.raw) == ("Call {NUMBER} now.", "LENGTH")


def test_what_a_guardrail_has_masked_is_cut_without_a_reason() -> None:
    """Of Titan and of Nova: each of their pieces says that a guardrail has intervened."""
    of_titan = titan("Call {NUMBER}", 3, 1) | {"totalOutputTextTokenCount": None} | INTERVENED
    of_nova = {"contentBlockDelta": {"delta": {"text": "Call"}, "contentBlockIndex": 0}}
    for said in (of_titan, of_nova | INTERVENED):
        with pytest.raises(TruncatedStreamError):
            decode([chunk(said)])


def test_an_answer_that_a_guardrail_let_pass_needs_a_reason() -> None:
    with pytest.raises(TruncatedStreamError):
        decode([chunk(titan("Hel", 3, 1) | PASSED)])


@pytest.mark.parametrize("text", ["Blocked.", ""])
def test_a_whole_answer_of_a_guardrails_has_stopped_by_it(text: str) -> None:
    events = DIALECT.decode(json.dumps({"generation": text} | INTERVENED).encode())
    said = [TextDelta(text)] if text else []
    assert events == [*said, Stopped(StopReason.CONTENT_FILTER)]


@given(COUNTS)
def test_what_a_guardrail_changed_of_novas_answer_is_counted_in_part(asked: float) -> None:
    """Only what went in is counted then; a stream's last event has Bedrock's own counts besides."""
    message = {"content": [{"text": "Call {NUMBER}."}]}
    counted = {"usage": {"inputTokens": asked}}
    body = {"output": {"message": message}, "stopReason": "end_turn"} | counted | INTERVENED
    answer = Completion.of(DIALECT.decode(json.dumps(body).encode()))
    assert answer.usage == Usage(int(asked), 0, Certainty.PARTIAL)
    metrics = {"inputTokenCount": asked, "outputTokenCount": 7}
    last = {"metadata": counted, "amazon-bedrock-invocationMetrics": metrics}
    told = [chunk({"messageStop": {"stopReason": "end_turn"}}), chunk(last)]
    assert Completion.of(decode(told)).usage == Usage(int(asked), 7)


def test_an_error_behind_a_guardrail_is_an_error() -> None:
    with pytest.raises(ModelError, match="it broke"):
        DIALECT.decode(json.dumps({"error": {"message": "it broke"}} | INTERVENED).encode())


def test_a_text_that_was_embedded_is_counted_however_its_count_is_written() -> None:
    found = DIALECT.decode_embeddings(b'{"embedding": [1.0, 2.0], "inputTextTokenCount": 3.0}')
    assert found.usage == Usage(3)
