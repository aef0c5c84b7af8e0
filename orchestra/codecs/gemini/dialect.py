"""Gemini's dialect, at AI Studio and at Vertex AI.

Paths are below `https://generativelanguage.googleapis.com/v1beta`, or with `vertex` below
`https://LOCATION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/LOCATION`.

Every event of a stream is a complete response, with the next parts of the answer. The last one
has no mark, so it is known only at the end of the body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote

import msgspec

from orchestra.accounts import Usage
from orchestra.codecs.dialect import Call, Dialect, not_answered
from orchestra.codecs.framing.frames import BEFORE_JSON, FRAME_BYTES_MAX, FrameDecoder
from orchestra.codecs.framing.mending import read_whole
from orchestra.codecs.framing.sse import SseFraming
from orchestra.codecs.gemini.answer import GeminiAnswer
from orchestra.codecs.gemini.request import gemini_body, studio_embed_body, vertex_embed_body
from orchestra.codecs.raw_json import NOT_JSON
from orchestra.codecs.seals import GEMINI, VERTEX
from orchestra.codecs.usage_counts import token_count
from orchestra.codecs.vectors import vectors_of
from orchestra.errors import MalformedStreamError
from orchestra.values import ChatRequest, Embeddings, EmbedRequest, Json, ModelEvent

_SAFE = "/@"
_VERTEX_TEXTS_MAX = 1
"""At Vertex AI, `gemini-embedding-001` takes one text at a time; older models take 250."""


class _Numbers(msgspec.Struct):
    values: list[float]
    statistics: Json | None = None


class _Prediction(msgspec.Struct):
    embeddings: _Numbers


class _Embedded(msgspec.Struct, rename="camel"):
    embedding: _Numbers | None = None
    embeddings: list[_Numbers] | None = None
    predictions: list[_Prediction] | None = None
    usage_metadata: Json | None = None


RESPONSES_MAX = 50_000
"""The most responses in a JSON body: they are all read at once, which blocks other tasks."""
_LISTS = msgspec.json.Decoder(list[msgspec.Raw])
_ONE = msgspec.json.Decoder(msgspec.Raw)
_ANY = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,]*")
_EMBEDDED = msgspec.json.Decoder(_Embedded)


class GeminiDialect(Dialect):
    """The Gemini API; with `vertex`, that of Vertex AI.

    Model names may have their prefix (`models/gemini-3-flash`) or not.
    """

    texts_max = 100

    def __init__(self, *, vertex: bool = False) -> None:
        self._vertex = vertex
        self._origin = VERTEX if vertex else GEMINI
        if vertex:
            self.texts_max = _VERTEX_TEXTS_MAX

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        act = "streamGenerateContent?alt=sse" if stream else "generateContent"
        body = msgspec.json.encode(gemini_body(model, request, self._origin))
        return Call(f"/{quote(self._path(model), _SAFE)}:{act}", body)

    def decoder(self) -> GeminiDecoder:
        return GeminiDecoder(self._origin)

    def decode(self, body: bytes) -> list[ModelEvent]:
        answer = GeminiAnswer(self._origin, whole=True)
        events: list[ModelEvent] = []
        for response in _responses(body) if _is_list(body) else (body,):
            events += answer.take(response)
        if not answer.stopped:
            raise MalformedStreamError(f"this is not an answer of Gemini: {body[:200]!r}")
        return events + answer.end()

    def ask_embeddings(self, model: str, request: EmbedRequest) -> Call:
        if self._vertex:
            act, body = "predict", vertex_embed_body(request)
        else:
            act, body = "batchEmbedContents", studio_embed_body(self._path(model), request)
        return Call(f"/{quote(self._path(model), _SAFE)}:{act}", msgspec.json.encode(body))

    def decode_embeddings(self, body: bytes) -> Embeddings:
        found = read_whole(_EMBEDDED, body, "Gemini's embeddings")
        if found.predictions is not None:
            numbers = [each.embeddings for each in found.predictions]
        elif found.embeddings is not None:
            numbers = found.embeddings
        elif found.embedding is not None:  # the answer of `embedContent`
            numbers = [found.embedding]
        else:
            raise not_answered(body, "these are not embeddings of Gemini")
        return Embeddings(
            vectors_of(each.values for each in numbers), _embedding_usage(found, numbers)
        )

    def _path(self, model: str) -> str:
        """The model's name with its prefix."""
        name = model.strip("/")
        if not self._vertex:
            return name if name.startswith(("models/", "tunedModels/")) else f"models/{name}"
        if name.startswith(("publishers/", "endpoints/")):
            return name
        return f"publishers/google/models/{name.removeprefix('models/')}"


