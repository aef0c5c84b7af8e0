"""orchestra: its transport, and the decoder of its OpenAI dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from benchmarks.contenders.models import QUESTION, Ask
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.protocols import HttpRequest
from orchestra.providers.network import open_transport
from orchestra.values import ChatRequest, Message, TextDelta


@asynccontextmanager
async def asking(base_url: str) -> AsyncIterator[Ask]:
    """A function that asks there, and tells how many pieces of text came."""
    dialect = OpenAiDialect()
    request = ChatRequest((Message("user", QUESTION),))

    async def ask(began: Callable[[], None]) -> int:
        call = dialect.ask("gpt-4o-mini", request, stream=True)
        decoder, texts = dialect.decoder(), 0
        headers = (*call.headers, ("authorization", "Bearer none"))
        going = HttpRequest(base_url + call.path, call.body, headers)
        async with transport.send(going) as reply:
            while not decoder.done and (data := await reply.receive()):
                found = sum(isinstance(event, TextDelta) for event in decoder.feed(data))
                if found and not texts:
                    began()
                texts += found
            decoder.close()
        return texts

    async with open_transport(proxies={}) as transport:
        yield ask
