"""A fast path for plain responses that are complete, and for the heads and ends of plain streams.

Through ASGI, the head and the body pass through four layers each, and h11 looks at each header
eight times. For a plain response, none of this changes a byte, so the final bytes are written
directly. This module defines which responses are plain; all others are passed through ASGI.

Rules of the file: the bytes are exactly those that Hypercorn and h11 would have written, and both
are left in the state in which they would be. But the last response of a connection says that it is
the last, which Hypercorn's does only after `keep_alive_max_requests`.
"""

from __future__ import annotations

import re
from time import time
from typing import Any

import h11
from h11._writers import ChunkedWriter
from hypercorn.events import RawData
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream

from orchestra.server.connections.bodies import CONNECTION, forget_departure
from orchestra.server.connections.listen import head_held

_STOCK_APP_SEND = HTTPStream.app_send
_START, _BODY = "http.response.start", "http.response.body"
_PLAIN = re.compile(
    rb"(?:\r\n(?!(?:connection|host|transfer-encoding|upgrade):)[a-z0-9-]+: [!-~](?:[ -~]*[!-~])?)+"
)
"""Headers without an effect on the connection; every header of a plain response matches."""
_LENGTH = b"\r\ncontent-length:"
_NO_BODY = frozenset({204, 304})
_CLOSE = (b"connection", b"close")


async def app_send(self: HTTPStream, message: Any) -> None:
    """Hypercorn's method, but a held head waits for its body, and plain bytes bypass h11."""
    head = self.__dict__.pop("waiting_head", None)
    if message is not None and message["type"] == _START and _is_last(self):
        message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
    if head is not None:
        data = _plain(self, head, message)
        if data is None:
            with head_held(self.scope):
                await _STOCK_APP_SEND(self, head)
    elif message is not None and message["type"] == _START:
        if _waits(self):
            self.waiting_head = message  # type: ignore[attr-defined]
            return
        if (data := _plain_head(self, message)) is not None:
            self.response = message
            await self.send.__self__.send(RawData(data))  # type: ignore[attr-defined]
            self.state = ASGIHTTPState.RESPONSE
            return
    else:
        data = _plain_end(self, message)
    if data is None:
        await _STOCK_APP_SEND(self, message)
        return
    await self.send.__self__.send(RawData(data))  # type: ignore[attr-defined]
    self.response, self.state = head or self.response, ASGIHTTPState.CLOSED
    await self.config.log.access(self.scope, self.response, time() - self.start_time)
    if head is not None:  # nothing waits for the end of a response that is written at once
        forget_departure(self)
    await self.send(StreamClosed(stream_id=self.stream_id))


def _is_last(stream: HTTPStream) -> bool:
    """Whether the connection is closed after this response, so that its head has to say so.

    Otherwise a proxy would send the next request over it, and could not repeat it if it is a POST.
    The server winds down, or the client is still sending a body that was refused.
    """
    found = _protocol_of(stream)
    if found is None:
        return False
    protocol, connection = found
    return protocol.context.terminate.is_set() or connection.their_state is h11.SEND_BODY


def _waits(stream: HTTPStream) -> bool:
    """Whether a head that is sent now is held back until its body is sent."""
    wire = stream.scope["state"].get(CONNECTION)
    return wire is not None and wire.holds and stream.state is ASGIHTTPState.REQUEST


def _plain(stream: HTTPStream, head: Any, message: Any) -> bytes | None:
    """The bytes of a response, if it is plain; h11's state is then set as if it had written it."""
    if message is None or message["type"] != _BODY or message.get("more_body"):
        return None
    body = message.get("body", b"")
    found = _lines(stream, head)
    if found is None or found[1].count(_LENGTH) != 1:
        return None
    connection, lines = found
    if (b"content-length", b"%d" % len(body)) not in head["headers"]:
        return None
    connection._cstate.process_event(h11.SERVER, h11.Response)  # noqa: SLF001 - as below
    connection._cstate.process_event(h11.SERVER, h11.EndOfMessage)  # noqa: SLF001 - as below
    return b"HTTP/1.1 %d %b\r\n\r\n%b" % (int(head["status"]), lines, body)


def _plain_head(stream: HTTPStream, head: Any) -> bytes | None:
    """As `_plain`, for the head of a response whose body is sent in chunks."""
    if head is None or head["type"] != _START or stream.state is not ASGIHTTPState.REQUEST:
        return None
    found = _lines(stream, head)
    if found is None or _LENGTH in found[1]:
        return None
    connection, lines = found
    connection._cstate.process_event(h11.SERVER, h11.Response)  # noqa: SLF001 - as below
    connection._writer = ChunkedWriter()  # noqa: SLF001 - as below
    return b"HTTP/1.1 %d %b\r\nTransfer-Encoding: chunked\r\n\r\n" % (int(head["status"]), lines)


def _plain_end(stream: HTTPStream, message: Any) -> bytes | None:
    """As `_plain`, for the end of a body that was sent in chunks."""
    if (
        message is None
        or message["type"] != _BODY
        or message.get("body")
        or message.get("more_body")
    ):
        return None
    if stream.state is not ASGIHTTPState.RESPONSE or stream.response.get("trailers"):
        return None
    found = _protocol_of(stream)
    if found is None:
        return None
    _, connection = found
    if connection.our_state is not h11.SEND_BODY or type(connection._writer) is not ChunkedWriter:  # noqa: SLF001 - as below
        return None
    connection._cstate.process_event(h11.SERVER, h11.EndOfMessage)  # noqa: SLF001 - as below
    connection._writer = None  # noqa: SLF001 - as below
    return b"0\r\n\r\n"


def _lines(stream: HTTPStream, head: Any) -> tuple[h11.Connection, bytes] | None:
    """The connection of a response and its encoded headers, if the response may be plain."""
    found = _protocol_of(stream)
    if found is None or not _may(*found, stream, int(head["status"])):
        return None
    protocol, connection = found
    headers = [*head.get("headers", ()), *protocol.config.response_headers("h11")]
    lines = b"".join([b"\r\n%b: %b" % header for header in headers])
    if lines.count(b"\n") != len(headers) or _PLAIN.fullmatch(lines) is None:
        return None
    return connection, lines


def _protocol_of(stream: HTTPStream) -> tuple[H11Protocol, h11.Connection] | None:
    """The protocol and connection of a stream of HTTP/1.1; None for any other."""
    protocol = getattr(stream.send, "__self__", None)
    if not isinstance(protocol, H11Protocol) or not isinstance(protocol.connection, h11.Connection):
        return None
    return protocol, protocol.connection


def _may(
    protocol: H11Protocol, connection: h11.Connection, stream: HTTPStream, status: int
) -> bool:
    """Whether the state of the connection allows a plain response."""
    states = connection._cstate  # noqa: SLF001 - h11 has no public way to get and set its state
    return (
        status >= 200  # noqa: PLR2004 - below it the response has not ended
        and status not in _NO_BODY
        and stream.scope["method"] not in ("HEAD", "CONNECT")
        and connection.our_state is h11.SEND_RESPONSE
        and connection.their_http_version == b"1.1"
        and not connection.client_is_waiting_for_100_continue
        and states.keep_alive
        and not states.pending_switch_proposals
        and protocol.keep_alive_requests < protocol.config.keep_alive_max_requests
    )
