"""A fast path for the chunks of a streamed response.

Through ASGI, a chunk passes through a dictionary, six coroutines, two state machines and h11, which
only add its length. In a stream of HTTP/1.1, none of this changes between chunks. So a chunk is
written directly to the socket in its final form, as long as Hypercorn is in the state of sending a
chunked body; otherwise it is passed through ASGI.

Rules of the file: the bytes are exactly those that h11 would have written, in the same order as all
other bytes of the connection. An empty chunk is never written, since it would be the end. Bytes
that the kernel does not take at once, and all errors, go through the connection as before, with its
lock, its bounds and its errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import h11
import trio
from h11._writers import ChunkedWriter
from hypercorn.events import RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream

from orchestra.server.connections.hardening import Mailbox

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveEvent, ASGISendCallable

    from orchestra.server.connections.listen import Connection

CONNECTION = "orchestra.connection"
"""The key of a request's connection in its ASGI state."""
UNBROKEN_MAX = 16
"""The most chunks that a task writes without waiting before it lets other tasks run."""


class Body:
    """Writes the chunks of a streamed body, for one task.

    `send` passes a chunk through ASGI, which always works; `chunked` is the connection, if it sends
    only this body at present, in chunks.
    """

    __slots__ = ("_chunked", "_rest", "_send", "_unbroken")

    def __init__(
        self, send: Callable[[bytes], Awaitable[None]], chunked: Chunked | None = None
    ) -> None:
        self._send = send
        self._chunked = chunked
        self._rest = b""
        self._unbroken = 0

    async def __call__(self, data: bytes) -> None:
        """Write a chunk, waiting for a slow client; from time to time, let other tasks run."""
        self._unbroken += 1
        if not self.write_nowait(data):
            self._unbroken = 0
            await self.flush()
        elif self._unbroken >= UNBROKEN_MAX:
            self._unbroken = 0
            await trio.lowlevel.checkpoint()

    def write_nowait(self, data: bytes) -> bool:
        """Write a chunk, and return whether all of it was written; if not, call `flush`."""
        chunked = self._chunked
        if not data:
            return True
        if chunked is not None and chunked.open:
            data = b"%x\r\n%b\r\n" % (len(data), data)
            self._rest = data[chunked.wire.write_nowait(data) :]
        else:
            self._chunked, self._rest = None, data
        return not self._rest

    @property
    def waits(self) -> bool:
        """Whether bytes are left for `flush`."""
        return bool(self._rest)

    async def flush(self) -> None:
        """Write the bytes that are left, waiting for the client."""
        rest, self._rest = self._rest, b""
        if self._chunked is None:
            await self._send(rest)
        else:
            await self._chunked.wire.protocol_send(RawData(rest))


class Chunked:
    """A connection that is sending the body of one response in chunks."""

    __slots__ = ("_stream", "wire")

    def __init__(self, wire: Connection, stream: HTTPStream) -> None:
        self.wire = wire
        self._stream = stream

    @property
    def open(self) -> bool:
        """Whether the body has not ended, and the client has not left."""
        stream = self._stream
        return stream.state is ASGIHTTPState.RESPONSE and not stream.closed


def body_of(scope: Mapping[str, Any], send: ASGISendCallable) -> Body:
    """The body of a response whose head has been sent."""
    send_more = partial(_send_more, send)
    wire, stream, connection = _found(scope)
    if wire is None or stream is None or connection is None:
        return Body(send_more)
    writer = connection._writer  # noqa: SLF001 - h11 does not publish a body's framing
    if stream.state is not ASGIHTTPState.RESPONSE or not isinstance(writer, ChunkedWriter):
        return Body(send_more)
    return Body(send_more, Chunked(wire, stream))


def on_departure(scope: Mapping[str, Any], act: Callable[[], None]) -> bool:
    """Call `act` when the client of a request has left, or its response has ended.

    The request's body must be complete, since the application gets no more messages. Returns False
    if the connection is not known, or is closed.
    """
    _, stream, _ = _found(scope)
    if stream is None or stream.closed:
        return False

    mailbox = getattr(stream.app_put, "__self__", None)
    stream.app_put = partial(_departed, act)
    if isinstance(mailbox, Mailbox):
        mailbox.retire()
    return True


def forget_departure(stream: HTTPStream) -> None:
    """Remove the callback of `on_departure`, since the response is written."""
    if isinstance(stream.app_put, partial):
        stream.app_put = None  # type: ignore[assignment]


async def _send_more(send: ASGISendCallable, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _departed(act: Callable[[], None], message: ASGIReceiveEvent) -> None:
    if message["type"] == "http.disconnect":
        act()


def forget_heads(scope: Mapping[str, Any]) -> None:
    """Free the headers of a request and its response, which may take hours."""
    _, stream, _ = _found(scope)
    if stream is not None:
        stream.scope["headers"] = []
        stream.response = {"type": "http.response.start", "status": 200, "headers": []}


def _found(
    scope: Mapping[str, Any],
) -> tuple[Connection | None, HTTPStream | None, h11.Connection | None]:
    """A request's connection, stream and h11 state; each None if the request is not HTTP/1.1.

    Also None if another request has begun on the connection: a client may send it before it has the
    response to this one.
    """
    wire: Connection | None = scope.get("state", {}).get(CONNECTION)
    if wire is None or not isinstance(wire.protocol.protocol, H11Protocol):
        return None, None, None
    stream, connection = wire.protocol.protocol.stream, wire.protocol.protocol.connection
    if not isinstance(stream, HTTPStream) or not isinstance(connection, h11.Connection):
        return None, None, None
    if stream.scope is not scope:
        return None, None, None
    return wire, stream, connection
