"""Reranking at each kind of server: what is sent, and what of its answers is read."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from orchestra.accounts import Usage
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GENERIC, TEI, VLLM
from orchestra.errors import (
    CapabilityError,
    InvalidRequestError,
    MalformedStreamError,
    ModelError,
    RateLimitError,
)
from orchestra.rankings import Ranked, Ranking, RerankRequest

ASKED = RerankRequest("When?", ("At nine.", "Outside.", "Ä"), 2)
FIELDS: dict[str, Any] = {"query": "When?", "documents": ["At nine.", "Outside.", "Ä"]}
RESULTS = [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.25}]
RANKED = (Ranked(2, 0.9), Ranked(0, 0.25))
EXTRAS = {"max_tokens_per_doc": 100}

REQUESTS: list[tuple[Dialect, str, str, str, dict[str, Any]]] = [
    (CohereDialect(), "rerank-v3.5", "cohere", "/rerank", {"model": "rerank-v3.5", "top_n": 2}),
    (
        OpenAiDialect(VLLM),
        "bge",
        "vllm",
        "/rerank",
        {"model": "bge", "top_n": 2, "return_documents": False},
    ),
    (  # such as Voyage, where it is `top_k`
        OpenAiDialect(GENERIC),
        "rerank-2.5",
        "openai-compatible",
        "/rerank",
        {"model": "rerank-2.5", "return_documents": False},
    ),
    (
        OpenAiDialect(TEI),
        "bge",
        "tei",
        "/rerank",
        {"model": "bge", "texts": FIELDS["documents"], "return_documents": False},
    ),
    (
        BedrockDialect(),
        "cohere.rerank-v3-5:0",
        "bedrock",
        "/model/cohere.rerank-v3-5%3A0/invoke",
        {"top_n": 2, "api_version": 2},
    ),
]


@pytest.mark.parametrize(("dialect", "model", "provider", "path", "more"), REQUESTS)
def test_a_request_is_sent_in_the_format_of_the_server(
    dialect: Dialect, model: str, provider: str, path: str, more: dict[str, Any]
) -> None:
    call = dialect.ask_ranking(model, ASKED)
    wanted = FIELDS | more
    if "texts" in wanted:
        del wanted["documents"]
    assert (call.path, json.loads(call.body)) == (path, wanted)
    all_of_them = json.loads(dialect.ask_ranking(model, attrs.evolve(ASKED, top=None)).body)
    assert "top_n" not in all_of_them
    with_more = dialect.ask_ranking(model, attrs.evolve(ASKED, extras={provider: EXTRAS}))
    assert json.loads(with_more.body) == wanted | EXTRAS


ANSWERS: list[tuple[str, Any, Ranking]] = [
    (
        "Cohere",
        {
            "id": "1",
            "results": RESULTS,
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 3}},
        },
        Ranking(RANKED, searches=3),
    ),
    (
        "Jina, vLLM, Together",
        {
            "model": "jina-reranker-v2",
            "usage": {"total_tokens": 41},
            "results": [{**each, "document": {"text": "..."}} for each in RESULTS],
        },
        Ranking(RANKED, Usage(41), "jina-reranker-v2"),
    ),
    (
        "llama.cpp",
        {"object": "list", "usage": {"prompt_tokens": 7, "total_tokens": 7}, "results": RESULTS},
        Ranking(RANKED, Usage(7)),
    ),
    (
        "SiliconFlow",
        {
            "results": RESULTS,
            "meta": {"billed_units": {"input_tokens": 9, "search_units": 0}},
        },
        Ranking(RANKED, Usage(9)),
    ),
    (
        "Voyage",
        {"object": "list", "data": RESULTS, "model": "rerank-2.5", "usage": {"total_tokens": 26}},
        Ranking(RANKED, Usage(26), "rerank-2.5"),
    ),
    (
        "Text Embeddings Inference",
        [{"index": 2, "score": 0.9}, {"index": 0, "score": 0.25}],
        Ranking(RANKED),
    ),
    ("a score of zero", {"results": [{"index": 0, "score": 0}]}, Ranking((Ranked(0, 0.0),))),
]
DIALECTS: list[Dialect] = [CohereDialect(), OpenAiDialect(GENERIC), BedrockDialect()]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("server", "body", "read"), ANSWERS)
def test_the_answer_of_any_server_is_read(
    server: str, body: Any, read: Ranking, dialect: Dialect
) -> None:
    assert dialect.decode_ranking(json.dumps(body).encode()) == read, server


WRONG: list[tuple[bytes, type[ModelError], str]] = [
    (b'{"results": [{"index": 0}]}', MalformedStreamError, "for text 0, has no score"),
    (b'{"results": [{"index": 0, "score": NaN}]}', MalformedStreamError, "has no score"),
    (b'{"results": [{"score": 1}]}', MalformedStreamError, "index"),
    (b'{"results": [{"index": "0", "score": 1}]}', MalformedStreamError, "index"),
    (b'{"results": [{"index": 0, "score": "1"}]}', MalformedStreamError, "score"),
    (b'{"id": "1"}', MalformedStreamError, "no results"),
    (b'{"results": {}}', MalformedStreamError, "ranking"),
    (b"<html>", MalformedStreamError, "ranking"),
    (b"", MalformedStreamError, "ranking"),
    (b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', RateLimitError, "slow"),
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("body", "kind", "says"), WRONG)
def test_an_answer_that_is_no_ranking_is_an_error(
    body: bytes, kind: type[ModelError], says: str, dialect: Dialect
) -> None:
    with pytest.raises(kind, match=says):
        dialect.decode_ranking(body)


@pytest.mark.parametrize(
    ("dialect", "model"),
    [
        (AnthropicDialect(), "claude-haiku-4-5"),
        (OpenAiDialect(), "gpt-5"),
        (BedrockDialect(), "amazon.nova-lite-v1:0"),
    ],
)
def test_a_server_without_reranking_is_sent_nothing(dialect: Dialect, model: str) -> None:
    with pytest.raises(CapabilityError, match="rerank"):
        dialect.ask_ranking(model, ASKED)


def test_an_answer_of_a_provider_without_reranking_is_an_error() -> None:
    with pytest.raises(MalformedStreamError, match="has no reranking, but sent b'hm'"):
        AnthropicDialect().decode_ranking(b"hm")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"message": "invalid request: list of documents must not be empty"}),
        (413, {"error": "Input validation error: `inputs` must have less than 512 tokens"}),
        (429, {"message": "You are using a Trial key, limited to 10 calls / minute"}),
    ],
)
def test_what_a_provider_says_of_documents_is_classified(status: int, body: dict[str, str]) -> None:
    error = CohereDialect().error(status, {}, json.dumps(body).encode(), 0.0)
    assert isinstance(error, RateLimitError if status == 429 else InvalidRequestError)
    (text,) = body.values()
    assert text in str(error)
