"""Adapters to httpx: our connections for httpx's client, and httpx's proxies for our `Transport`.

The only module that imports httpx, which takes 100 ms; what does not need httpx is in `network`.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any, TypeVar

import httpx  # noqa: ASYNC127 - the switch to its successor is a separate change
import trio

from orchestra.accounts import UNSENT
from orchestra.errors import (
    InvalidRequestError,
    MalformedStreamError,
    ModelConnectionError,
    ModelError,
    ModelTimeoutError,
)
from orchestra.hosts import DEFAULT_PORTS
from orchestra.protocols import HttpReply, HttpRequest, Timeouts, Transport
from orchestra.providers.connections.bodies import EndlessBody
from orchestra.providers.connections.connection import Bounds, Response, left_error
from orchestra.providers.connections.heads import Head, body_of
from orchestra.providers.connections.http1 import Origin, Outgoing, outgoing, without_headers
from orchestra.providers.connections.line import tls_context
from orchestra.providers.connections.pool import HttpLimits, Pool
from orchestra.providers.connections.reply import readable
from orchestra.providers.connections.unreached import reason, unreached
from orchestra.providers.network import HttpTransport, open_transport

__all__ = ["HttpTransport", "ProxyTransport", "TrioTransport", "open_transport"]

T = TypeVar("T")
CLOSE_S = 1.0
_CUT = re.compile("peer closed connection|disconnected")
_BROKEN = (httpx.TransportError, ssl.SSLError, trio.ClosedResourceError)
"""The errors of httpx's connections; the last if a connection is closed in its TLS handshake."""


