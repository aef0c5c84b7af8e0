"""A TCP proxy that counts: how a server that cannot tell sees us come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import trio


class Proxy:
    """Stands between us and a server, at `url`.

    `connections` is how many of ours there were; `left` is set when one of them was closed by
    us, at `left_at_s` of Trio's clock.
    """

    def __init__(self, url: str, host: str, port: int) -> None:
        self.url = url
        self.connections = 0
        self.left = trio.Event()
        self.left_at_s = float("inf")
        self._target = (host, port)

    async def carry(self, ours: trio.SocketStream) -> None:
        """One connection of ours, until either side closes it."""
        self.connections += 1
        theirs = await trio.open_tcp_stream(*self._target)
        async with ours, theirs, trio.open_nursery() as nursery:
            nursery.start_soon(self._from_server, theirs, ours, nursery.cancel_scope)
            await _pump(ours, theirs)
            self.left_at_s = trio.current_time()
            self.left.set()
            nursery.cancel_scope.cancel()

    async def _from_server(
        self, theirs: trio.SocketStream, ours: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        await _pump(theirs, ours)
        scope.cancel()


async def _pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    """Carry bytes until the source ends, or either breaks."""
    with suppress(trio.BrokenResourceError):
        async for data in source:
            await sink.send_all(data)


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """A proxy to the server at this address."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    proxy = Proxy(f"http://127.0.0.1:{port}", parts.hostname, parts.port)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, proxy.carry, listeners)
        failure: Exception | None = None
        try:
            yield proxy
        except Exception as error:
            failure = error  # not through the nursery, which would wrap it in a group
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
