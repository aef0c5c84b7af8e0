"""OpenAI's dialect for chat completions and embeddings, with the quirks of a server.

OpenAI has no reranking; servers that have it beside OpenAI's paths do it as Jina does, below
`/rerank`.

Paths are below a base URL that includes the version: `https://api.openai.com/v1`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestra.codecs.dialect import Call, Decoder, Dialect
from orchestra.codecs.faults import http_error
from orchestra.codecs.framing.frames import BEFORE_JSON
from orchestra.codecs.openai.chunks import OpenAiDecoder
from orchestra.codecs.openai.embeddings import embed_body, embeddings_of
from orchestra.codecs.openai.quirks import OPENAI, Quirks
from orchestra.codecs.openai.request import chat_body, with_extras
from orchestra.codecs.rankings import ranking_of, rerank_fields
from orchestra.errors import ModelError
from orchestra.rankings import Ranking, RerankRequest
from orchestra.values import ChatRequest, Embeddings, EmbedRequest, ModelEvent

_STREAMED = (b"data:", b"event:", b"id:", b":")
"""Beginnings of Server-Sent Events; JSON never begins with any of them."""


class OpenAiDialect(Dialect):
    """The requests and answers of a server with these quirks."""

    def __init__(self, quirks: Quirks = OPENAI) -> None:
        self.quirks = quirks

    @property
    def texts_max(self) -> int:
        return self.quirks.texts_max

    @property
    def texts_tokens_max(self) -> int | None:
        return self.quirks.texts_tokens_max

    @property
    def ranked_max(self) -> int | None:
        return self.quirks.ranked_max

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        body = chat_body(model, request, self.quirks, stream=stream)
        return Call("/chat/completions", msgspec.json.encode(body))

    def decoder(self) -> Decoder:
        return OpenAiDecoder(self.quirks)

    def decode(self, body: bytes) -> list[ModelEvent]:
        """The events of a complete answer; some servers stream it even without being asked to."""
        decoder = OpenAiDecoder(self.quirks)
        if not body.lstrip(BEFORE_JSON).startswith(_STREAMED):
            return decoder.whole(body)
        return [*decoder.feed(body), *decoder.close()]

    def ask_embeddings(self, model: str, request: EmbedRequest) -> Call:
        body = embed_body(model, request, self.quirks)
        return Call(self.quirks.embeddings_path, msgspec.json.encode(body))

    def decode_embeddings(self, body: bytes) -> Embeddings:
        return embeddings_of(body, self.quirks)

    def ask_ranking(self, model: str, request: RerankRequest) -> Call:
        quirks = self.quirks
        if not quirks.reranking:
            return super().ask_ranking(model, request)
        fields = rerank_fields(request, quirks.rerank_top_key, quirks.rerank_texts_key)
        body = with_extras(
            {"model": model, **fields, "return_documents": False}, request.extras, quirks
        )
        return Call("/rerank", msgspec.json.encode(body))

    def decode_ranking(self, body: bytes) -> Ranking:
        return ranking_of(body)

    def error(
        self, status: int, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> ModelError:
        return http_error(status, headers, body, now_s, kind=self.quirks.marked_kind(body))
