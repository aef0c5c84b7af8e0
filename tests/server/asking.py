"""A server of one guarded model, one pipeline over it, and one caller who may ask both."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import attrs
import trio

from orchestra.access.principal import Principal, Scopes
from orchestra.accounts import Caller
from orchestra.engine.engine import Engine, Observe, open_engine
from orchestra.graph.pipelines import pipeline
from orchestra.policies.guard import GuardedModel
from orchestra.policies.money.prices import Price
from orchestra.protocols import Model, ModelReply, Stream
from orchestra.server.app import create_app
from orchestra.server.front.layers import Admission
from orchestra.server.settings import Settings
from orchestra.steps import generate
from orchestra.testing.world import World
from orchestra.values import ChatRequest
from tests.server.wire import House, Reply, open_house

ADA = Caller("acme", "ada", "k1")
ASK = "POST /v1/pipelines/ask/runs HTTP/1.1"
CHAT = "POST /v1/chat/completions HTTP/1.1"
BODIES: Mapping[str, dict[str, object]] = {
    ASK: {"inputs": {"question": "How do you do?"}},
    CHAT: {"model": "smart", "messages": [{"role": "user", "content": "How do you do?"}]},
}


@pipeline
def ask(question: str) -> Stream[str]:
    """Ask the model."""
    return generate(question, model="smart")


class OneKey:
    """A keyring with one key, which may do everything."""

    async def authenticate(self, token: str) -> Principal:
        return Principal(ADA, Scopes(frozenset({"*"}), frozenset({"*"})))


@attrs.frozen(eq=False)
class Failing(Model):
    """A model that gives this error to whoever asks."""

    error: Exception

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        raise self.error


class Asked:
    """A server that was opened for questions."""

    def __init__(self, house: House, engine: Engine) -> None:
        self._house = house
        self.engine = engine

    async def ask(self, head: str, *headers: str, **body: object) -> Reply:
        """The answer to one of `BODIES`, with more in it, or to a request without a body."""
        more = ["Authorization: Bearer x", *headers]
        content = b""
        if head in BODIES:
            more.append("Content-Type: application/json")
            content = json.dumps(BODIES[head] | body).encode()
        client = await self._house.connect()
        return await client.ask("\n".join([head, *more]), content)


@asynccontextmanager
async def open_asked(
    model: Model, settings: Settings | None = None, observe: Observe | None = None
) -> AsyncIterator[Asked]:
    """A server whose model `smart` is this one, with a price."""
    guarded = GuardedModel(model, name="smart", price=Price(input=10**9, output=10**10))
    async with open_engine(World(models={"smart": guarded}), observe=observe) as engine:
        admission = Admission(keyring=OneKey())  # type: ignore[arg-type]
        chosen = settings or Settings()
        app = create_app(engine, {"ask": ask}, chosen, admission)
        async with open_house(app.asgi_app, chosen) as house:
            yield Asked(house, engine)


def asking(head: str, model: Model, settings: Settings | None = None, **body: object) -> Reply:
    """The answer to one of `BODIES`, with more in it, where the model is called `smart`."""

    async def main() -> Reply:
        async with open_asked(model, settings) as asked:
            reply = await asked.ask(head, **body)
            await asked.engine.wait_idle()
            return reply

    return trio.run(main)
