"""The `openai` SDK, on Trio as it allows, without the limits of its HTTP client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import openai

from benchmarks.contenders.models import QUESTION, Ask


@asynccontextmanager
async def asking(base_url: str) -> AsyncIterator[Ask]:
    """A function that asks there, and tells how many pieces of text came."""

    async def ask(began: Callable[[], None]) -> int:
        texts = 0
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content is not None:
                texts += 1
                if texts == 1:
                    began()
        return texts

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=256)
    http = httpx2.AsyncClient(limits=limits, timeout=60.0)
    async with openai.AsyncOpenAI(
        api_key="none", base_url=base_url, http_client=http, max_retries=0
    ) as client:
        yield ask
