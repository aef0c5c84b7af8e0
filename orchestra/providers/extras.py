"""A dialect that adds a model's configured `extras` and `prompt_cache` to every request."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchestra.codecs.dialect import Call, Decoder, Dialect
from orchestra.codecs.prompt_cache import with_marks
from orchestra.errors import ModelError
from orchestra.values import ChatRequest, Embeddings, EmbedRequest, Extras, Json, ModelEvent


def as_deployed(dialect: Dialect, name: str, extras: Json, *, prompt_cache: bool) -> Dialect:
    """The dialect with these extras added to requests; a request's own extras override them.

    `name` is the dialect's key in a request's extras. With `prompt_cache`, requests get marks for
    the provider's prompt cache, unless they have marks of their own.
    """
    return (
        DeployedDialect(dialect, name, extras, prompt_cache) if extras or prompt_cache else dialect
    )


@attrs.frozen
class DeployedDialect:
    """See `as_deployed`."""

    dialect: Dialect
    name: str
    extras: Json
    prompt_cache: bool

    @property
    def texts_max(self) -> int:
        """The dialect's limit."""
        return self.dialect.texts_max

    @property
    def texts_tokens_max(self) -> int | None:
        """The dialect's limit."""
        return self.dialect.texts_tokens_max

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        """The dialect's call, with the configured extras and marks."""
        request = attrs.evolve(request, extras=self._merged(request.extras))
        if self.prompt_cache:
            request = with_marks(request)
        return self.dialect.ask(model, request, stream=stream)

    def decoder(self) -> Decoder:
        """The dialect's decoder."""
        return self.dialect.decoder()

    def decode(self, body: bytes) -> list[ModelEvent]:
        """As in the dialect."""
        return self.dialect.decode(body)

    def ask_embeddings(self, model: str, request: EmbedRequest) -> Call:
        """The dialect's call, with the extras in its body."""
        request = attrs.evolve(request, extras=self._merged(request.extras))
        return self.dialect.ask_embeddings(model, request)

    def decode_embeddings(self, body: bytes) -> Embeddings:
        """As in the dialect."""
        return self.dialect.decode_embeddings(body)

    def error(
        self, status: int, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> ModelError:
        """As in the dialect."""
        return self.dialect.error(status, headers, body, now_s)

    def _merged(self, extras: Extras) -> Extras:
        if not self.extras:
            return extras
        return {**extras, self.name: {**self.extras, **extras.get(self.name, {})}}