class GeminiDecoder(FrameDecoder):
    """Decodes a streamed answer: Server-Sent Events, or without `alt=sse` one JSON array.

    Some gateways send one response per line instead.
    """

    def __init__(self, origin: str = GEMINI) -> None:
        super().__init__(_GeminiFraming())
        self._answer = GeminiAnswer(origin)

    def _take(self, name: str, payload: bytes) -> None:
        if name != "ping":  # from gateways
            self._events += self._answer.take(payload)
            self._stopped = self._answer.stopped

    def _end(self) -> None:
        self._events += self._answer.end()


class _GeminiFraming(SseFraming):
    """Server-Sent Events, unless the body begins like JSON: then it is kept as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self._json: list[bytes] | None = None
        self._json_bytes = 0
        self._started = False

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        start = data.lstrip(BEFORE_JSON) if not self._started else b""
        if start:
            self._started = True
            self._json = [] if start[:1] in (b"[", b"{") else None
        if self._json is None:
            yield from super().feed(data)
            return
        self._json.append(data)
        self._json_bytes += len(data)
        if self._json_bytes > FRAME_BYTES_MAX:
            raise MalformedStreamError(f"a JSON answer is over {FRAME_BYTES_MAX} bytes")

    def close(self) -> Iterator[tuple[str, bytes]]:
        if self._json is None:
            yield from super().close()
        else:
            for response in _responses(b"".join(self._json)):
                yield "", response


def _is_list(body: bytes) -> bool:
    return body.lstrip(BEFORE_JSON).startswith(b"[")


def _responses(body: bytes) -> Iterator[bytes]:
    """The responses in a body: a single one, an array of them, or one after another.

    Raises:
        MalformedStreamError: the body is none of these, was cut, or has too many responses;
            complete responses before the error have been yielded.
    """
    try:
        found = _LISTS.decode(body) if _is_list(body) else [_ONE.decode(body)]
    except NOT_JSON:
        yield from _one_by_one(body)
    else:
        yield from map(bytes, found[:RESPONSES_MAX])
        if len(found) > RESPONSES_MAX:
            raise _too_many()


def _one_by_one(body: bytes) -> Iterator[bytes]:
    """The responses in a body that is not one JSON document, as far as they can be read."""
    text = body.decode("utf-8-sig", "replace")
    given = 0
    at = text.find("[") + 1 if (in_array := _is_list(body)) else 0
    while (at := _next_response(text, at)) < len(text):
        if in_array and text[at] == "]" and not text[at + 1 :].strip():
            return
        try:
            _, end = _ANY.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise MalformedStreamError(
                f"a response of Gemini is invalid: {text[at : at + 200]!r}"
            ) from error
        given += 1
        if given > RESPONSES_MAX:
            raise _too_many()
        yield text[at:end].encode()
        at = end
    if in_array:
        raise MalformedStreamError("the array of Gemini's responses has no end: it was cut")


def _too_many() -> MalformedStreamError:
    return MalformedStreamError(
        f"Gemini sent over {RESPONSES_MAX} responses in one JSON body; request the stream with "
        "alt=sse"
    )


def _next_response(text: str, at: int) -> int:
    """The position of the next response."""
    found = _BETWEEN.match(text, at)
    return at if found is None else found.end()


def _embedding_usage(found: _Embedded, numbers: list[_Numbers]) -> Usage | None:
    """The usage; None if a count is missing, as mostly at AI Studio. Vertex counts each text."""
    counts = [
        token_count(each.statistics.get("token_count", 0)) for each in numbers if each.statistics
    ]
    if not counts and found.usage_metadata:
        counts = [token_count(found.usage_metadata.get("promptTokenCount", 0))]
    known = [each for each in counts if each is not None]
    return Usage(sum(known)) if known and known == counts else None
