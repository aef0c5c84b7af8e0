"""An answer of which all is here, written at once.

On its way through ASGI its head and its body pass four layers each, and h11 looks at each header
eight times. Of a plain answer nothing of that can change a byte: so it is written as what would
come out. What is plain is said here; all else goes the long way.

Rules of the file: what stands in the socket is byte for byte what Hypercorn and h11 would have
written, and both know of it what they would have known.
"""

from __future__ import annotations

import re
from time import time
from typing import Any

import h11
from hypercorn.events import RawData
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream

from orchestra.server.connections.bodies import CONNECTION, told_end
from orchestra.server.connections.listen import head_held

_STOCK_APP_SEND = HTTPStream.app_send
_START, _BODY = "http.response.start", "http.response.body"
_PLAIN = re.compile(
    rb"(?:\r\n(?!(?:connection|host|transfer-encoding|upgrade):)[a-z0-9-]+: [!-~](?:[ -~]*[!-~])?)+"
)
"""Headers that nobody need look at, where there are as many of them as there are lines: none that
says more than it tells."""
_NO_BODY = frozenset({204, 304})


async def app_send(self: HTTPStream, message: Any) -> None:
    """Hypercorn's own; a head that waits for its body is written with it, at once if plain."""
    head = self.__dict__.pop("waiting_head", None)
    if head is None:
        if message is not None and message["type"] == _START and _waits(self):
            self.waiting_head = message  # type: ignore[attr-defined]
            return
    elif (data := _plain(self, head, message)) is not None:
        await self.send.__self__.send(RawData(data))  # type: ignore[attr-defined]
        self.response, self.state = head, ASGIHTTPState.CLOSED
        await self.config.log.access(self.scope, head, time() - self.start_time)
        told_end(self)
        await self.send(StreamClosed(stream_id=self.stream_id))
        return
    else:
        with head_held(self.scope):
            await _STOCK_APP_SEND(self, head)
    await _STOCK_APP_SEND(self, message)


def _waits(stream: HTTPStream) -> bool:
    """Whether a head that is sent now waits for what is sent behind it."""
    wire = stream.scope["state"].get(CONNECTION)
    return wire is not None and wire.holds and stream.state is ASGIHTTPState.REQUEST


def _plain(stream: HTTPStream, head: Any, message: Any) -> bytes | None:
    """The answer as it is written, where it is a plain one; h11 then knows that it was."""
    if message is None or message["type"] != _BODY or message.get("more_body"):
        return None
    protocol = getattr(stream.send, "__self__", None)
    if not isinstance(protocol, H11Protocol) or not isinstance(protocol.connection, h11.Connection):
        return None
    status, body = int(head["status"]), message.get("body", b"")
    if not _may(protocol, stream, status):
        return None
    headers = [*head.get("headers", ()), *protocol.config.response_headers("h11")]
    written = _written(status, headers, body)
    if written is None:
        return None
    states = protocol.connection._cstate  # noqa: SLF001 - h11 has no other way to be told
    states.process_event(h11.SERVER, h11.Response)
    states.process_event(h11.SERVER, h11.EndOfMessage)
    return written


def _may(protocol: H11Protocol, stream: HTTPStream, status: int) -> bool:
    """Whether the connection is in the middle of a request to which such an answer is plain."""
    connection = protocol.connection
    assert isinstance(connection, h11.Connection), "as was asked before"
    states = connection._cstate  # noqa: SLF001 - as above
    return (
        status >= 200  # noqa: PLR2004 - before it nothing has ended
        and status not in _NO_BODY
        and stream.scope["method"] not in ("HEAD", "CONNECT")
        and connection.our_state is h11.SEND_RESPONSE
        and connection.their_http_version == b"1.1"
        and not connection.client_is_waiting_for_100_continue
        and states.keep_alive
        and not states.pending_switch_proposals
        and protocol.keep_alive_requests < protocol.config.keep_alive_max_requests
    )


def _written(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes | None:
    lines = b"".join([b"\r\n%b: %b" % header for header in headers])
    length = (b"content-length", b"%d" % len(body))
    if length not in headers or lines.count(b"\r\ncontent-length:") != 1:
        return None
    if lines.count(b"\n") != len(headers) or _PLAIN.fullmatch(lines) is None:
        return None
    return b"HTTP/1.1 %d %b\r\n\r\n%b" % (status, lines, body)
