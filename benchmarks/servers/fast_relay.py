"""A relay as one writes it with FastAPI and the `openai` SDK, served by uvicorn at its fastest.

PROVIDER=http://127.0.0.1:PORT/v1 python -m benchmarks.servers.fast_relay PORT WORKERS
"""

# The peers are installed for a benchmark only; where they are not, mypy has nothing to read.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BACKLOG = 2048
app = FastAPI()
client = openai.AsyncOpenAI(
    api_key="none",
    base_url=os.environ["PROVIDER"],
    http_client=httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None), timeout=60.0),
    max_retries=0,
)


async def _events(stream: Any) -> AsyncIterator[str]:
    async for chunk in stream:
        yield f"data: {chunk.model_dump_json()}\n\n"
    yield "data: [DONE]\n\n"


async def chat(request: Request) -> Any:
    """The provider's answer, as the SDK reads it."""
    asked = await request.json()
    found = await client.chat.completions.create(**asked)
    if asked.get("stream"):
        return StreamingResponse(_events(found), media_type="text/event-stream")
    return JSONResponse(found.model_dump())


app.add_api_route("/v1/chat/completions", chat, methods=["POST"])

if __name__ == "__main__":
    uvicorn.run(
        "benchmarks.servers.fast_relay:app",
        port=int(sys.argv[1]),
        workers=int(sys.argv[2]),
        backlog=BACKLOG,
        access_log=False,
    )
