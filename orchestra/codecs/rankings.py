"""Reranking in Cohere's format, which nearly all servers share: the fields, and the ranking. Pure.

Cohere's `/v2/rerank` takes `query`, `documents` and `top_n`, and gives `results` with `index` and
`relevance_score`; `meta.billed_units.search_units` counts what it bills (Cohere's API reference;
the types of LiteLLM and xinference). Jina, vLLM, llama.cpp, Together and SiliconFlow give the same
results, with tokens in `usage` (Jina's reference, the docs of OpenVINO and vLLM). Fireworks has
`data` for `results` (its reference); Voyage has that, and `top_k` for `top_n` (its SDK,
clojure-llm-sdk). Text Embeddings Inference takes `texts`, and gives a bare list, with `score` (its
own types, Azure's catalog).
"""

from __future__ import annotations

import msgspec

from orchestra.codecs.dialect import not_answered
from orchestra.codecs.framing.mending import read_whole
from orchestra.codecs.raw_json import object_at
from orchestra.codecs.usage_counts import input_usage, token_count
from orchestra.errors import MalformedStreamError
from orchestra.rankings import Ranked, Ranking, RerankRequest
from orchestra.values import Json


class _Result(msgspec.Struct):
    index: int
    relevance_score: float | None = None
    score: float | None = None


class _Answer(msgspec.Struct):
    results: list[_Result] | None = None
    data: list[_Result] | None = None
    model: object = None
    usage: object = None
    meta: object = None


_ANSWERS = msgspec.json.Decoder(_Answer | list[_Result])


def rerank_fields(
    request: RerankRequest, top_key: str | None = "top_n", texts_key: str = "documents"
) -> Json:
    """The fields of a call, without model and extras; without a key for `top`, all are ranked."""
    fields: Json = {"query": request.query, texts_key: request.texts}
    if top_key is not None and request.top is not None:
        fields[top_key] = request.wanted
    return fields


def ranking_of(body: bytes) -> Ranking:
    """The results of an answer, in its order; not compared with the request.

    Raises:
        ModelError: the body is an error.
        MalformedStreamError: the body has no results, or one without an index or a score.
    """
    found = read_whole(_ANSWERS, body, "the ranking")
    answer = _Answer(found) if isinstance(found, list) else found
    given = answer.results if answer.results is not None else answer.data
    if given is None:
        raise not_answered(body, "the answer has no results of reranking")
    records = {"usage": answer.usage, "meta": answer.meta}
    usage, meta = object_at(records, "usage"), object_at(records, "meta")
    billed = object_at(meta, "billed_units")
    return Ranking(
        tuple(_ranked(at, each) for at, each in enumerate(given)),
        input_usage(
            usage.get("prompt_tokens"),
            usage.get("total_tokens"),
            object_at(meta, "tokens").get("input_tokens"),
            billed.get("input_tokens"),
        ),
        answer.model if isinstance(answer.model, str) else "",
        token_count(billed.get("search_units")) or None,  # SiliconFlow has 0, and bills tokens
    )


def _ranked(at: int, result: _Result) -> Ranked:
    score = result.score if result.relevance_score is None else result.relevance_score
    if score is None:
        raise MalformedStreamError(
            f"result {at} of the ranking, for text {result.index}, has no score"
        )
    return Ranked(result.index, score)
