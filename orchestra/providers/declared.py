"""A model with capabilities from the configuration: for a project's own class, or a fake."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from orchestra.answers import Completion
from orchestra.policies.requests.needs import fitting
from orchestra.protocols import Model, ModelReply
from orchestra.rankings import Ranking, RerankRequest
from orchestra.values import Capabilities, ChatRequest, Embeddings, EmbedRequest


class DeclaredModel(Model):
    """Wraps a model, and replaces its capabilities by the declared ones.

    Requests are adapted to the declared capabilities before the model gets them.
    """

    def __init__(self, model: Model, capabilities: Capabilities) -> None:
        self.model = model
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        return self.model.stream(fitting(request, self._capabilities))

    async def complete(self, request: ChatRequest) -> Completion:
        return await self.model.complete(fitting(request, self._capabilities))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        return await self.model.embed(request)

    async def rerank(self, request: RerankRequest) -> Ranking:
        return await self.model.rerank(request)
