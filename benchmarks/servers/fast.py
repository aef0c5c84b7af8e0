"""A minimal FastAPI endpoint that streams events, served by uvicorn.

`python -m benchmarks.servers.fast` for asyncio and h11, `... fast uvloop` for uvicorn's
fastest: uvloop and httptools.
"""

# The peers are installed for a benchmark only; where they are not, mypy has nothing to read.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import asyncio
import socket
import sys
import time
from itertools import count
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from benchmarks.servers.sse import event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BACKLOG = 2048


async def _events(every_s: float) -> AsyncIterator[bytes]:
    began = time.monotonic()
    for seq in count(1):
        yield event(seq, time.monotonic() - began)
        await asyncio.sleep(began + seq * every_s - time.monotonic())


async def events(every_s: float) -> StreamingResponse:
    """An event now, and another each `every_s` seconds."""
    return StreamingResponse(_events(every_s), media_type="text/event-stream")


def main() -> None:
    """Serve on a free loopback port, and print it."""
    app = FastAPI()
    app.add_api_route("/events", events)
    fastest = sys.argv[1:] == ["uvloop"]
    config = uvicorn.Config(
        app,
        loop="uvloop" if fastest else "asyncio",
        http="httptools" if fastest else "h11",
        log_level="warning",
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
