"""Bare Trio: a socket, and a search for the pieces. The least that can be paid for a wake-up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import trio

from benchmarks.contenders.models import Ask

BODY = b'{"model":"gpt-4o-mini","stream":true,"messages":[]}'
REQUEST = (
    b"POST %s/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
)
PIECE = b'"content":"'


@asynccontextmanager
async def asking(base_url: str) -> AsyncIterator[Ask]:
    """A function that asks there, and tells how many pieces of text came."""
    url = urlsplit(base_url)

    async def ask(began: Callable[[], None]) -> int:
        texts = 0
        async with await trio.open_tcp_stream(url.hostname or "", url.port or 80) as stream:
            await stream.send_all(REQUEST % (url.path.encode(), len(BODY), BODY))
            while data := await stream.receive_some(65_536):
                found = data.count(PIECE)
                if found and not texts:
                    began()
                texts += found
                if b"[DONE]" in data:
                    break
        return texts

    yield ask
