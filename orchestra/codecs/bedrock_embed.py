"""Embeddings on Bedrock, by InvokeModel: Titan's, one text in a call, and Cohere's.

An answer does not say whose it is; its keys do.
"""

from __future__ import annotations

import msgspec

from orchestra.accounts import Usage
from orchestra.codecs.arguments import merged
from orchestra.codecs.bedrock_request import EXTRAS
from orchestra.codecs.faults import as_error, read_error
from orchestra.codecs.frames import decoded
from orchestra.errors import CapabilityError, MalformedStreamError
from orchestra.values import Embeddings, EmbedRequest, Json, Vector

_PURPOSES = {
    "query": "search_query",
    "classification": "classification",
    "clustering": "clustering",
}


class _ByType(msgspec.Struct):
    floats: list[list[float]] | None = msgspec.field(default=None, name="float")


class _Vectors(msgspec.Struct, rename="camel"):
    embedding: list[float] | None = None
    embeddings_by_type: dict[str, list[float]] | None = None
    embeddings: list[list[float]] | _ByType | None = None
    input_text_token_count: int | None = None


_vectors = msgspec.json.Decoder(_Vectors)


def embed_body(model: str, request: EmbedRequest) -> Json:
    """The body of a call; a purpose not named is `document`, and Titan knows none.

    Raises:
        CapabilityError: the model is of neither family, or cannot take so many texts.
    """
    extras = request.extras.get(EXTRAS, {})
    if "titan-embed" in model:
        if len(request.texts) != 1:
            raise CapabilityError(
                f"{model} embeds one text in a call, not {len(request.texts)}: make a call for each"
            )
        body: Json = {"inputText": request.texts[0]}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return merged(body, extras)
    if "cohere.embed" in model:
        purpose = _PURPOSES.get(request.purpose or "", "search_document")
        body = {"texts": list(request.texts), "input_type": purpose, "embedding_types": ["float"]}
        if request.dimensions is not None:
            body["output_dimension"] = request.dimensions
        return merged(body, extras)
    raise CapabilityError(
        f"no body for embeddings of {model!r} is known: only for models with titan-embed or "
        "cohere.embed in their id"
    )


def decode_embeddings(body: bytes) -> Embeddings:
    """The vectors of such a call.

    Raises:
        ModelError: an error in place of an answer.
        MalformedStreamError: there are no vectors in it.
    """
    found = decoded(_vectors, body, "an answer with embeddings")
    rows = found.embeddings.floats if isinstance(found.embeddings, _ByType) else found.embeddings
    if rows is None:
        one = found.embedding or (found.embeddings_by_type or {}).get("float")
        rows = None if one is None else [one]
    if rows is None:
        said = read_error(body)
        if said.message:
            raise as_error(said)
        raise MalformedStreamError(f"an answer without embeddings: {body[:200]!r}")
    count = found.input_text_token_count
    try:
        vectors = tuple(map(Vector.of, rows))
    except OverflowError as error:
        raise MalformedStreamError(
            f"an embedding has a number that is no float32: {body[:200]!r}"
        ) from error
    return Embeddings(vectors, None if count is None else Usage(input_tokens=count))