class TrioTransport(httpx.AsyncBaseTransport):
    """An httpx transport over our connections: for `httpx.AsyncClient(transport=...)` on Trio.

    Use it also for a vendor's SDK that accepts an httpx client. It speaks HTTP/1.1; its cost is
    linear in the number of streams. httpx's timeouts apply as usual: `connect` to open a
    connection, `read` to wait for the head and for each further piece of the body. httpx's
    connection limits do not apply; use `limits`. Errors are `httpx.TransportError`.
    """

    def __init__(
        self, *, limits: HttpLimits | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._pool = Pool(limits, tls)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; returns when the response's head has arrived.

        Raises:
            httpx.TransportError: the request failed.
        """
        limits_s = request.extensions.get("timeout", {})
        timeouts = Timeouts(
            connect_s=limits_s.get("connect"),
            first_byte_s=limits_s.get("read"),
            idle_s=limits_s.get("read"),
            total_s=None,
        )
        try:
            going = _from_httpx(request, await request.aread())
            response = await self._pool.ask(going, timeouts)
        except ModelError as error:
            raise _as_httpx(error, request) from error
        return httpx.Response(
            response.head.status,
            headers=list(response.head.headers),
            stream=_Stream(response, request),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": response.head.reason},
        )

    async def aclose(self) -> None:
        """Close idle connections at once; the others are closed when their responses are left."""
        self._pool.close()


class _Stream(httpx.AsyncByteStream):
    """The body of a response for httpx.

    It is no generator: a generator would stay suspended when its reader leaves early.
    """

    def __init__(self, response: Response, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._response.receive()
        except ModelError as error:
            raise _as_httpx(error, self._request) from error
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        self._response.leave()


class ProxyTransport(Transport):
    """A `Transport` through a proxy, over httpx's own connections; HTTP/2 is off.

    `proxy` is the proxy's URL, with user and password if it needs them. `tls` applies to the
    certificates of the proxy and of the providers. The time limits are those of `Transport`, except
    that the head must arrive within `connect_s` plus `first_byte_s`.

    Raises:
        ModelConnectionError: `proxy` is not a valid URL of a proxy, or needs a package that is not
            installed.
    """

    def __init__(
        self, proxy: str, *, limits: HttpLimits | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._limits = limits or HttpLimits()
        try:
            self._proxy = httpx.URL(proxy)
            self._stock = _stock(self._proxy, self._limits, tls or tls_context())
        except ImportError as error:
            raise ModelConnectionError(
                f"the proxy cannot be used: {error}", retryable=False, code="connect"
            ) from error
        except (httpx.InvalidURL, ValueError):  # not chained: these may quote the password
            raise ModelConnectionError(
                "the proxy cannot be used: it needs a URL like http://proxy.example.com:3128",
                retryable=False,
                code="connect",
            ) from None

    def send(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpReply]:
        return _Proxied(self._stock, request, self._proxy.host, self._limits)

    async def aclose(self) -> None:
        """Close the proxy's connections."""
        await self._stock.aclose()


def _stock(url: httpx.URL, limits: HttpLimits, tls: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
    # httpx's connection limit is not set: a task that is cancelled while it waits for a connection
    # would lose the slot forever (httpcore issue 1093).
    kept = httpx.Limits(
        max_connections=None,
        max_keepalive_connections=limits.idle_max,
        keepalive_expiry=limits.keep_s,
    )
    proxy = httpx.Proxy(url, ssl_context=tls if url.scheme == "https" else None)
    return httpx.AsyncHTTPTransport(verify=tls, proxy=proxy, http2=False, limits=kept)


class _Proxied(AbstractAsyncContextManager[HttpReply], HttpReply):
    """One request through a proxy, and its response.

    httpx's generators leak resources if they are abandoned half-read (trap 7). So the innermost one
    is resumed in a cancelled scope, and then each generator closes its resources.

    A body without a length ends with its connection. Over TLS, httpx does not tell whether the
    server ended the connection, or something on the way cut it. Here, such a body is complete only
    if the server announced the end.
    """

    def __init__(
        self, stock: httpx.AsyncHTTPTransport, request: HttpRequest, proxy: str, limits: HttpLimits
    ) -> None:
        self._stock = stock
        self._request = request
        self._proxy = proxy
        self._limits = limits
        self._bytes = 0
        self._whole = False
        self._sent = False
        """Whether sending the request has begun; before that, the proxy must be reached."""
        self._stream: httpx.AsyncByteStream | None = None
        self._parts: AsyncIterator[bytes] | None = None
        self._tls: ssl.SSLObject | None = None
        """The TLS state, if the body ends with its connection and that uses TLS."""

    async def __aenter__(self) -> HttpReply:
        going, timeouts = outgoing(self._request), self._request.timeouts
        where = f"{going.origin} (through the proxy {self._proxy})"
        self._bounds = bounds = Bounds(timeouts, where)
        at = bounds.begin_at() + (math.inf if timeouts.connect_s is None else timeouts.connect_s)
        send = partial(self._send, _to_httpx(going))
        response = await self._with_our_errors(partial(bounds.beginning, at, send))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._stream, self._parts = response.stream, aiter(response.stream)
        raw = tuple((name.lower(), value) for name, value in response.headers.raw)
        head = Head(response.status_code, raw)
        self._status, self._headers = head.status, head.named()
        if isinstance(body_of(going.method, head), EndlessBody):
            self._tls = response.extensions["network_stream"].get_extra_info("ssl_object")
        try:
            return readable(self, where, self._limits.body_bytes)
        except BaseException:
            with trio.move_on_after(CLOSE_S, shield=True):
                await self._leave()
            raise

    @property
    def status(self) -> int:
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    async def __aexit__(self, *_: object) -> None:
        with trio.move_on_after(CLOSE_S, shield=True):
            await self._leave()

    async def receive(self) -> bytes:
        """As `HttpReply.receive`, but a cancellation or an error ends the response.

        httpx cannot resume then, so a later call raises ModelConnectionError.
        """
        if self._whole:
            return b""
        # An exception finishes httpx's generator, which would then seem to be at the end of the
        # body. So the generator is kept only if it has returned normally.
        parts, self._parts = self._parts, None
        if parts is None:
            raise left_error(self._bounds.where)
        data = await self._with_our_errors(lambda: self._bounds.going_on(lambda: self._next(parts)))
        self._parts, self._whole = parts, not data
        self._bytes += len(data)
        if self._bytes > self._limits.body_bytes:
            raise MalformedStreamError(
                f"the response from {self._bounds.where} is longer than {self._limits.body_bytes} "
                "bytes",
                retryable=False,
            )
        return data

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; `connect_s` covers the proxy's own connecting, until sending begins."""
        bounds = self._bounds
        with trio.CancelScope(deadline=bounds.connect_at()) as connecting:
            request.extensions["trace"] = partial(self._traced, connecting)
            try:
                return await self._stock.handle_async_request(request)
            except trio.Cancelled as cancelled:
                if not self._sent:
                    cancelled.add_note(UNSENT)
                raise
            except _BROKEN as error:
                if self._sent:
                    raise
                raise unreached(bounds.where, error, "is the proxy right, and up?") from error
        raise bounds.late("connect_s")

    async def _traced(
        self, connecting: trio.CancelScope, step: str, about: Mapping[str, Any]
    ) -> None:
        """Lift the time limit for connecting when sending begins: a `trace` callback of httpx."""
        if step == "http11.send_request_headers.started" and about["request"].method != b"CONNECT":
            self._sent, connecting.deadline = True, math.inf

    async def _next(self, parts: AsyncIterator[bytes]) -> bytes:
        data = await anext(parts, b"")
        if not data and self._tls is not None:
            self._tls.read(1)  # raises SSLEOFError unless the server has announced the end
        return data

    async def _leave(self) -> None:
        stream, parts = self._stream, self._parts
        self._stream = self._parts = None
        if parts is not None:
            with trio.CancelScope() as scope:
                scope.cancel()
                with suppress(httpx.TransportError):
                    while await anext(parts, b""):
                        pass
        if stream is not None:
            await stream.aclose()

    async def _with_our_errors(self, job: Callable[[], Awaitable[T]]) -> T:
        """Run `job`, and convert httpx's errors to ours."""
        try:
            return await job()
        except _BROKEN as error:
            raise _as_model(error, self._bounds) from error


class _Content(httpx.AsyncByteStream):
    """The body of a request for httpx; no generator, which would stay suspended when cancelled."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._left: list[bytes] = []

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._left = [self._body]
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def _to_httpx(going: Outgoing) -> httpx.Request:
    origin = going.origin
    try:
        url = httpx.URL(
            scheme=origin.scheme,
            host=origin.host,
            port=origin.port,
            raw_path=going.target.encode(),
        )
    except httpx.InvalidURL as error:
        raise InvalidRequestError(
            f"the request to {origin} cannot be sent through a proxy: {error}"
        ) from None
    headers, content = list(going.headers), _Content(going.body)
    return httpx.Request(going.method, url, headers=headers, stream=content)


def _from_httpx(request: httpx.Request, body: bytes) -> Outgoing:
    url = request.url
    if url.scheme not in DEFAULT_PORTS:
        raise httpx.UnsupportedProtocol(
            f"the URL scheme {url.scheme!r} is not supported: use http:// or https://",
            request=request,
        )
    origin = Origin(url.scheme, url.raw_host.decode(), url.port or DEFAULT_PORTS[url.scheme])
    framing = (b"transfer-encoding", b"content-length")
    kept = [each for each in request.headers.raw if each[0].lower() not in framing]
    if body or request.method in ("POST", "PUT", "PATCH"):
        kept.append((b"Content-Length", b"%d" % len(body)))
    return Outgoing(origin, request.method, url.raw_path.decode(), tuple(kept), body)


def _as_httpx(error: ModelError, request: httpx.Request) -> httpx.TransportError:
    kind: type[httpx.TransportError]
    match error:
        case ModelTimeoutError(code="connect_s"):
            kind = httpx.ConnectTimeout
        case ModelTimeoutError():
            kind = httpx.ReadTimeout
        case ModelConnectionError(code="connect"):
            kind = httpx.ConnectError
        case ModelConnectionError(code="waiting_max"):
            kind = httpx.PoolTimeout
        case InvalidRequestError():
            kind = httpx.LocalProtocolError
        case _:
            kind = httpx.RemoteProtocolError
    return kind(error.message, request=request)


def _as_model(error: Exception, bounds: Bounds) -> ModelError:
    where = bounds.where
    if isinstance(error, httpx.RemoteProtocolError) and not _CUT.search(str(error)):
        return MalformedStreamError(f"{where} sent an invalid response: {without_headers(error)}")
    return ModelConnectionError(f"the connection to {where} broke: {reason(error)}", code="cut")
