"""Cures for what Hypercorn and Quart-Trio do wrong under a stream; each names its trap.

Written against the versions in `MENDED_AGAINST`. `tests/server/connections/test_hardening.py` shows
every trap without its cure, so that a release which mends one is noticed and the cure
removed; the same is done for `listen.py`. What `arrived.py`, `bodies.py` and `whole.py` know of
h11 is private to it, too.

Rules of this file: a cure is one function or method, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.protocol import ws_stream
from hypercorn.protocol.events import Data, StreamClosed
from hypercorn.protocol.h2 import BUFFER_LOW_WATER, StreamBuffer
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream
from hypercorn.trio import task_group
from hypercorn.trio.task_group import TaskGroup
from wsproto.events import Message, Ping, TextMessage

if TYPE_CHECKING:
    import h11
    from hypercorn.config import Config
    from hypercorn.protocol.events import Event as StreamEvent
    from hypercorn.typing import (
        AppWrapper,
        ASGIFramework,
        ASGIReceiveCallable,
        ASGIReceiveEvent,
        ASGISendCallable,
        ASGISendEvent,
        Scope,
    )

MENDED_AGAINST = {
    "h11": "0.16.0",
    "hypercorn": "0.18.0",
    "quart-trio": "0.12.0",
    "quart": "0.22.0",
}

READ_AT_ONCE = 4096
"""Bytes from a WebSocket; seven hundred frames at most, which take some milliseconds."""
_STOCK_HANDLE = WSStream.handle


def mend_hypercorn() -> None:
    """Replace methods of Hypercorn, for the whole process; again does nothing."""
    from orchestra.server.connections.arrived import handle
    from orchestra.server.connections.whole import app_send

    HTTPStream.app_send = app_send  # type: ignore[method-assign]
    H11Protocol.handle = handle  # type: ignore[method-assign]
    StreamBuffer.pop = _pop  # type: ignore[method-assign]
    H11Protocol._check_protocol = _stay_with_http1  # type: ignore[method-assign] # noqa: SLF001
    TaskGroup.spawn_app = _spawn_app  # type: ignore[method-assign]
    WebsocketBuffer.extend = _extend  # type: ignore[method-assign]
    WSStream._send_pings = _send_pings  # type: ignore[method-assign] # noqa: SLF001
    WSStream.handle = _handle  # type: ignore[method-assign]
    ws_stream.server_extensions_handshake = _no_extensions  # type: ignore[assignment,attr-defined]


async def _pop(self: StreamBuffer, max_length: int) -> bytes:
    """Hypercorn's own, except that the writer goes on by what is left, not by what was taken.

    Otherwise a client that opens no window takes nothing, which counts as a drained
    buffer: it made the server hold a gigabyte in a second.
    """
    data = bytes(self.buffer[:max_length])
    del self.buffer[:max_length]
    if len(self.buffer) < BUFFER_LOW_WATER:
        await self._paused.set()
    if not self.buffer:
        await self._is_empty.set()
    return data


async def _stay_with_http1(self: H11Protocol, event: h11.Request) -> None:
    """Answer HTTP/1.1 also to those who offer HTTP/2 without TLS.

    Hypercorn switches to HTTP/2 on any port when asked, by upgrade or by preface, and
    has no setting against it. There an early answer, or a byte that is not ASCII in a
    path, raises in the connection's task; and a connection that never asks for anything
    is never closed.
    """


async def _spawn_app(
    self: TaskGroup, app: AppWrapper, config: Config, scope: Scope, send: Any
) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
    """Hypercorn's own, with a `Mailbox` in place of its channel."""
    mailbox = Mailbox(config.max_app_queue_size)
    handle = task_group._handle  # noqa: SLF001
    threads = (trio.to_thread.run_sync, trio.from_thread.run)
    assert self._nursery is not None, "it is spawned in its own context"
    self._nursery.start_soon(handle, app, config, scope, mailbox.receive, send, *threads)
    return mailbox.put


