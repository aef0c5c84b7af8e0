"""Embedders from models, and models from embedders."""

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
"""A vector whose length is this near to 1 is not scaled: float32 as text is not more exact."""


class RemoteEmbedder(Embedder):
    """An `Embedder` that uses a model; its vectors are scaled to unit length.

    `dimensions` is what each vector must have; None accepts the length of the first vector. If the
    model can shorten its vectors (`shortens`), this length is requested. `identity` identifies the
    model: see `Embedder`.
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
        self._requested = dimensions if shortens else None

    @property
    def dimensions(self) -> int:
        """How many numbers each vector has.

        Raises:
            BindingError: it is not configured, and no vector has been made yet.
        """
        if self._dimensions is None:
            raise BindingError(
                f"the dimensions of embedder {self._name!r} are unknown; write "
                f"`dimensions = NUMBER` into [embedders.{self._name}]"
            )
        return self._dimensions

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        request = EmbedRequest(tuple(texts), purpose, self._requested)
        found = (await self._model.embed(request)).vectors
        if self._dimensions is None and found:
            self._dimensions = len(found[0])
        for vector in found:
            if len(vector) != self._dimensions:
                raise MalformedStreamError(
                    f"embedder {self._name!r} returned a vector of {len(vector)} numbers, but its "
                    f"dimensions are {self._dimensions}; correct `dimensions` in "
                    f"[embedders.{self._name}]"
                )
        return [unit(vector) for vector in found]


class EmbedderModel(Model):
    """A `Model` that uses an embedder: it makes embeddings, and cannot generate text."""

    capabilities = Capabilities(embeddings=True, reranking=False)

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Always raises CapabilityError, since there is no text."""
        del request
        name = type(self.embedder).__name__
        raise CapabilityError(
            f"{name} makes embeddings and cannot generate text; use a model that generates text"
        )

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order, as the embedder returns them.

        Raises:
            CapabilityError: the request wants other dimensions than the embedder has.
            MalformedStreamError: the embedder did not return one vector for each text.
        """
        if request.dimensions not in (None, self.embedder.dimensions):
            raise CapabilityError(
                f"{type(self.embedder).__name__} makes vectors of {self.embedder.dimensions} "
                f"dimensions, not of {request.dimensions}; leave `dimensions` out"
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
