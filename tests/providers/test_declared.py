"""A model whose capabilities the deployment declares."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import attrs
import pytest
import trio

from orchestra.answers import Completion
from orchestra.protocols import Model, ModelReply
from orchestra.providers.declared import DeclaredModel
from orchestra.testing.world import ScriptedModel
from orchestra.values import Capabilities, ChatRequest, Message

WISHED = ChatRequest((Message("user", "Hi"),), reasoning_effort="high", effort_if_able=True)
ORDERED = attrs.evolve(WISHED, effort_if_able=False)


@attrs.define(eq=False)
class Noting(Model):
    """It keeps what it was asked."""

    says: ScriptedModel = attrs.field(factory=lambda: ScriptedModel.saying("Hi"))
    asked: list[ChatRequest] = attrs.field(factory=list)

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        self.asked.append(request)
        return self.says.stream(request)

    async def complete(self, request: ChatRequest) -> Completion:
        self.asked.append(request)
        return await self.says.complete(request)


@pytest.mark.parametrize("reasoning", [True, False, None])
def test_an_effort_that_is_no_order_is_asked_of_who_may_make_it(reasoning: bool | None) -> None:
    own = Noting()
    model = DeclaredModel(own, Capabilities(reasoning=reasoning))

    async def main() -> None:
        for request in (WISHED, ORDERED):
            await model.complete(request)
            async with model.stream(request):
                pass

    trio.run(main)
    wished = None if reasoning is False else "high"
    assert [each.reasoning_effort for each in own.asked] == [wished, wished, "high", "high"]
