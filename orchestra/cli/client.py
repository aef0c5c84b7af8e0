"""The smallest client that can follow a run, for `orchestra demo`, which asks its own server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec

from orchestra.cli.failures import CommandError
from orchestra.codecs.framing.sse import SseFraming
from orchestra.errors import ModelError
from orchestra.protocols import HttpReply, HttpRequest, Timeouts
from orchestra.providers.connections.reply import read
from orchestra.providers.network import open_transport

EVENT_BYTES = 64 * 1024 * 1024
"""The most bytes of an event, which may contain the whole output of a run."""
_HEADERS = (("Accept", "text/event-stream"), ("Content-Type", "application/json"))
_PATIENT = Timeouts(first_byte_s=None, idle_s=None, total_s=None)


class Answer:
    """The events of a run, as they arrive."""

    def __init__(self, reply: HttpReply) -> None:
        self._reply = reply
        self._framing = SseFraming(EVENT_BYTES)

    async def receive(self) -> list[dict[str, Any]]:
        """The events that have arrived, waiting for some; empty at the end.

        Raises:
            CommandError: the server answered with an error.
            ModelError: it closed the connection early.
        """
        if (status := self._reply.status) != HTTPStatus.OK:
            body = await read(self._reply, EVENT_BYTES)
            raise CommandError(f"the server answered {status}: {body.decode(errors='replace')}")
        while data := await self._reply.receive():
            if events := [msgspec.json.decode(event) for _, event in self._framing.feed(data)]:
                return events
        return []


@asynccontextmanager
async def ask(url: str, pipeline: str, inputs: dict[str, object]) -> AsyncIterator[Answer]:
    """Start a run on a server and follow it; leaving the context hangs up, which cancels it.

    Raises:
        CommandError: the server cannot be reached, or closed the connection early.
    """
    body = msgspec.json.encode({"inputs": inputs})
    address = f"{url}/v1/pipelines/{quote(pipeline, safe='')}/runs"
    request = HttpRequest(address, body, _HEADERS, timeouts=_PATIENT)
    try:
        async with open_transport(proxies={}) as transport, transport.send(request) as reply:
            yield Answer(reply)
    except ModelError as error:
        raise CommandError(f"the connection to the server broke: {error}") from error
