"""A fast path for plain requests that have arrived completely.

h11 looks at each header eight times, and makes events for the head, the body and the end, each of
which passes through two state machines. For a plain request, none of this changes the result. This
module defines which requests are plain; h11 parses all others, and incomplete ones.

Rules of the file: the application receives exactly what Hypercorn and h11 would have passed to it,
and both are left in the state in which they would be.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import h11
from h11._readers import READERS
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from orchestra.providers.connections.heads import LINES, Header, headers_of

_STOCK_HANDLE = H11Protocol.handle
_PLAIN = re.compile(rb"([A-Z]+) ([\x21-\x7e]+) HTTP/1\.1\r\n(%b)\r\n" % LINES)
_NOT_PLAIN = frozenset({b"expect", b"transfer-encoding", b"upgrade"})
"""Headers that need more than a response, or that frame the body in another way than by length."""
_IDLE = {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}
_RECEIVED = {h11.CLIENT: h11.DONE, h11.SERVER: h11.SEND_RESPONSE}
_READER = READERS[h11.CLIENT, h11.DONE]

Plain: TypeAlias = tuple[bytes, bytes, list[Header], bytes]
"""A method, a target, headers with lower-case names, and a body."""


async def handle(self: H11Protocol, event: Event) -> None:
    """Hypercorn's method, with the fast path for a complete, plain request."""
    if type(event) is not RawData or (request := _taken(self, event.data)) is None:
        await _STOCK_HANDLE(self, event)
        return
    method, target, headers, body = request
    await self.send(Updated(idle=False))
    sides = (self.ssl, self.client, self.server, self.stream_send, STREAM_ID)
    self.stream = stream = HTTPStream(self.app, self.config, self.context, self.task_group, *sides)
    rest = (method.decode("ascii"), target, self.connection_state)
    await stream.handle(Request(STREAM_ID, headers, "1.1", *rest))
    self.keep_alive_requests += 1
    await self.context.mark_request()
    if not stream.closed:
        await stream.app_put({"type": "http.request", "body": body, "more_body": False})


def _taken(protocol: H11Protocol, data: bytes) -> Plain | None:
    """The request in these bytes, if it is plain; h11's state is then set as if it had read it."""
    if type(protocol.connection) is not h11.Connection:
        return None
    connection: Any = protocol.connection  # h11 has no public way to set its state
    states = connection._cstate  # noqa: SLF001 - as above
    if states.states != _IDLE or connection.trailing_data != (b"", False):
        return None
    request = plain_request(data)
    if request is not None:
        states.states.update(_RECEIVED)
        connection._request_method = request[0]  # noqa: SLF001 - as above
        connection._reader = _READER  # noqa: SLF001 - as above
        connection.their_http_version = b"1.1"
    return request


def plain_request(data: bytes) -> Plain | None:
    """The request, if these bytes are exactly one plain request; None if h11 has to parse them."""
    found = _PLAIN.match(data)
    if found is None:
        return None
    method, target, lines = found.groups()
    headers = headers_of(lines)
    named, body = dict(headers), data[found.end() :]
    if (
        method == b"CONNECT"
        or len(named) != len(headers)
        or b"host" not in named
        or not _NOT_PLAIN.isdisjoint(named)
        or named.get(b"connection", b"keep-alive").lower() != b"keep-alive"
        or named.get(b"content-length", b"0") != b"%d" % len(body)
    ):
        return None
    return method, target, headers, body
