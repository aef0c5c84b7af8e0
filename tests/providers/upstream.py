"""A provider's server on loopback, that does to each connection what a test says."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs
import trio
import trio.testing

from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.protocols import HttpReply, HttpRequest, Timeouts, Transport
from orchestra.providers.credentials import bearer
from orchestra.providers.remote import Endpoint
from orchestra.secret import Secret
from tests.patience import PATIENCE_S

T = TypeVar("T")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BACKLOG = 2_048


@attrs.define(eq=False)
class Visit:
    """One connection, as the server sees it."""

    stream: trio.abc.HalfCloseableStream | trio.SSLStream[trio.SocketStream]
    number: int
    """From 0, in the order in which they came."""
    asked: trio.Event = attrs.field(factory=trio.Event)
    """A request has come."""
    gone: trio.Event = attrs.field(factory=trio.Event)
    """The client has closed the connection, and the server has seen it."""
    gone_at: float = 0.0
    _buffer: bytes = b""

    async def request(self) -> bytes:
        """The next request, head and body. Raises EOFError where the client has left."""
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or b"0")
        while len(self._buffer) < size:
            await self._more()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        self.asked.set()
        return head + b"\r\n\r\n" + body

    async def send(self, *parts: bytes) -> None:
        """Send the parts, each in a packet of its own, as far as loopback does so."""
        for part in parts:
            try:
                await self.stream.send_all(part)
            except trio.BrokenResourceError:
                self._has_left()
                raise
            await trio.lowlevel.checkpoint()

    async def left(self) -> None:
        """Wait until the client has left."""
        with suppress(EOFError):
            while True:
                await self._more()

    async def _more(self) -> None:
        try:
            data = await self.stream.receive_some(65_536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self._has_left()
            raise EOFError("the client has left")
        self._buffer += data

    def _has_left(self) -> None:
        self.gone_at = trio.current_time()
        self.gone.set()


Handler: TypeAlias = Callable[[Visit], Awaitable[None]]


@attrs.define(eq=False)
class Upstream:
    """A running server."""

    port: int
    scheme: str
    visits: list[Visit]
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/v1/chat?a=1"


def openai_endpoint(server: Upstream, model: str = "m", **options: Any) -> Endpoint:
    """A model behind it that speaks OpenAI's format."""
    return Endpoint(
        provider="openai",
        model=model,
        base_url=f"http://{server.host}:{server.port}/v1",
        dialect=OpenAiDialect(),
        credentials=bearer(Secret("sk-test")),
        **options,
    )


@asynccontextmanager
async def upstream(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Upstream]:
    """A server that closes a connection when its handler returns, or when a client has left."""
    visits: list[Visit] = []

    async def serve(stream: trio.SocketStream) -> None:
        secured = (
            trio.SSLStream(stream, tls, server_side=True, https_compatible=True) if tls else None
        )
        visit = Visit(secured or stream, len(visits))
        visits.append(visit)
        with suppress(EOFError, trio.BrokenResourceError):
            await handler(visit)
        with trio.move_on_after(1, shield=True):
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        listen = partial(trio.serve_tcp, serve, 0, host="127.0.0.1", backlog=BACKLOG)
        listeners = await nursery.start(listen)
        port = listeners[0].socket.getsockname()[1]
        try:
            yield Upstream(port, "https" if tls else "http", visits, host)
        finally:
            nursery.cancel_scope.cancel()


def answering(*parts: bytes) -> Handler:
    """Answers every request with these parts."""

    async def handle(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.send(*parts)

    return handle


def sends(*parts: bytes) -> Handler:
    """Answers with these parts, and closes the connection."""

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(*parts)

    return handle


def holds(*parts: bytes) -> Handler:
    """Answers with these parts, and then says nothing until the client has left."""

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(*parts)
        await visit.left()

    return handle


async def streaming(visit: Visit) -> None:
    """Begins to answer, and waits until the client has left."""
    await visit.request()
    await visit.send(CHUNKED, b"2\r\nab\r\n")
    await visit.left()


def run(main: Callable[[], Coroutine[Any, Any, T]], limit_s: float = PATIENCE_S) -> T:
    """Run a test on Trio; it fails where it hangs."""

    async def limited() -> T:
        with trio.fail_after(limit_s):
            return await main()

    return trio.run(limited)


async def read(reply: HttpReply) -> bytes:
    """The whole body."""
    parts: list[bytes] = []
    while part := await reply.receive():
        parts.append(part)
    return b"".join(parts)


async def end(parts: AsyncIterator[object]) -> None:
    """End generators that stand in the middle, one within the other: all see a cancellation."""
    with trio.CancelScope() as scope:
        scope.cancel()
        async for _ in parts:
            pass


async def until(true: Callable[[], bool]) -> None:
    """Wait until it is true."""
    while not true():
        await trio.testing.wait_all_tasks_blocked(0.001)


async def fetch(transport: Transport, url: str, timeouts: Timeouts = Timeouts()) -> bytes:
    """Ask, and read the whole body."""
    async with transport.send(HttpRequest(url, b"{}", timeouts=timeouts)) as reply:
        return await read(reply)


def open_sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them is closed by now
            count += str(each.readlink()).startswith("socket:")
    return count


def least(main: Callable[[], Coroutine[Any, Any, float]], times: int = 5) -> float:
    """The least of what some runs give: a busy machine says nothing about the code."""
    return min(run(main) for _ in range(times))
