"""The heads of HTTP/1.1 answers: what is in them, and what they say of what comes behind.

h11 is right about all heads, and takes as long for one as we do for the rest of an answer. So a
head that came whole and is plain in every way is read here, as h11 would; with the first doubt it
is h11's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from orchestra.providers.connections.bodies import Body, ChunkedBody, EndlessBody, SizedBody

Header = tuple[bytes, bytes]
NAME = r"[-!#$%&'*+.^_`|~0-9a-zA-Z]+"
"""A method, or the name of a header (RFC 9110, 5.6.2), as a regular expression."""
LINES = rb"(?:%b:[\t\x20-\x7e]*\r\n)*" % NAME.encode()
"""Headers with nothing odd in them, as a regular expression."""
_PLAIN = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2}) ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?\r\n(%b)\r\n" % LINES
)
_FIELD = re.compile(rb"([^:\r\n]+):[\t ]*([^\r\n]*)\r\n")
_FRAMING = (b"content-length", b"transfer-encoding")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_KEEP_ALIVE_S = re.compile(rb"timeout\s*=\s*(\d{1,9})", re.IGNORECASE)


@attrs.frozen
class Head:
    """The head of an answer; names of headers are in lower case."""

    status: int
    headers: tuple[Header, ...]
    reason: bytes = b""

    def named(self) -> dict[str, str]:
        """The headers by name; of one that came twice, both, with a comma between."""
        found: dict[str, str] = {}
        for raw_name, raw_value in self.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found


def plain_head(data: bytes) -> tuple[Head, bytes] | None:
    """The head that these bytes begin with, and what is behind it; None where h11 has to look.

    That is where it has not come whole, does not count (1xx), is old or odd, or has more than one
    thing to say about the length of its body.
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
    """The headers in such `LINES`, their names in lower case."""
    fields = _FIELD.findall(lines)
    return [(name.lower(), value.rstrip(b"\t ")) for name, value in fields]


def body_of(method: str, head: Head) -> Body:
    """The framing of an answer's body (RFC 9112, 6.3); h11 has checked the headers for it."""
    if method == "HEAD" or head.status in (204, 304):
        return SizedBody(0)
    headers = dict(head.headers)
    if b"transfer-encoding" in headers:
        return ChunkedBody()
    length = headers.get(b"content-length")
    return EndlessBody() if length is None else SizedBody(int(length))


def kept_s(headers: Iterable[Header]) -> float | None:
    """For how long a server keeps a connection: 0 if it does not, None if it does not say."""
    limit_s = None
    for name, value in headers:
        if name == b"connection" and b"close" in value.lower():
            return 0.0
        if name == b"keep-alive" and (found := _KEEP_ALIVE_S.search(value)):
            limit_s = float(found[1])
    return limit_s
