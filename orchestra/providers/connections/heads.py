"""Parses the heads of HTTP/1.1 responses: the headers, and the framing of the body after them.

h11 parses every head correctly, but takes as long for one as we take for the rest of a response. So
a complete and simple head is parsed here, with the same result; any other is left to h11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestra.eventclass import event
from orchestra.providers.connections.bodies import Body, ChunkedBody, EndlessBody, SizedBody

Header = tuple[bytes, bytes]
NAME = r"[-!#$%&'*+.^_`|~0-9a-zA-Z]+"
"""A method, or the name of a header (RFC 9110, 5.6.2), as a regular expression."""
LINES = rb"(?:%b:[\t\x20-\x7e]*\r\n)*" % NAME.encode()
"""A regular expression for simple header lines: printable ASCII, and no folded lines."""
_PLAIN = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2}) ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?\r\n(%b)\r\n" % LINES
)
_FIELD = re.compile(rb"([^:\r\n]+):[\t ]*([^\r\n]*)\r\n")
_FRAMING = (b"content-length", b"transfer-encoding")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_KEEP_ALIVE_S = re.compile(rb"timeout\s*=\s*(\d{1,9})", re.IGNORECASE)


@event
class Head:
    """The head of a response; names of headers are in lower case."""

    status: int
    headers: tuple[Header, ...]
    reason: bytes = b""

    def named(self) -> dict[str, str]:
        """The headers by name; values of a repeated header are joined by commas."""
        found: dict[str, str] = {}
        for raw_name, raw_value in self.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found


def plain_head(data: bytes) -> tuple[Head, bytes] | None:
    """The head at the beginning of these bytes, and the bytes after it; None if it needs h11.

    A head needs h11 if it is incomplete, informational (1xx), not HTTP/1.1, or unusual, or if it
    has several headers about the length of its body.
    """
    found = _PLAIN.match(data)
    if found is None:
        return None
    status, reason, lines = found.groups()
    headers = tuple(headers_of(lines))
    framing = [each for each in headers if each[0] in _FRAMING]
    if framing:
        (name, value), *others = framing
        known = _LENGTH.fullmatch(value) if name == _FRAMING[0] else value == b"chunked"
        if others or not known:
            return None
    return Head(int(status), headers, reason or b""), data[found.end() :]


def headers_of(lines: bytes) -> list[Header]:
    """The headers in these header lines (see `LINES`), with their names in lower case."""
    fields = _FIELD.findall(lines)
    return [(name.lower(), value.rstrip(b"\t ")) for name, value in fields]


def body_of(method: str, head: Head) -> Body:
    """The framing of a response's body (RFC 9112, 6.3); the headers were checked before."""
    if method == "HEAD" or head.status in (204, 304):
        return SizedBody(0)
    headers = dict(head.headers)
    if b"transfer-encoding" in headers:
        return ChunkedBody()
    length = headers.get(b"content-length")
    return EndlessBody() if length is None else SizedBody(int(length))


def kept_s(headers: Iterable[Header]) -> float | None:
    """How many seconds a server keeps an idle connection: 0 if it closes it, None if unknown."""
    limit_s = None
    for name, value in headers:
        if name == b"connection" and b"close" in value.lower():
            return 0.0
        if name == b"keep-alive" and (found := _KEEP_ALIVE_S.search(value)):
            limit_s = float(found[1])
    return limit_s
