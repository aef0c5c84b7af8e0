"""The client side of HTTP/1.1: encodes requests and decodes responses. Sans-I/O.

A simple head is decoded by `heads`, any other by h11, and the body by `bodies`. Requests are
encoded without h11, which would take as long as everything else together. Rules of the file: no
error text contains a header's value or a query, since these may contain keys; a response is
complete only if its framing says so.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, urlsplit

import attrs
import h11

from orchestra.errors import InvalidRequestError, MalformedStreamError, ModelConnectionError
from orchestra.eventclass import event
from orchestra.hosts import DEFAULT_PORTS, authority, bracketed
from orchestra.protocols import HttpRequest
from orchestra.providers.connections.bodies import Body, EndlessBody
from orchestra.providers.connections.heads import NAME, Head, Header, body_of, kept_s, plain_head

INFORMATIONAL_MAX = 100
"""The most informational responses, such as "102 Processing", before the final one."""
TOO_LONG = 431
"""The status that h11 suggests, in its error for a head over the limit."""
_AS_IT_IS = "".join(map(chr, range(0x21, 0x7F)))
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_NAME = re.compile(NAME)
_START = re.compile(rb"%b [\x21-\x7e]+ HTTP/1\.1\r\n" % NAME.encode())
_LINE = re.compile(rb"%b: [\t\x20-\x7e\x80-\xff]*\r\n" % NAME.encode())
_OURS = (("accept", "*/*"), ("accept-encoding", "identity"), ("user-agent", "orchestra"))


@attrs.frozen
class Origin:
    """The scheme, host and port of a connection."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        return authority(self.scheme, self.host, self.port)

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


@event
class Outgoing:
    """A request that is ready to be sent. Its target and headers may contain a key."""

    origin: Origin
    method: str
    target: str = attrs.field(repr=False)
    headers: tuple[Header, ...] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


def outgoing(request: HttpRequest) -> Outgoing:
    """Add the headers that HTTP requires to a request, and encode its headers.

    Raises:
        InvalidRequestError: its URL is not an HTTP URL, or a header is invalid.
    """
    origin, target = located(request.url)
    named = {name.lower() for name, _ in request.headers}
    ours = [("host", origin.authority), *_OURS, ("content-length", str(len(request.body)))]
    headers = [*[each for each in ours if each[0] not in named], *request.headers]
    return Outgoing(origin, request.method, target, tuple(map(_header, headers)), request.body)


@lru_cache(maxsize=256)
def located(url: str) -> tuple[Origin, str]:
    """Split a URL into its origin, and its path with the query.

    Raises:
        InvalidRequestError: it is not an HTTP URL, or it contains a user or password.
    """
    try:
        parts = urlsplit(url)
        host, port = _in_ascii(parts.hostname or ""), parts.port
        target = quote(parts.path or "/", safe=_AS_IT_IS)
        if parts.query:
            target += "?" + quote(parts.query, safe=_AS_IT_IS)
    except ValueError as error:
        raise InvalidRequestError(f"the URL of a provider is invalid: {error}") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise InvalidRequestError(
            f"the URL of a provider must begin with https:// or http:// and a host, "
            f"not with {parts.scheme!r} and {host!r}"
        )
    if "@" in parts.netloc:
        raise InvalidRequestError(
            f"the URL of {host} contains a user or password: remove it, and set the key separately "
            "(key_env or key_file)"
        )
    return Origin(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme]), target


def _in_ascii(host: str) -> str:
    """A host name in the ASCII form that DNS uses.

    Raises:
        ValueError: the versions of IDNA disagree about the name. Python's version turns `faß.de`
            into `fass.de`, which may belong to somebody else, who must not get the key.
    """
    if host.isascii():
        return host
    found = host.encode("idna")
    if found.decode("idna") != host:
        raise ValueError(
            f"the host {host!r} is ambiguous: the versions of IDNA convert it to different names; "
            "write it in ASCII: xn--..."
        )
    return found.decode()


@lru_cache(maxsize=256)
def _header(header: tuple[str, str]) -> Header:
    """Encode a header; cached, since most headers are equal in all requests to a provider."""
    name, value = header
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{name[:80]!r} is not a valid name for an HTTP header; use letters, digits and hyphens"
        )
    value = value.strip()
    if not _VALUE.fullmatch(value):
        raise InvalidRequestError(
            f"the value of header {name!r} contains a character that HTTP does not allow: was the "
            "key copied together with other text?"
        )
    return name.encode(), value.encode()


