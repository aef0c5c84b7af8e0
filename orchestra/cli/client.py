"""The smallest HTTP client that can follow a run: one request, its events in batches.

For `orchestra demo`, which asks its own server over a real socket. HTTP by h11, on Trio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import quote, urlsplit

import h11
import msgspec
import trio

from orchestra.cli.failures import CommandError

READ_BYTES = 64 * 1024
FRAME_BYTES = 64 * 1024 * 1024
"""The most bytes of an event, which may contain the whole output of a run."""


class Frames:
    """Decodes Server-Sent Events from pieces of any size, and their data as JSON.

    Only for our own server, which writes an event's data as one line.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The events whose data these bytes complete, in order.

        Raises:
            CommandError: an event is longer than `FRAME_BYTES`.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > FRAME_BYTES:
            raise CommandError(f"the server sends an event of more than {FRAME_BYTES} bytes")
        return [msgspec.json.decode(line[5:]) for line in lines if line.startswith(b"data:")]


class Answer:
    """The events of a run, as they arrive."""

    def __init__(self, stream: trio.abc.Stream, connection: h11.Connection) -> None:
        self._stream = stream
        self._connection = connection
        self._frames = Frames()

    async def receive(self) -> list[dict[str, Any]]:
        """The events that have arrived, waiting for some; empty at the end.

        Raises:
            CommandError: the server answered with an error, or closed the connection early.
        """
        while True:
            match await self._next():
                case h11.Response(status_code=status) if status != HTTPStatus.OK:
                    raise CommandError(f"the server answered {status}: {await self._body()}")
                case h11.Data(data=data):
                    if events := self._frames.feed(bytes(data)):
                        return events
                case h11.EndOfMessage():
                    return []

    async def _body(self) -> str:
        body = b""
        while isinstance(event := await self._next(), h11.Data):
            body += event.data
        return body.decode(errors="replace")

    async def _next(self) -> h11.Event:
        while True:  # noqa: ASYNC913 - every read is a checkpoint
            try:
                event = self._connection.next_event()
                if event is h11.NEED_DATA:
                    self._connection.receive_data(
                        bytes(await self._stream.receive_some(READ_BYTES))
                    )
                    continue
            except (h11.RemoteProtocolError, trio.BrokenResourceError) as error:
                raise CommandError(f"the connection to the server broke: {error}") from error
            return cast("h11.Event", event)


@asynccontextmanager
async def ask(url: str, pipeline: str, inputs: dict[str, object]) -> AsyncIterator[Answer]:
    """Start a run on a server and follow it; leaving the context hangs up, which cancels it."""
    address = urlsplit(url)
    body = msgspec.json.encode({"inputs": inputs})
    connection = h11.Connection(h11.CLIENT)
    async with await trio.open_tcp_stream(address.hostname or "", address.port or 80) as stream:
        request = h11.Request(
            method="POST",
            target=f"/v1/pipelines/{quote(pipeline, safe='')}/runs",
            headers=[
                ("Host", address.netloc),
                ("Accept", "text/event-stream"),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ],
        )
        data = b"".join(
            connection.send(event) or b""
            for event in (request, h11.Data(data=body), h11.EndOfMessage())
        )
        await stream.send_all(data)
        yield Answer(stream, connection)
