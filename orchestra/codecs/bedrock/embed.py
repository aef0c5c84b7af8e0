"""Embeddings on Bedrock, by InvokeModel: Titan's and Nova's, one text in a call, and Cohere's.

An answer does not name its model, so its keys decide the format. Cohere's rerank models take
its own fields, with the version of its API (the SDK of Cohere for Bedrock, and users' code).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from orchestra.codecs.bedrock.extra_fields import EXTRAS
from orchestra.codecs.cohere.embeddings import VectorsByType, embed_fields
from orchestra.codecs.dialect import not_answered
from orchestra.codecs.framing.mending import read_whole
from orchestra.codecs.rankings import rerank_fields
from orchestra.codecs.raw_json import merged
from orchestra.codecs.usage_counts import input_usage
from orchestra.codecs.vectors import vectors_of
from orchestra.errors import CapabilityError
from orchestra.rankings import RerankRequest
from orchestra.values import Embeddings, EmbedRequest, Json

_NOVA_PURPOSES = {
    "query": "GENERIC_RETRIEVAL",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}


class _One(msgspec.Struct):
    """One of Nova's vectors, with its type."""

    embedding: list[float]


class _Vectors(msgspec.Struct, rename="camel"):
    embedding: list[float] | None = None
    embeddings_by_type: dict[str, list[float]] | None = None
    embeddings: list[list[float] | _One] | VectorsByType | None = None
    input_text_token_count: object = None


_vectors = msgspec.json.Decoder(_Vectors)


def embed_body(model: str, request: EmbedRequest) -> Json:
    """The body of a call; the default purpose is `document`, and Titan has no purposes.

    Raises:
        CapabilityError: the model's family is unknown, or takes fewer texts in a call.
    """
    extras = request.extras.get(EXTRAS, {})
    for family, body_of in _BODIES.items():
        if family in model:
            return merged(body_of(model, request), extras)
    raise CapabilityError(
        f"embeddings of {model!r} on Bedrock are not supported, only those of models with one of "
        f"these in their id: {', '.join(_BODIES)}"
    )


def _titan(model: str, request: EmbedRequest) -> Json:
    body: Json = {"inputText": _only_text(model, request)}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return body


def _nova(model: str, request: EmbedRequest) -> Json:
    """The body for Nova, which refuses a text that is too long, like the other families."""
    text = {"truncationMode": "NONE", "value": _only_text(model, request)}
    purpose = _NOVA_PURPOSES.get(request.purpose or "", "GENERIC_INDEX")
    params: Json = {"embeddingPurpose": purpose, "text": text}
    if request.dimensions is not None:
        params["embeddingDimension"] = request.dimensions
    return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params}


def _cohere(_: str, request: EmbedRequest) -> Json:
    return embed_fields(request)


def _only_text(model: str, request: EmbedRequest) -> str:
    if len(request.texts) != 1:
        raise CapabilityError(
            f"{model} embeds one text in a call, not {len(request.texts)}: send each text in its "
            "own call"
        )
    return request.texts[0]


_BODIES: Mapping[str, Callable[[str, EmbedRequest], Json]] = {
    "titan-embed": _titan,
    "multimodal-embeddings": _nova,
    "cohere.embed": _cohere,
}
"""The body of each family, by a part of the model's id."""


def rerank_body(model: str, request: RerankRequest) -> Json:
    """The body of a rerank call.

    Raises:
        CapabilityError: it is not one of Cohere's rerank models.
    """
    if "cohere.rerank" not in model:
        raise CapabilityError(
            f"reranking with {model!r} on Bedrock is not supported, only with models that have "
            "`cohere.rerank` in their id"
        )
    return merged({**rerank_fields(request), "api_version": 2}, request.extras.get(EXTRAS, {}))


def decode_embeddings(body: bytes) -> Embeddings:
    """The vectors in the answer to an embedding call.

    Raises:
        ModelError: the body is an error.
        MalformedStreamError: the body has no vectors.
    """
    found = read_whole(_vectors, body, "an answer with embeddings")
    rows = _rows(found.embeddings)
    if rows is None:
        by_type = found.embeddings_by_type or {}
        one = found.embedding or by_type.get("float") or by_type.get("binary")
        rows = None if one is None else [one]
    if rows is None:
        raise not_answered(body, "an answer without embeddings")
    return Embeddings(vectors_of(rows), input_usage(found.input_text_token_count))


def _rows(
    found: list[list[float] | _One] | VectorsByType | None,
) -> Sequence[list[float] | str] | None:
    if found is None or isinstance(found, VectorsByType):
        return None if found is None else found.rows()
    return [each.embedding if isinstance(each, _One) else each for each in found]
