"""Cohere's embeddings, at Cohere and on Bedrock: the fields of a call, and the vectors by type."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestra.codecs.raw_json import without_nulls
from orchestra.values import EmbedRequest, Json

_INPUT_TYPES: Mapping[str | None, str] = {
    None: "search_document",
    "document": "search_document",
    "query": "search_query",
}


class VectorsByType(msgspec.Struct, rename={"numbers": "float", "texts": "base64"}):
    """Vectors by type; at most one type is requested."""

    numbers: list[list[float]] | None = None
    texts: list[str] | None = None
    int8: list[list[float]] | None = None
    uint8: list[list[float]] | None = None
    binary: list[list[float]] | None = None
    ubinary: list[list[float]] | None = None

    def rows(self) -> list[list[float]] | list[str] | None:
        """The vectors of the first type that the answer has; None without any."""
        types = (self.numbers, self.texts, self.int8, self.uint8, self.binary, self.ubinary)
        return next((rows for rows in types if rows is not None), None)


def embed_fields(request: EmbedRequest) -> Json:
    """The fields of a call, without model and extras; the default purpose is `document`."""
    return without_nulls(
        {
            "input_type": _INPUT_TYPES.get(request.purpose, request.purpose),
            "texts": request.texts,
            "embedding_types": ["float"],
            "output_dimension": request.dimensions,
        }
    )