class Mailbox:
    """What a connection tells its application, in order; that its client left never waits.

    In Hypercorn's, where the application receives no more (it refuses a request and answers at
    once, for one), a client that goes on sending fills it, and then both sides wait for
    ever: the application to say that it is done, the connection to hand over what has come. And
    each message there takes a turn of the scheduler: here a request that has come whole is
    handed over whole. For one who puts, and one who receives.
    """

    __slots__ = ("_last", "_messages", "_messages_max", "_moved")

    def __init__(self, messages_max: int) -> None:
        self._messages: list[Any] = []  # ten at most
        self._messages_max = messages_max
        self._last: Any = None
        self._moved: trio.Event | None = None

    async def put(self, message: Any) -> None:
        """Hand it over; when the client has left, nothing more is, and nobody waits to."""
        if message["type"].endswith(".disconnect"):
            self._last = message
        while self._last is None and len(self._messages) >= self._messages_max:
            await self._move()
        if self._last is None:
            self._messages.append(message)
        self._tell()

    async def receive(self) -> Any:
        """The next of them; at the end, again and again, that the client has left."""
        while (message := self.receive_nowait()) is None:
            if self._last is not None:
                await trio.lowlevel.checkpoint()
                return self._last
            await self._move()
        return message

    def receive_nowait(self) -> Any:
        """The next of them, if it is here; else None."""
        if not self._messages:
            return None
        message = self._messages.pop(0)
        self._tell()
        return message

    def retire(self) -> None:
        """Hold nothing any more: all has come but that the client has left, which others tell."""
        self._messages = []
        self._last = {"type": "http.disconnect"}
        self._tell()

    async def _move(self) -> None:
        """Wait until something has come, or gone."""
        if self._moved is None:
            self._moved = trio.Event()
        await self._moved.wait()

    def _tell(self) -> None:
        if self._moved is not None:
            self._moved.set()
            self._moved = None


def _extend(self: WebsocketBuffer, event: Message[Any]) -> None:
    """Hypercorn's own, except that of a message which is too large nothing is kept.

    It closes such a WebSocket and goes on reading, and keeping, for as long as the peer sends. Here
    the application is given a message without text and bytes, and closes it.
    """
    self.length += len(event.data)
    if self.length > self.max_length:
        self.value = None
        return
    if self.value is None:
        self.value = StringIO() if isinstance(event, TextMessage) else BytesIO()
    self.value.write(event.data)


def _no_extensions(*_: object) -> bytes | None:
    """Compress no WebSocket: what a peer has compressed is inflated whole, before it is counted.

    A kilobyte of it is a megabyte then; and each connection would hold 300 kB for it.
    """
    return None


async def _send_pings(self: WSStream) -> None:
    """Hypercorn's own, which outlives its connection by an interval, and holds its place."""
    interval_s = self.config.websocket_ping_interval
    with trio.CancelScope() as pinging:
        self.pinging = pinging  # type: ignore[attr-defined]
        while interval_s is not None:
            await trio.sleep(interval_s)
            await self._send_wsproto_event(Ping())


async def _handle(self: WSStream, event: StreamEvent) -> None:
    """Hypercorn's own; the end of the connection ends its pings, and what it refuses is closed.

    A handshake that is none, or that is not waited for, it answers with `connection: close`, and
    then keeps the connection for as long as the client likes, with no timer.

    And what has come is read a little at a time: ten thousand empty frames come in one packet, and
    held all others up for a tenth of a second, again and again.
    """
    was_closed = self.closed
    if isinstance(event, Data) and len(event.data) > READ_AT_ONCE:
        starts = range(0, len(event.data), READ_AT_ONCE)
        *parts, event = (
            Data(event.stream_id, event.data[start : start + READ_AT_ONCE]) for start in starts
        )
        for part in parts:
            await _STOCK_HANDLE(self, part)
            await trio.lowlevel.checkpoint()
    await _STOCK_HANDLE(self, event)
    if isinstance(event, StreamClosed):
        if pinging := getattr(self, "pinging", None):
            pinging.cancel()
    elif self.closed and not was_closed and not self.handshake.accepted:
        await self.send(StreamClosed(stream_id=self.stream_id))


class Hardened:
    """An ASGI application whose sends to a WebSocket give way.

    One whose peer has left returns at once without a checkpoint: a loop of sends would hold the
    thread for ever. So each is followed by one.
    """

    def __init__(self, app: ASGIFramework) -> None:
        self._app = app

    def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Awaitable[None]:
        """Serve one connection of the application inside."""
        sends = _giving_way(send) if scope["type"] == "websocket" else send
        return self._app(scope, receive, sends)


def _giving_way(send: ASGISendCallable) -> ASGISendCallable:
    async def giving_way(message: ASGISendEvent) -> None:
        await send(message)
        await trio.lowlevel.checkpoint()

    return giving_way
