"""The `Transport` to providers, over our own connections or through a proxy.

httpx is imported only when a proxy is used: the import takes 100 ms.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.request import getproxies_environment

import attrs
import trio

from orchestra.protocols import HttpReply, HttpRequest, Transport
from orchestra.providers.connections.connection import Response
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
    the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY), or else from `proxies`, under
    the keys "https", "http", "all" and "no"; an empty mapping means no proxy. `tls` decides which
    certificates are accepted, by default those of the system's authorities: see `tls_context`.

    It belongs to no task; any number of tasks may use it at once. Call `aclose` at the end.
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
        """Send a request; entering the context waits for the response's head, with any status.

        Raises:
            ModelTimeoutError: `connect_s`, `first_byte_s`, `idle_s` or `total_s` passed.
            ModelConnectionError: `code` is `connect` if no connection could be made (nothing was
                sent, unless the error is marked as `begun`), `waiting_max` if too many requests
                wait for a connection, and `cut` if the connection broke before the head.
            MalformedStreamError: the response is not HTTP, or exceeds a limit.
            InvalidRequestError: the URL or a header is invalid.
        """
        proxy = proxy_for(request.url, self._proxies)
        if proxy is None or self._pool.closed:  # a closed pool raises the error
            return _Sending(self._pool, request, self._limits.body_bytes)
        if proxy not in self._proxied:
            from orchestra.providers.transport import ProxyTransport

            self._proxied[proxy] = ProxyTransport(proxy, limits=self._limits, tls=self._tls)
        return self._proxied[proxy].send(request)

    def close(self) -> None:
        """As `aclose`, for use outside of Trio; connections to a proxy are not closed."""
        self._pool.close()
        self._proxied.clear()

    async def aclose(self) -> None:
        """Close idle connections at once; the others are closed when their responses are left.

        All connections to a proxy are closed at once.
        """
        self._pool.close()
        for proxied in self._proxied.values():
            await proxied.aclose()


class _Sending(AbstractAsyncContextManager[HttpReply]):
    def __init__(self, pool: Pool, request: HttpRequest, limit_bytes: int) -> None:
        self._pool = pool
        self._request: HttpRequest | None = request
        self._limit_bytes = limit_bytes
        self._response: Response | None = None

    async def __aenter__(self) -> HttpReply:
        assert self._request is not None, "entered once"
        request, timeouts = outgoing(self._request), self._request.timeouts
        self._request = None  # frees a long conversation while the response is read
        response = await self._pool.ask(request, timeouts)
        try:
            reply = readable(response, str(request.origin), self._limit_bytes)
        except BaseException:
            response.leave(broken=True)
            raise
        self._response = response
        return reply

    async def __aexit__(self, *_: object) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.leave()


def proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    """The URL of the proxy for a request to `url`; None for a direct connection.

    `proxies` has the URLs of proxies under "https", "http" and "all". Under "no" it has the hosts
    that are reached directly, separated by commas: `example.com` includes its subdomains,
    `example.com:8443` means only this port, `10.0.0.0/8` is a range of addresses, `*` every host.

    Raises:
        InvalidRequestError: `url` is not an HTTP URL.
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
    entry, host = entry.strip().lower(), origin.host.lower().rstrip(".")
    if entry in ("*", f"[{host}]"):
        return True
    with suppress(ValueError):
        return ip_address(host) in ip_network(entry, strict=False)
    name = entry.lstrip("*.").rstrip(".").replace(".:", ":")  # `example.com.` is absolute
    places = (host, str(attrs.evolve(origin, host=host)))
    return bool(name) and any(place == name or place.endswith(f".{name}") for place in places)


@asynccontextmanager
async def open_transport(
    *,
    limits: HttpLimits | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    proxies: Mapping[str, str] | None = None,
) -> AsyncIterator[HttpTransport]:
    """Open an `HttpTransport`, and close it at the end of the context.

    `ca_file` contains certificate authorities that are trusted in addition to the system's.

    Raises:
        OSError: `ca_file` does not exist, or contains no certificate.
    """
    tls = None if ca_file is None else tls_context(os.fspath(ca_file))
    transport = HttpTransport(limits=limits, tls=tls, proxies=proxies)
    try:
        yield transport
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await transport.aclose()
