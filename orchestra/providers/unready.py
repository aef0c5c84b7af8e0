"""A model of a route that could not be made yet, since its key or its address is missing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from orchestra.answers import Completion
from orchestra.errors import AuthenticationError, BindingError
from orchestra.protocols import Model, ModelReply
from orchestra.rankings import Ranking, RerankRequest
from orchestra.values import Capabilities, ChatRequest, Embeddings, EmbedRequest


class UnreadyModel(Model):
    """A model that is made at the first call that finds its key: a key file may come later.

    Until then each call fails as if the provider had refused the key, before anything is sent: so
    its route goes on to the next model. `make` makes the model, or raises BindingError.
    """

    def __init__(self, make: Callable[[], Model], name: str, capabilities: Capabilities) -> None:
        self._make = make
        self._name = name
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """The model's own answer.

        Raises:
            AuthenticationError: the key or the address is missing; the message says where.
        """
        return self._made().stream(request)

    async def complete(self, request: ChatRequest) -> Completion:
        return await self._made().complete(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        return await self._made().embed(request)

    async def rerank(self, request: RerankRequest) -> Ranking:
        return await self._made().rerank(request)

    def _made(self) -> Model:
        try:
            return self._make()
        except BindingError as error:
            missing = AuthenticationError(str(error))
            missing.name = self._name
            raise missing from error
