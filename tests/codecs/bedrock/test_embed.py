"""Embeddings on Bedrock: what is asked, and how an answer is known by its keys."""

from __future__ import annotations

import json

import pytest

from orchestra.accounts import Usage
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.errors import (
    CapabilityError,
    MalformedStreamError,
    ModelError,
)
from orchestra.values import EmbedRequest, Vector

DIALECT = BedrockDialect()
CLAUDE = "anthropic.claude-sonnet-4-6"
TITAN = "amazon.titan-embed-text-v2:0"
NOVA = "amazon.nova-2-multimodal-embeddings-v1:0"


def test_titan_embeds_one_text_in_a_call() -> None:
    call = DIALECT.ask_embeddings(TITAN, EmbedRequest(("a",), dimensions=256))
    assert call.path == "/model/amazon.titan-embed-text-v2%3A0/invoke"
    assert json.loads(call.body) == {"inputText": "a", "dimensions": 256}
    with pytest.raises(CapabilityError, match="one text"):
        DIALECT.ask_embeddings(TITAN, EmbedRequest(("a", "b")))


def test_nova_embeds_one_text_in_a_call_and_knows_what_for() -> None:
    request = EmbedRequest(("a",), "query", 384)
    assert json.loads(DIALECT.ask_embeddings(NOVA, request).body) == {
        "taskType": "SINGLE_EMBEDDING",
        "singleEmbeddingParams": {
            "embeddingPurpose": "GENERIC_RETRIEVAL",
            "embeddingDimension": 384,
            "text": {"truncationMode": "NONE", "value": "a"},
        },
    }
    asked = json.loads(DIALECT.ask_embeddings(NOVA, EmbedRequest(("a",))).body)
    assert asked["singleEmbeddingParams"] == {
        "embeddingPurpose": "GENERIC_INDEX",
        "text": {"truncationMode": "NONE", "value": "a"},
    }
    with pytest.raises(CapabilityError, match="one text"):
        DIALECT.ask_embeddings(NOVA, EmbedRequest(("a", "b")))


def test_cohere_embeds_many_and_knows_what_for() -> None:
    request = EmbedRequest(("a", "b"), "query", 512, {"bedrock": {"truncate": "END"}})
    asked = json.loads(DIALECT.ask_embeddings("eu.cohere.embed-v4:0", request).body)
    assert asked == {
        "texts": ["a", "b"],
        "input_type": "search_query",
        "embedding_types": ["float"],
        "output_dimension": 512,
        "truncate": "END",
    }


def test_a_text_with_no_purpose_is_a_document() -> None:
    asked = json.loads(DIALECT.ask_embeddings("cohere.embed-english-v3", EmbedRequest(("a",))).body)
    assert asked == {
        "texts": ["a"],
        "input_type": "search_document",
        "embedding_types": ["float"],
    }


def test_no_other_model_embeds() -> None:
    with pytest.raises(CapabilityError, match="titan-embed"):
        DIALECT.ask_embeddings(CLAUDE, EmbedRequest(("a",)))


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b'{"embedding":[1.0,2.0],"inputTextTokenCount":3}', Usage(3)),
        (b'{"embeddingsByType":{"float":[1.0,2.0]},"inputTextTokenCount":3}', Usage(3)),
        (b'{"embeddings":[[1.0,2.0]],"response_type":"embeddings_floats"}', None),
        (b'{"embeddings":{"float":[[1.0,2.0]]},"response_type":"embeddings_by_type"}', None),
        (b'{"embeddings":[{"embeddingType":"TEXT","embedding":[1.0,2.0]}]}', None),
        (b'{"embeddings":{"float":null,"int8":[[1,2]]}}', None),
        (b'{"embeddings":{"ubinary":[[1,2]]}}', None),
        (b'{"embeddings":{"int8":[[7,7]],"float":[[1,2]]}}', None),
        (b'{"embeddingsByType":{"binary":[1,2]},"inputTextTokenCount":3}', Usage(3)),
    ],
)
def test_vectors_are_known_by_their_keys(body: bytes, usage: Usage | None) -> None:
    found = DIALECT.decode_embeddings(body)
    assert (found.vectors, found.usage) == ((Vector.of([1.0, 2.0]),), usage)


@pytest.mark.parametrize("body", [b"{}", b'{"embedding":[1e300]}', b'{"embeddings":{"int8":null}}'])
def test_what_has_no_float32_vectors_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedStreamError):
        DIALECT.decode_embeddings(body)


def test_an_error_in_place_of_vectors_is_told() -> None:
    with pytest.raises(ModelError, match="it broke"):
        DIALECT.decode_embeddings(b'{"message":"it broke"}')
