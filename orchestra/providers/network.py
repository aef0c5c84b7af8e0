"""The `Transport` to providers, over our own connections, or through a proxy.

httpx is imported only if a proxy is configured: the import takes 100 ms.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from ipaddress import ip_address, ip_network
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.request import getproxies_environment

import trio

from orchestra.protocols import HttpReply, HttpRequest, Transport
from orchestra.providers.connections.connection import Answering
from orchestra.providers.connections.http1 import Origin, located, outgoing
from orchestra.providers.connections.line import tls_context
from orchestra.providers.connections.pool import HttpLimits, Pool
from orchestra.providers.connections.reply import readable

if TYPE_CHECKING:
    from orchestra.providers.transport import ProxyTransport

CLOSE_S = 1.0


class HttpTransport(Transport):
    """Sends requests to providers over HTTP/1.1, and reuses connections.

    Redirects are returned and never followed, so that no key is sent elsewhere. Proxies come from
    the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY), or from `proxies` instead, under
    "https", "http", "all" and "no"; an empty mapping means no proxy. `tls` sets the accepted
    certificates, by default those of the system's authorities: see `tls_context`.

    Not bound to a task; any number of tasks may use it. Call `aclose` at the end.
    """

    def __init__(
        self,
        *,
        limits: HttpLimits | None = None,
        tls: ssl.SSLContext | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        self._limits = limits or HttpLimits()
        self._tls = tls
        self._pool = Pool(self._limits, tls)
        self._proxies = dict(getproxies_environment() if proxies is None else proxies)
        self._proxied: dict[str, ProxyTransport] = {}

    def send(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpReply]:
        """Send a request; entered when the answer's head has arrived, with any status.

        Raises:
            ModelTimeoutError: `connect_s`, `first_byte_s`, `idle_s` or `total_s` passed.
            ModelConnectionError: `code` is `connect` if there is no connection (nothing was
                sent, unless it has `begun`), and `cut` if that broke before the head.
            MalformedStreamError: the answer is not HTTP, or exceeds a limit.
            InvalidRequestError: the URL is invalid, or a header has a line end.
        """
        proxy = proxy_for(request.url, self._proxies)
        if proxy is None or self._pool.closed:  # then that is the error
            return _Sending(self._pool, request, self._limits.body_bytes)
        if proxy not in self._proxied:
            from orchestra.providers.transport import ProxyTransport

            self._proxied[proxy] = ProxyTransport(proxy, limits=self._limits, tls=self._tls)
        return self._proxied[proxy].send(request)

    def close(self) -> None:
        """As `aclose`, for use outside of Trio; connections through a proxy are not closed."""
        self._pool.close()
        self._proxied.clear()

    async def aclose(self) -> None:
        """Close idle connections at once; others are closed when their answers are left.

        Through a proxy, these are closed at once, too.
        """
        self._pool.close()
        for proxied in self._proxied.values():
            await proxied.aclose()


class _Sending(AbstractAsyncContextManager[HttpReply]):
    def __init__(self, pool: Pool, request: HttpRequest, limit_bytes: int) -> None:
        self._pool = pool
        self._request: HttpRequest | None = request
        self._limit_bytes = limit_bytes
        self._answering: Answering | None = None

    async def __aenter__(self) -> HttpReply:
        assert self._request is not None, "entered once"
        request, timeouts = outgoing(self._request), self._request.timeouts
        self._request = None  # frees a long conversation while the answer is read
        answering = await self._pool.ask(request, timeouts)
        try:
            reply = readable(answering, str(request.origin), self._limit_bytes)
        except BaseException:
            answering.leave(broken=True)
            raise
        self._answering = answering
        return reply

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.leave()


def proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    """The proxy for a URL; None for a direct connection.

    `proxies` has proxies under "https", "http" and "all", and under "no" the hosts without one,
    separated by commas: `example.com` includes its subdomains, `example.com:8443` is one port of
    these, `10.0.0.0/8` a range of addresses, `*` every host.

    Raises:
        InvalidRequestError: it is not an HTTP URL.
    """
    if not proxies:
        return None
    origin, _ = located(url)
    proxy = proxies.get(origin.scheme) or proxies.get("all")
    if not proxy or any(_reached(origin, entry) for entry in proxies.get("no", "").split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _reached(origin: Origin, entry: str) -> bool:
    """Whether an entry of NO_PROXY matches an origin."""
    entry, host = entry.strip().lower(), origin.host.lower()
    if entry in ("*", f"[{host}]"):
        return True
    with suppress(ValueError):
        return ip_address(host) in ip_network(entry, strict=False)
    name = entry.lstrip("*.")
    places = (host, str(origin).lower())
    return bool(name) and any(place == name or place.endswith(f".{name}") for place in places)


@asynccontextmanager
async def open_transport(
    *,
    limits: HttpLimits | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    proxies: Mapping[str, str] | None = None,
) -> AsyncIterator[HttpTransport]:
    """An `HttpTransport`, closed at the end.

    `ca_file` has authorities that are trusted in addition to the system's.
    """
    tls = None if ca_file is None else tls_context(os.fspath(ca_file))
    transport = HttpTransport(limits=limits, tls=tls, proxies=proxies)
    try:
        yield transport
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await transport.aclose()