class Exchange:
    """One request and its response. Send `request`, then call `feed` with the received bytes.

    `began` is True after the first byte of any response, `ahead` after the first byte of the final
    head (the first that is not 1xx). `head` is that head, and `done` is True after the last byte
    of the body. `keep_s` is how long the connection may then stay idle: 0 if it must be closed,
    None if the server sets no limit.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_body_bytes_max",
        "_h11",
        "_head_bytes_max",
        "_informational",
        "_method",
        "_where",
        "ahead",
        "began",
        "head",
        "keep_s",
        "request",
    )

    def __init__(self, request: Outgoing, head_bytes_max: int, body_bytes_max: int) -> None:
        self.head: Head | None = None
        self.began = self.ahead = False
        self.keep_s: float | None = 0.0
        self._where = str(request.origin)
        self._body: Body | None = None
        self._body_bytes = 0
        self._body_bytes_max = body_bytes_max
        self._informational = 0
        self._method = request.method
        self._head_bytes_max = head_bytes_max
        self._h11: h11.Connection | None = None
        self.request = written(request)

    @property
    def final_head(self) -> Head:
        """The final head; may only be used after the head has arrived."""
        assert self.head is not None
        return self.head

    @property
    def done(self) -> bool:
        """Whether all of the response has arrived."""
        return self._body is not None and self._body.done

    @property
    def reusable(self) -> bool:
        """Whether the connection can be used for another request."""
        body = self._body
        return body is not None and body.done and not body.rest and self.keep_s != 0.0

    def feed(self, data: bytes) -> bytes:
        """Decode received bytes, and return the part of the body in them.

        Raises:
            MalformedStreamError: the bytes are not HTTP, or exceed a limit.
        """
        self.began = True
        if self._body is None:
            data = self._heads(data)
            if self._body is None:
                return b""
        try:
            found = self._body.feed(data)
        except ValueError as error:
            raise self._malformed(str(error)) from error
        self._body_bytes += len(found)
        if self._body_bytes > self._body_bytes_max:
            too_long = f"the body is longer than {self._body_bytes_max} bytes"
            raise self._malformed(too_long, again=False)
        return found

    def end(self) -> bytes:
        """Note that the server has closed the connection.

        Raises:
            ModelConnectionError: the response is incomplete.
        """
        if self._body is None:
            how = "in the middle of the response's head" if self.ahead else "without a response"
            raise ModelConnectionError(f"{self._where} closed the connection {how}", code="cut")
        if not self._body.done and not self._body.end():
            raise ModelConnectionError(
                f"{self._where} closed the connection in the middle of the response, "
                f"after {self._body_bytes} bytes of the body",
                code="cut",
            )
        return b""

    def _heads(self, data: bytes) -> bytes:
        """Decode heads up to the final one, and return the bytes after it."""
        if (connection := self._h11) is None:
            if (plain := plain_head(data)) is not None:
                self._take(plain[0], b"1.1")
                self.ahead = True
                return plain[1]
            connection = self._h11 = h11.Connection(
                h11.CLIENT, max_incomplete_event_size=self._head_bytes_max
            )
            connection.send(_asking(self._method))
        connection.receive_data(data)
        while self.head is None:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                if error.error_status_hint == TOO_LONG:
                    raise self._head_too_long() from error
                raise self._malformed(without_headers(error)) from error
            if isinstance(event, h11.Response):
                head = Head(event.status_code, tuple(event.headers), event.reason)
                self._take(head, event.http_version)
            elif isinstance(event, h11.InformationalResponse):
                self._informational += 1
                if self._informational > INFORMATIONAL_MAX:
                    raise self._malformed(
                        f"more than {INFORMATIONAL_MAX} informational responses (1xx) came before "
                        "the final one"
                    )
            else:
                break
        rest = connection.trailing_data[0]
        if self.head is not None:
            self._h11 = None  # frees some forty objects while the body is read
        self.ahead = self.head is not None or bool(rest)
        return rest

    def _take(self, head: Head, version: bytes) -> None:
        if sum(len(name) + len(value) for name, value in head.headers) > self._head_bytes_max:
            raise self._head_too_long()
        self.head = head
        self._body = body_of(self._method, head)
        if version >= b"1.1" and not isinstance(self._body, EndlessBody):
            self.keep_s = kept_s(head.headers)

    def _head_too_long(self) -> MalformedStreamError:
        what = f"the head of the response is longer than {self._head_bytes_max} bytes"
        return self._malformed(what, again=False)

    def _malformed(self, what: str, *, again: bool | None = None) -> MalformedStreamError:
        return MalformedStreamError(
            f"{self._where} sent an invalid response: {what}", retryable=again
        )


def without_headers(error: Exception) -> str:
    """The message of an error of h11, without the header line that it may quote.

    A server may have repeated the key in it. httpx passes on the messages of h11.
    """
    what, _, quoted = str(error).partition(": bytearray(")
    return f"{what}: {quoted[:80].removesuffix(')')}" if what == "illegal status line" else what


def written(request: Outgoing) -> bytes:
    """Encode a request.

    Raises:
        InvalidRequestError: a server could read the bytes as something else than this one request.
    """
    start, lines = _start(request.method, request.target), [*map(_line, request.headers)]
    # A line end in a value would begin another header, and a wrong body length would begin another
    # request.
    if not (start and all(lines) and _is_framed(request)):
        # the invalid value is not quoted, since it may be a key
        raise InvalidRequestError(
            f"the request to {request.origin} cannot be sent as HTTP: its method, a header or the "
            "length of its body is invalid"
        )
    return b"".join((start, *lines, b"\r\n", request.body))


@lru_cache(maxsize=256)
def _start(method: str, target: str) -> bytes:
    """The request line; empty if it would be invalid."""
    line = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "surrogatepass")
    return line if _START.fullmatch(line) else b""


@lru_cache(maxsize=256)
def _line(header: Header) -> bytes:
    """A header line; cached, since most are equal in all requests; empty if it would be invalid."""
    line = b"%b: %b\r\n" % header
    return line if _LINE.fullmatch(line) else b""


def _is_framed(request: Outgoing) -> bool:
    """Whether a request has exactly one `Host`, and a correct `Content-Length` if it has a body."""
    names = [name.lower() for name, _ in request.headers]
    if names.count(b"host") != 1 or b"transfer-encoding" in names:
        return False
    if b"content-length" not in names:
        return not request.body
    _, length = request.headers[names.index(b"content-length")]
    return names.count(b"content-length") == 1 and length == b"%d" % len(request.body)


@lru_cache(maxsize=16)
def _asking(method: str) -> h11.Request:
    """The parts of a request that h11 needs for decoding the response."""
    return h11.Request(method=method, target="/", headers=[("host", "-")])
