"""A stand-in: a model that is asked in the place of one over the network."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from orchestra.answers import Completion
from orchestra.protocols import Model, ModelReply
from orchestra.values import Capabilities, ChatRequest, Embeddings, EmbedRequest


class StandIn(Model):
    """`model`, which can do what is known of the one that it stands for."""

    def __init__(self, model: Model, capabilities: Capabilities) -> None:
        self.model = model
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Capabilities:
        """What the other can do, as far as is known."""
        return self._capabilities

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Ask. Raises what the model raises."""
        return self.model.stream(request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask, and wait for the whole answer. Raises what the model raises."""
        return await self.model.complete(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text. Raises what the model raises."""
        return await self.model.embed(request)
