"""An `Embedder` that uses a model: its vectors have unit length and the promised dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from orchestra.errors import BindingError, CapabilityError, MalformedStreamError
from orchestra.protocols import Embedder, Model, ModelReply
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Purpose,
    Vector,
)

UNIT_TOLERANCE = 1e-3
"""A vector this near to unit length is not scaled: float32 as text is not more exact."""


class RemoteEmbedder(Embedder):
    """The vectors of a model, each scaled to unit length.

    `dimensions` is requested from a model that offers several, and required of every model.
    `identity` identifies the model: see `Embedder`.
    """

    def __init__(
        self,
        model: Model,
        name: str,
        dimensions: int | None,
        *,
        shortens: bool = False,
        identity: str = "",
    ) -> None:
        self.identity = identity
        self._model = model
        self._name = name
        self._dimensions = dimensions
        self._asked = dimensions if shortens else None

    @property
    def dimensions(self) -> int:
        """How many numbers each of its vectors has. Raises BindingError if nobody has said."""
        if self._dimensions is None:
            raise BindingError(
                f"the length of the vectors of embedder {self._name!r} is unknown; write "
                f"`dimensions = NUMBER` into [embedders.{self._name}]"
            )
        return self._dimensions

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        request = EmbedRequest(tuple(texts), purpose, self._asked)
        found = (await self._model.embed(request)).vectors
        if self._dimensions is None and found:
            self._dimensions = len(found[0])
        for vector in found:
            if len(vector) != self._dimensions:
                raise MalformedStreamError(
                    f"embedder {self._name!r} gave a vector of {len(vector)} numbers, but its "
                    f"configuration has dimensions = {self._dimensions}"
                )
        return [unit(vector) for vector in found]


class EmbedderModel(Model):
    """An embedder as a `Model`, which has embeddings but no text."""

    capabilities = Capabilities(embeddings=True)

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """There is no text: always raises CapabilityError."""
        del request
        name = type(self.embedder).__name__
        raise CapabilityError(f"{name} makes vectors, and no text; ask a model that answers")

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order, as the embedder gives them."""
        if request.dimensions not in (None, self.embedder.dimensions):
            raise CapabilityError(
                f"{type(self.embedder).__name__} makes vectors of {self.embedder.dimensions} "
                f"numbers, not of {request.dimensions}; leave `dimensions` out"
            )
        found = await self.embedder.embed(request.texts, purpose=request.purpose)
        if len(found) != len(request.texts):
            raise MalformedStreamError(
                f"the answer has {len(found)} vectors for {len(request.texts)} texts"
            )
        return Embeddings(tuple(found))


def unit(vector: Vector) -> Vector:
    """The vector scaled to length 1; a vector of zeros unchanged."""
    numbers = list(vector)
    length = math.sqrt(math.fsum(number * number for number in numbers))
    if length == 0 or abs(length - 1) < UNIT_TOLERANCE:
        return vector
    return Vector.of([number / length for number in numbers])
