"""Numbers of tokens that no provider can mean, in every dialect: they are nobody's usage."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Completion
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.ollama.dialect import OllamaDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.usage_counts import TOKENS_MAX
from orchestra.values import Json

Body = Callable[[Any, Any], Json]


def openai(read: Any, wrote: Any) -> Json:
    choice = {"message": {"content": "a"}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": read, "completion_tokens": wrote}}


def anthropic(read: Any, wrote: Any) -> Json:
    counts = {"input_tokens": read, "output_tokens": wrote}
    content = [{"type": "text", "text": "a"}]
    return {"type": "message", "content": content, "stop_reason": "end_turn", "usage": counts}


def gemini(read: Any, wrote: Any) -> Json:
    candidate = {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}
    counts = {"promptTokenCount": read, "candidatesTokenCount": wrote}
    return {"candidates": [candidate], "usageMetadata": counts}


def converse(read: Any, wrote: Any) -> Json:
    message = {"role": "assistant", "content": [{"text": "a"}]}
    counts = {"inputTokens": read, "outputTokens": wrote}
    return {"output": {"message": message}, "stopReason": "end_turn", "usage": counts}


def titan(read: Any, wrote: Any) -> Json:
    said = {"outputText": "a", "completionReason": "FINISH", "tokenCount": wrote}
    return {"results": [said], "inputTextTokenCount": read}


def cohere(read: Any, wrote: Any) -> Json:
    message = {"role": "assistant", "content": [{"type": "text", "text": "a"}]}
    counts = {"tokens": {"input_tokens": read, "output_tokens": wrote}}
    return {"id": "i", "message": message, "finish_reason": "COMPLETE", "usage": counts}


def ollama(read: Any, wrote: Any) -> Json:
    message = {"role": "assistant", "content": "a"}
    counts = {"prompt_eval_count": read, "eval_count": wrote}
    return {"model": "m", "message": message, "done": True, "done_reason": "stop", **counts}


DIALECTS: list[tuple[Dialect, Body]] = [
    *((OpenAiDialect(), openai), (AnthropicDialect(), anthropic), (GeminiDialect(), gemini)),
    *((BedrockDialect(), converse), (BedrockInvokeDialect(), titan)),
    *((CohereDialect(), cohere), (OllamaDialect(), ollama)),
]


def usage(dialect: Dialect, body: Json) -> Usage | None:
    return Completion.of(dialect.decode(json.dumps(body).encode())).usage


@pytest.mark.parametrize(("dialect", "body"), DIALECTS)
@given(st.integers(TOKENS_MAX + 1, 2**80), st.booleans())
def test_an_absurd_number_of_tokens_is_no_count(
    dialect: Dialect, body: Body, absurd: int, asked: bool
) -> None:
    """What is left is not certain, so that the account has an estimate in its place."""
    found = usage(dialect, body(absurd, 5) if asked else body(5, absurd))
    assert found is None or (
        found.certainty is Certainty.PARTIAL and found.input_tokens + found.output_tokens <= 5
    )


@pytest.mark.parametrize(("dialect", "body"), DIALECTS)
@given(st.integers(1, TOKENS_MAX), st.integers(1, TOKENS_MAX))
def test_all_others_are_counted(dialect: Dialect, body: Body, read: int, wrote: int) -> None:
    assert usage(dialect, body(read, wrote)) == Usage(read, wrote)


@pytest.mark.parametrize("counts", [[3, 2**64 - 1], [2**64 - 1, 3]])
def test_of_embeddings_nothing_is_counted_where_one_count_is_absurd(counts: list[int]) -> None:
    made = [{"embeddings": {"values": [1.0], "statistics": {"token_count": n}}} for n in counts]
    body = json.dumps({"predictions": made}).encode()
    assert GeminiDialect(vertex=True).decode_embeddings(body).usage is None
