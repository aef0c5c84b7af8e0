"""A request of which all is here, read at once.

h11 looks at each of its headers eight times, and makes an event of its head, of its body and of its
end, each of which passes two state machines. Of a plain request nothing of that says more than its
bytes do. What is plain is said here; all else goes the long way, and so does what is only in part
here.

Rules of the file: the application is told what Hypercorn and h11 would have told it, and both know
afterwards what they would have known.
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
"""Headers that ask for more than an answer, or frame a body in another way than by its length."""
_IDLE = {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}
_ASKED = {h11.CLIENT: h11.DONE, h11.SERVER: h11.SEND_RESPONSE}
_READER = READERS[h11.CLIENT, h11.DONE]

Plain: TypeAlias = tuple[bytes, bytes, list[Header], bytes]
"""A method, a target, headers whose names are in lower case, and a body."""


async def handle(self: H11Protocol, event: Event) -> None:
    """Hypercorn's own; a request that has come whole is taken at once, if plain."""
    if type(event) is not RawData or (asked := _taken(self, event.data)) is None:
        await _STOCK_HANDLE(self, event)
        return
    method, target, headers, body = asked
    await self.send(Updated(idle=False))
    sides = (self.ssl, self.client, self.server, self.stream_send, STREAM_ID)
    self.stream = stream = HTTPStream(self.app, self.config, self.context, self.task_group, *sides)
    said = (method.decode("ascii"), target, self.connection_state)
    await stream.handle(Request(STREAM_ID, headers, "1.1", *said))
    self.keep_alive_requests += 1
    await self.context.mark_request()
    if not stream.closed:
        await stream.app_put({"type": "http.request", "body": body, "more_body": False})


def _taken(protocol: H11Protocol, data: bytes) -> Plain | None:
    """The request that these bytes are, where it is plain; h11 then knows that it was."""
    if type(protocol.connection) is not h11.Connection:
        return None
    connection: Any = protocol.connection  # h11 has no other way to be told
    states = connection._cstate  # noqa: SLF001 - as above
    if states.states != _IDLE or connection.trailing_data != (b"", False):
        return None
    asked = plain_request(data)
    if asked is not None:
        states.states.update(_ASKED)
        connection._request_method = asked[0]  # noqa: SLF001 - as above
        connection._reader = _READER  # noqa: SLF001 - as above
        connection.their_http_version = b"1.1"
    return asked


def plain_request(data: bytes) -> Plain | None:
    """The request that these bytes are, and nothing else; None where h11 has to look."""
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
