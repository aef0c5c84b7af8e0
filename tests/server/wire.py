"""What the server's tests share: a server on loopback, and clients that speak raw HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import msgspec
import pytest
import trio
from hypercorn.protocol import ws_stream
from hypercorn.protocol.h2 import StreamBuffer
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import ASGIFramework

from orchestra.server.connections.listen import HttpServer
from orchestra.server.connections.sockets import bind
from orchestra.server.settings import Settings
from tests.patience import PATIENCE_S

_MENDED = [
    (StreamBuffer, "pop"),
    (H11Protocol, "_check_protocol"),
    (H11Protocol, "handle"),
    (HTTPStream, "app_send"),
    (TaskGroup, "spawn_app"),
    (WebsocketBuffer, "extend"),
    (WSStream, "_send_pings"),
    (WSStream, "handle"),
    (WSStream, "_handle_events"),
    (WSStream, "_send_error_response"),
    (ws_stream, "server_extensions_handshake"),
]
# As Hypercorn ships them: this module is imported before anything is mended.
STOCK = [(where, name, getattr(where, name)) for where, name in _MENDED]
STOCK_CHECK_PROTOCOL = H11Protocol._check_protocol


@pytest.fixture
def _unmended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test begins with Hypercorn as it ships, and leaves no patch behind."""
    for where, name, stock in STOCK:
        monkeypatch.setattr(where, name, stock)


@attrs.frozen
class Reply:
    """An HTTP answer, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return msgspec.json.decode(self.body, type=dict[str, object])


@attrs.define
class Client:
    """One connection, with what came on it and is not yet read."""

    stream: trio.SocketStream
    buffer: bytearray = attrs.field(factory=bytearray)

    async def send(self, head: str, body: bytes = b"") -> None:
        """Send a request: its line and headers, one to a line, and its body."""
        lines = [line.strip() for line in head.strip().splitlines()] + ["Host: test"]
        lines += [f"Content-Length: {len(body)}"] if body else []
        await self.stream.send_all("\r\n".join(lines).encode("latin1") + b"\r\n\r\n" + body)

    async def until(self, mark: bytes) -> bytes:
        """What comes up to and with the mark."""
        while mark not in self.buffer:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError(
                    f"the connection ended before {mark!r}, after {bytes(self.buffer)!r}"
                )
            self.buffer += data
        return self._take(self.buffer.index(mark) + len(mark))

    def _take(self, size: int) -> bytes:
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        while data := await self.stream.receive_some():
            self.buffer += data
        return self._take(len(self.buffer))

    async def head(self) -> Reply:
        """An answer's status and headers; its body is still to come."""
        line, *lines = (await self.until(b"\r\n\r\n")).decode("latin1").strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return Reply(int(line.split()[1]), headers, b"")

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        size = int(await self.until(b"\r\n"), 16)
        while len(self.buffer) < size + 2:
            self.buffer += await self.stream.receive_some()
        return self._take(size + 2)[:size]

    async def reply(self) -> Reply:
        """An answer, whole."""
        head = await self.head()
        body = b""
        if head.status == 204:
            return head
        if "content-length" in head.headers:
            size = int(head.headers["content-length"])
            while len(self.buffer) < size:
                self.buffer += await self.stream.receive_some()
            body = self._take(size)
        else:
            while chunk := await self.chunk():
                body += chunk
        return attrs.evolve(head, body=body)

    async def ask(self, head: str, body: bytes = b"") -> Reply:
        """Send a request and wait for its answer, which may come before all is sent."""
        with suppress(trio.BrokenResourceError):
            await self.send(head, body)
        return await self.reply()

    async def closed(self) -> bool:
        """Wait until the server closes; nothing more may come before."""
        try:
            return await self.stream.receive_some() == b""
        except trio.BrokenResourceError:
            return True


@attrs.define
class House:
    """A server with its clients."""

    server: HttpServer
    port: int
    empty: trio.Event = attrs.field(factory=trio.Event)
    _clients: list[Client] = attrs.field(factory=list)

    async def connect(self) -> Client:
        """A new client."""
        client = Client(await trio.open_tcp_stream("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close every client's socket."""
        for client in self._clients:
            client.stream.socket.close()


@asynccontextmanager
async def open_house(
    app: ASGIFramework, settings: Settings, listener: socket.socket | None = None
) -> AsyncIterator[House]:
    """A server of the app on a free loopback port; all is cut when it is left."""
    listener = listener or bind("127.0.0.1", 0, settings)
    house = House(HttpServer(app, settings), listener.getsockname()[1])

    async def serve() -> None:
        await house.server.serve(listener)
        house.empty.set()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)  # noqa: ASYNC113 - it is waited for below
            try:
                yield house
            finally:
                house.close()
            nursery.cancel_scope.cancel()
