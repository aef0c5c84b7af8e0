"""OpenAI's embeddings: the body for `/embeddings`, and the vectors of the answer."""

from __future__ import annotations

from array import array
from base64 import b64decode

import msgspec

from orchestra.codecs.framing.mending import JsonReader
from orchestra.codecs.openai.quirks import Quirks
from orchestra.codecs.openai.request import with_extras
from orchestra.codecs.openai.shapes import id_or_index
from orchestra.codecs.openai.usage import embedding_usage_of
from orchestra.codecs.vectors import vector_of
from orchestra.errors import CapabilityError, MalformedStreamError
from orchestra.values import Embeddings, EmbedRequest, Json, Vector

_NUMBERS, _FLOAT32 = "float", "base64"


class _Item(msgspec.Struct, gc=False):
    embedding: str | list[float]
    index: int | None = None


class _Answer(msgspec.Struct, gc=False):
    data: list[_Item] | None = None
    model: str | None = None
    usage: object = None
    error: object = None


_ANSWERS = msgspec.json.Decoder(_Answer)


def embed_body(model: str, request: EmbedRequest, quirks: Quirks) -> Json:
    """The body of an embedding call; it cannot express the purpose of the vectors.

    Raises:
        CapabilityError: this server has no embeddings, or the extras ask for a format of vectors
            that is not read.
    """
    if not quirks.embeddings:
        raise CapabilityError(
            f"{quirks.name!r} has no embeddings, and cannot embed {len(request.texts)} texts; "
            "ask an embedder of another provider"
        )
    body: Json = {"model": model, "input": list(request.texts)}
    if quirks.embeddings_format != _NUMBERS:
        body["encoding_format"] = quirks.embeddings_format
    if request.dimensions is not None:
        body[quirks.dimensions_key] = request.dimensions
    body = with_extras(body, request.extras, quirks)
    asked = body.get("encoding_format", _NUMBERS)
    if asked not in {_NUMBERS, quirks.embeddings_format}:
        raise CapabilityError(
            f"the extras ask {quirks.name!r} for vectors with encoding_format={asked!r}, but its "
            f"vectors are read as {quirks.embeddings_format!r}; leave `encoding_format` out"
        )
    return body


def embeddings_of(body: bytes, quirks: Quirks) -> Embeddings:
    """The vectors of an answer, in the order of the texts, in any encoding.

    Some servers give every vector the index 0: then they are in order.

    Raises:
        ModelError: the body is an error.
        MalformedStreamError: the body has no vectors, or not one for each index.
    """
    answer = JsonReader(id_or_index).read(_ANSWERS, body, "the answer")
    if answer.error:
        raise quirks.error_of(body)
    if answer.data is None:
        raise MalformedStreamError(f"the answer has no embeddings: {body[:200]!r}")
    vectors: dict[int, Vector] = {}
    counted = any(item.index for item in answer.data)
    for position, item in enumerate(answer.data):
        index = item.index if counted and item.index is not None else position
        vectors[index] = _vector(item.embedding, index, quirks)
    if sorted(vectors) != list(range(len(answer.data))):
        raise MalformedStreamError(
            f"the answer has {len(answer.data)} vectors, with wrong indices: {sorted(vectors)[:20]}"
        )
    ordered = tuple(vectors[index] for index in range(len(vectors)))
    return Embeddings(ordered, embedding_usage_of(answer.usage), answer.model or "")


def _vector(given: str | list[float], index: int, quirks: Quirks) -> Vector:
    what = f"the vector with index {index}"
    if isinstance(given, list) or quirks.embeddings_format == _FLOAT32:
        return vector_of(given, what)
    if quirks.embeddings_format == _NUMBERS:
        # Base64 of float32 and of int8 looks the same; the wrong choice would give another vector.
        raise MalformedStreamError(
            f"{what} is base64 of {len(given)} characters, which was not requested from "
            f"{quirks.name!r}, and the type of its numbers is unknown; bind the model with its own "
            "provider, such as `perplexity`"
        )
    try:
        return Vector.of(array("b", b64decode(given, validate=True)))
    except ValueError as error:
        raise MalformedStreamError(f"{what} is not base64: {error}") from error
