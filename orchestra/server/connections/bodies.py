"""The body of an answer that is streamed, chunk by chunk to the client.

A chunk on its way through ASGI passes a dictionary, six coroutines, two state machines and h11,
and what comes out is its length in front of it. In a stream of HTTP/1.1 nothing of that can
change from one chunk to the next: so it is written to the socket as what would come out, while
Hypercorn says that a chunked body is being sent, and goes the long way wherever it does not.

Rules of the file: what stands in the socket is byte for byte what h11 would have written, and in
the same order as everything else of the connection; a chunk that is empty is never written, since
it would be the end. What the kernel does not take at once, and whatever goes wrong, goes through
the connection as before, with its lock, its bounds and its errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import h11
import trio
from h11._writers import ChunkedWriter
from hypercorn.events import Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream

from orchestra.server.connections.hardening import Mailbox

if TYPE_CHECKING:
    from hypercorn.protocol import ProtocolWrapper
    from hypercorn.typing import ASGIReceiveEvent, ASGISendCallable

CONNECTION = "orchestra.connection"
"""Under which a connection stands in the state of the requests that came over it."""


UNBROKEN_MAX = 16
"""Chunks that one writes who waits for none of them, before the others run."""


class Wire(Protocol):
    """What a body needs of its connection."""

    protocol: ProtocolWrapper

    def write_nowait(self, data: bytes) -> int:
        """How much of it has gone; 0 where something else is being written, or would wait."""

    async def protocol_send(self, event: Event) -> None:
        """Write all of it, behind what others are writing."""


class Body:
    """Where the chunks of a streamed body go. For one task.

    `send` is the way of ASGI, which is always right; `chunked` is the connection, where it is
    known that it carries nothing but this body, in chunks.
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
        """Write it, waiting for the client where it is slow; now and then, the others run."""
        self._unbroken += 1
        if not self.write_nowait(data):
            self._unbroken = 0
            await self.flush()
        elif self._unbroken >= UNBROKEN_MAX:
            self._unbroken = 0
            await trio.lowlevel.checkpoint()

    def write_nowait(self, data: bytes) -> bool:
        """Write it, and tell whether all of it has gone; what is left has to be flushed."""
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
        """Whether something is left that has to be flushed."""
        return bool(self._rest)

    async def flush(self) -> None:
        """Write what is left, waiting for the client."""
        rest, self._rest = self._rest, b""
        if self._chunked is None:
            await self._send(rest)
        else:
            await self._chunked.wire.protocol_send(RawData(rest))


class Chunked:
    """A connection over which the body of one answer goes in chunks."""

    __slots__ = ("_stream", "wire")

    def __init__(self, wire: Wire, stream: HTTPStream) -> None:
        self.wire = wire
        self._stream = stream

    @property
    def open(self) -> bool:
        """Whether the body has not ended, and its client not left."""
        stream = self._stream
        return stream.state is ASGIHTTPState.RESPONSE and not stream.closed


def body_of(scope: Mapping[str, Any], send: ASGISendCallable) -> Body:
    """The body of the answer whose head has been sent."""
    send_more = partial(_send_more, send)
    wire, stream, connection = _found(scope)
    if wire is None or stream is None or connection is None:
        return Body(send_more)
    writer = connection._writer  # noqa: SLF001 - h11 tells nobody how it frames a body
    if stream.state is not ASGIHTTPState.RESPONSE or not isinstance(writer, ChunkedWriter):
        return Body(send_more)
    return Body(send_more, Chunked(wire, stream))


def tell_departure(scope: Mapping[str, Any], act: Callable[[], None]) -> bool:
    """Have it done when the client of a request has left, or its answer has ended.

    Once its body is here. False where that cannot be told, or has been already.
    """
    _, stream, _ = _found(scope)
    if stream is None or stream.closed:
        return False

    mailbox = getattr(stream.app_put, "__self__", None)
    stream.app_put = partial(_departed, act)
    if isinstance(mailbox, Mailbox):
        mailbox.retire()
    return True


def told_end(stream: HTTPStream) -> None:
    """Tell nobody of a departure any more, of `tell_departure`: the answer is written."""
    if isinstance(stream.app_put, partial):
        stream.app_put = None  # type: ignore[assignment]


async def _send_more(send: ASGISendCallable, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _departed(act: Callable[[], None], message: ASGIReceiveEvent) -> None:
    if message["type"] == "http.disconnect":
        act()


def forget_heads(scope: Mapping[str, Any]) -> None:
    """Keep neither the headers of a request nor of its answer, which may go on for hours."""
    _, stream, _ = _found(scope)
    if stream is not None:
        stream.scope["headers"] = []
        stream.response = {"type": "http.response.start", "status": 200, "headers": []}


def _found(
    scope: Mapping[str, Any],
) -> tuple[Wire | None, HTTPStream | None, h11.Connection | None]:
    """A request's connection, its stream and its h11, where it is one of HTTP/1.1.

    Not where another request has begun on it, which a client may send before it has its answer.
    """
    wire: Wire | None = scope.get("state", {}).get(CONNECTION)
    if wire is None or not isinstance(wire.protocol.protocol, H11Protocol):
        return None, None, None
    stream, connection = wire.protocol.protocol.stream, wire.protocol.protocol.connection
    if not isinstance(stream, HTTPStream) or not isinstance(connection, h11.Connection):
        return None, None, None
    if stream.scope is not scope:
        return None, None, None
    return wire, stream, connection
