"""httpx as it ships, without its limits: lines of the stream, and the json of Python."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx  # noqa: ASYNC127 - it is what is measured

from benchmarks.contenders.models import QUESTION, Ask


@asynccontextmanager
async def asking(base_url: str) -> AsyncIterator[Ask]:
    """A function that asks there, and tells how many pieces of text came."""
    body = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
    }

    async def ask(began: Callable[[], None]) -> int:
        texts = 0
        async with client.stream("POST", f"{base_url}/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    chunk = json.loads(line[6:])
                    if "content" in chunk["choices"][0]["delta"]:
                        texts += 1
                        if texts == 1:
                            began()
        return texts

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    headers = {"authorization": "Bearer none"}
    async with httpx.AsyncClient(limits=limits, timeout=60.0, headers=headers) as client:
        yield ask
