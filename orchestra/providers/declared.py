"""A model whose capabilities are declared in the configuration: a project's class, or a fake."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from orchestra.answers import Completion
from orchestra.policies.needs import fitting
from orchestra.protocols import Model, ModelReply
from orchestra.values import Capabilities, ChatRequest, Embeddings, EmbedRequest


class DeclaredModel(Model):
    """`model`, with these `capabilities` in place of its own."""

    def __init__(self, model: Model, capabilities: Capabilities) -> None:
        self.model = model
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Capabilities:
        """The declared capabilities."""
        return self._capabilities

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Ask the model. Raises the model's errors."""
        return self.model.stream(fitting(request, self._capabilities))

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask the model, and wait for the complete answer. Raises the model's errors."""
        return await self.model.complete(fitting(request, self._capabilities))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text. Raises the model's errors."""
        return await self.model.embed(request)
