"""Serves OpenAI's `/embeddings`: reads a client's request, and writes the response.

Vectors are kept as little-endian float32: OpenAI's base64 format needs no conversion.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Literal

import attrs
import msgspec

from orchestra.codecs.openai_serving.request import meant_for
from orchestra.codecs.serving.allowlist import USUAL_ALLOWLIST, Allowlist
from orchestra.codecs.serving.requests import asked_of, extras_of, refused
from orchestra.values import Embeddings, EmbedRequest, Json

TEXTS_MAX = 2048
"""The most texts in one request, as at OpenAI."""


@attrs.frozen
class ServedEmbeddings:
    """A client's request: the model, the texts, and the format of the vectors."""

    model: str
    request: EmbedRequest
    base64: bool = False


class EmbeddingsBody(msgspec.Struct):
    """The fields of the body that we read."""

    model: str
    input: str | list[str | int | list[int]]
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    orchestra: dict[str, object] | None = None
    """Options of our own policies."""


_BODIES = msgspec.json.Decoder(EmbeddingsBody)


def served_embeddings(body: bytes, allowed: Allowlist = USUAL_ALLOWLIST) -> ServedEmbeddings:
    """Read the body of a `POST /v1/embeddings`; `allowed` tells which guarded fields are allowed.

    Raises:
        InvalidRequestError: a field is wrong; the message begins with its path.
    """
    asked, everything = asked_of(_BODIES, body)
    extras = extras_of(asked, everything, allowed, meant_for)
    request = EmbedRequest(_texts(asked.input), dimensions=asked.dimensions, extras=extras)
    return ServedEmbeddings(asked.model, request, base64=asked.encoding_format == "base64")


def _texts(given: str | list[str | int | list[int]]) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise refused("input", "it is empty; send a text, or a list of texts")
    if len(texts) > TEXTS_MAX:
        raise refused("input", f"it has {len(texts)} texts; send at most {TEXTS_MAX} at once")
    found = []
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            why = (
                "it is a list of tokens, which only the model that they were made for could read; "
                "send texts (LangChain: `check_embedding_ctx_length=False`)"
            )
            raise refused("input", why)
        if not text:
            raise refused(f"input[{at}]", "it is empty; send a text with content")
        found.append(text)
    return tuple(found)


def embeddings_body(found: Embeddings, *, model: str, usage: Json, base64: bool = False) -> bytes:
    """The body of a response, with the vectors in order."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": b64encode(vector.data).decode() if base64 else list(vector),
        }
        for index, vector in enumerate(found.vectors)
    ]
    return msgspec.json.encode({"object": "list", "data": data, "model": model, "usage": usage})
