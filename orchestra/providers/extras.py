"""A dialect that adds a deployment's own words to every request: `[models.NAME.extras]`."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchestra.codecs.dialect import Call, Decoder, Dialect
from orchestra.errors import ModelError
from orchestra.values import ChatRequest, Embeddings, EmbedRequest, Extras, Json, ModelEvent


def with_extras(dialect: Dialect, name: str, extras: Json) -> Dialect:
    """The dialect, with these extras in what it asks; those of a request itself count for more.

    `name` is that under which the dialect looks for a request's extras.
    """
    return ExtrasDialect(dialect, name, extras) if extras else dialect


@attrs.frozen
class ExtrasDialect:
    """See `with_extras`."""

    dialect: Dialect
    name: str
    extras: Json

    @property
    def texts_max(self) -> int:
        """As of the dialect."""
        return self.dialect.texts_max

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        """The dialect's call, with the extras in its body."""
        request = attrs.evolve(request, extras=self._merged(request.extras))
        return self.dialect.ask(model, request, stream=stream)

    def decoder(self) -> Decoder:
        """The dialect's own."""
        return self.dialect.decoder()

    def decode(self, body: bytes) -> list[ModelEvent]:
        """As the dialect does."""
        return self.dialect.decode(body)

    def ask_embeddings(self, model: str, request: EmbedRequest) -> Call:
        """The dialect's call, with the extras in its body."""
        request = attrs.evolve(request, extras=self._merged(request.extras))
        return self.dialect.ask_embeddings(model, request)

    def decode_embeddings(self, body: bytes) -> Embeddings:
        """As the dialect does."""
        return self.dialect.decode_embeddings(body)

    def error(
        self, status: int, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> ModelError:
        """As the dialect does."""
        return self.dialect.error(status, headers, body, now_s)

    def _merged(self, extras: Extras) -> Extras:
        return {**extras, self.name: {**self.extras, **extras.get(self.name, {})}}
