"""Workarounds for faults of Hypercorn and Quart-Trio with streams; each describes its fault.

They are written for the versions in `MENDED_AGAINST`. `tests/server/connections/test_hardening.py`
shows each fault without its workaround, so that we notice a release that fixes it; there are such
tests for `listen.py`, too. `bodies.py`, `plain_requests.py` and `plain_responses.py` also use
private names of h11.

Rules of this file: a workaround is one function or method, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from io import BytesIO, StringIO
from time import time
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.protocol import ws_stream
from hypercorn.protocol.events import Body, Data, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.h2 import BUFFER_LOW_WATER, StreamBuffer
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream
from hypercorn.trio import task_group
from hypercorn.trio.task_group import TaskGroup
from wsproto.events import CloseConnection, Message, Ping, TextMessage
from wsproto.handshake import WEBSOCKET_VERSION

from orchestra.policies.requests.tokens import text_bytes
from orchestra.server.responses import problems

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
"""Bytes per read from a WebSocket: at most seven hundred frames, which take some milliseconds."""
_LISTS = frozenset({b"connection", b"sec-websocket-extensions", b"sec-websocket-protocol"})
"""Headers of a handshake that Hypercorn reads as lists of ASCII words."""
_STOCK_HANDLE = WSStream.handle
_STOCK_ERROR_RESPONSE = WSStream._send_error_response  # noqa: SLF001
_INVALID = problems.HttpProblem(
    400,
    "bad-handshake",
    "The handshake of a WebSocket is invalid.",
    "send the headers of RFC 6455 (4.1), and nothing behind them before the answer",
    headers=(("connection", "close"),),
)
_OTHER_VERSION = problems.by_status(
    426,
    "Upgrade Required",
    "this version of WebSocket is not supported; send `Sec-WebSocket-Version: 13`",
    (
        ("connection", "close, upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", WEBSOCKET_VERSION.decode()),
    ),
)


def mend_hypercorn() -> None:
    """Replace methods of Hypercorn, for the whole process; a second call does nothing."""
    from orchestra.server.connections.plain_requests import handle
    from orchestra.server.connections.plain_responses import app_send

    HTTPStream.app_send = app_send  # type: ignore[method-assign]
    H11Protocol.handle = handle  # type: ignore[method-assign]
    StreamBuffer.pop = _pop  # type: ignore[method-assign]
    H11Protocol._check_protocol = _stay_with_http1  # type: ignore[method-assign] # noqa: SLF001
    TaskGroup.spawn_app = _spawn_app  # type: ignore[method-assign]
    WebsocketBuffer.extend = _extend  # type: ignore[method-assign]
    WSStream._send_pings = _send_pings  # type: ignore[method-assign] # noqa: SLF001
    WSStream.handle = _handle  # type: ignore[method-assign]
    WSStream._handle_events = _handle_events  # type: ignore[method-assign] # noqa: SLF001
    WSStream._send_error_response = _send_error_response  # type: ignore[method-assign] # noqa: SLF001
    ws_stream.server_extensions_handshake = _no_extensions  # type: ignore[assignment,attr-defined]


async def _pop(self: StreamBuffer, max_length: int) -> bytes:
    """Hypercorn's method, except that the writer continues if few bytes are left in the buffer.

    Hypercorn lets it continue if few bytes were taken. If a client opens no window, none are taken,
    so the buffer seems to be drained: after a second, the server held a gigabyte for the client.
    """
    data = bytes(self.buffer[:max_length])
    del self.buffer[:max_length]
    if len(self.buffer) < BUFFER_LOW_WATER:
        await self._paused.set()
    if not self.buffer:
        await self._is_empty.set()
    return data


async def _stay_with_http1(self: H11Protocol, event: h11.Request) -> None:
    """Use HTTP/1.1 even for clients that offer HTTP/2 without TLS.

    Hypercorn switches to HTTP/2 on request, by upgrade or by preface, and no setting prevents it.
    With HTTP/2, an early response or a non-ASCII byte in a path raises in the connection's task,
    and a connection without requests is never closed.
    """


async def _spawn_app(
    self: TaskGroup, app: AppWrapper, config: Config, scope: Scope, send: Any
) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
    """Hypercorn's method, with a `Mailbox` in place of its channel."""
    mailbox = Mailbox(config.max_app_queue_size)
    handle = task_group._handle  # noqa: SLF001
    threads = (trio.to_thread.run_sync, trio.from_thread.run)
    assert self._nursery is not None, "it is spawned in its own context"
    self._nursery.start_soon(handle, app, config, scope, mailbox.receive, send, *threads)
    return mailbox.put


class Mailbox:
    """The messages from a connection to its application, in order; the disconnect never waits.

    If an application no longer receives (as when it refuses a request at once), a client that keeps
    sending fills Hypercorn's channel. Then both sides wait forever: the application to report its
    end, the connection to deliver a message. Also, Hypercorn's channel needs a turn of the
    scheduler for each message, while here a complete request is delivered at once. For one sender
    and one receiver.
    """

    __slots__ = ("_changed", "_last", "_messages", "_messages_max")

    def __init__(self, messages_max: int) -> None:
        self._messages: list[Any] = []  # at most `messages_max`
        self._messages_max = messages_max
        self._last: Any = None
        self._changed: trio.Event | None = None

    async def put(self, message: Any) -> None:
        """Deliver a message; after the client has left, drop it without waiting."""
        if message["type"].endswith(".disconnect"):
            self._last = message
        while self._last is None and len(self._messages) >= self._messages_max:
            await self._wait_changed()
        if self._last is None:
            self._messages.append(message)
        self._wake()

    async def receive(self) -> Any:
        """The next message; after the last one the disconnect, at every further call."""
        while (message := self.receive_nowait()) is None:
            if self._last is not None:
                await trio.lowlevel.checkpoint()
                return self._last
            await self._wait_changed()
        return message

    def receive_nowait(self) -> Any:
        """The next message if there is one, else None."""
        if not self._messages:
            return None
        message = self._messages.pop(0)
        self._wake()
        return message

    def retire(self) -> None:
        """Drop all messages, and return only the disconnect from now on.

        This is called when `on_departure` reports the client's departure instead.
        """
        self._messages = []
        self._last = {"type": "http.disconnect"}
        self._wake()

    async def _wait_changed(self) -> None:
        """Wait until a message has been added or taken."""
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def _extend(self: WebsocketBuffer, event: Message[Any]) -> None:
    """Hypercorn's method, except that a message that is too large is dropped.

    Hypercorn closes such a WebSocket, but continues to read and store what the client sends. Here
    the application receives a message without text and bytes, and closes the WebSocket. The size of
    a text is in bytes; Hypercorn counts characters.
    """
    is_text = isinstance(event, TextMessage)
    self.length += text_bytes(event.data) if is_text else len(event.data)
    if self.length > self.max_length:
        self.value = None
        return
    if self.value is None:
        self.value = StringIO() if is_text else BytesIO()
    self.value.write(event.data)


def _no_extensions(*_: object) -> bytes | None:
    """Disable compression of WebSockets: messages are decompressed before their size is checked.

    A kilobyte can become a megabyte, and each connection would take 300 kB of memory.
    """
    return None


async def _send_pings(self: WSStream) -> None:
    """Hypercorn's method, but it ends with its connection: `_handle` cancels it.

    Hypercorn's would outlive its connection by an interval, and occupy its slot. Also, it would
    start if the client had left during its handshake, and then never end.
    """
    interval_s = self.config.websocket_ping_interval
    with trio.CancelScope() as pinging:
        self.pinging = pinging  # type: ignore[attr-defined]
        while interval_s is not None and not self.closed:
            await trio.sleep(interval_s)
            await self._send_wsproto_event(Ping())


async def _handle(self: WSStream, event: StreamEvent) -> None:
    """Hypercorn's method; the end of a connection ends its pings, and refused ones are closed.

    Hypercorn answers an invalid or unexpected handshake with `connection: close`, and then keeps
    the connection as long as the client likes, without a timer. If frames arrive before the
    handshake is answered, it never tells the application, which waited for its client for minutes.

    Also, received bytes are read in small parts: one packet may have ten thousand empty frames,
    which blocked all other tasks for a tenth of a second each time. And a handshake with lists that
    are not ASCII is refused like one without headers; Hypercorn raises in its connection.
    """
    was_closed = self.closed
    if isinstance(event, Request) and not _is_readable(event):
        event = replace(event, headers=[])
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
        if self.app_put is not None:
            await self.app_put({"type": "websocket.disconnect", "code": 1006})
        await self.send(StreamClosed(stream_id=self.stream_id))


async def _send_error_response(self: WSStream, status_code: int) -> None:
    """Hypercorn's method, except that the answer to an invalid handshake says what is wrong.

    Hypercorn's is an empty 400, also for another version of the protocol, where RFC 6455 (4.4)
    wants a response that names the version to use. Other statuses are not about the handshake: an
    application that fails before its answer is a 500, and one that refuses is a 403.
    """
    if status_code != _INVALID.status:
        await _STOCK_ERROR_RESPONSE(self, status_code)
        return
    problem = _INVALID
    if self.handshake.version not in (None, WEBSOCKET_VERSION):
        problem = _OTHER_VERSION
    body, status_code = problem.encode(), problem.status
    named = *problem.headers, ("content-type", problem.media_type), ("content-length", len(body))
    headers = [(name.encode(), str(value).encode()) for name, value in named]
    response = Response(stream_id=self.stream_id, status_code=status_code, headers=headers)
    await self.send(response)
    await self.send(Body(stream_id=self.stream_id, data=body))
    await self.send(EndBody(stream_id=self.stream_id))
    record: Any = {"status": status_code, "headers": headers}
    await self.config.log.access(self.scope, record, time() - self.start_time)


async def _handle_events(self: WSStream) -> None:
    """Hypercorn's method, except that a client that violates the protocol gets the reason.

    Hypercorn closes its connection without a close frame, as if the network had failed: the client
    sees 1006 instead of 1002 or 1007 with the reason. A message that is too large is passed on,
    without its content, before its end: that may be gigabytes away.
    """
    assert self.app_put is not None, "it has been accepted"
    for event in self.connection.events():
        if isinstance(event, Message):
            self.buffer.extend(event)
            if event.message_finished or self.buffer.length > self.buffer.max_length:
                await self.app_put(self.buffer.to_message())
                self.buffer.clear()
        elif isinstance(event, Ping):
            await self._send_wsproto_event(event.response())
        elif isinstance(event, CloseConnection):
            await self._send_wsproto_event(event.response())
            await self.send(StreamClosed(stream_id=self.stream_id))


def _is_readable(handshake: Request) -> bool:
    return all(value.isascii() for name, value in handshake.headers if name in _LISTS)


class Hardened:
    """An ASGI application whose sends to a WebSocket are checkpoints.

    A send to a client that has left returns without a checkpoint, so a loop of sends would block
    the event loop forever. Here, a checkpoint follows each send.
    """

    def __init__(self, app: ASGIFramework) -> None:
        self._app = app

    def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Awaitable[None]:
        """Serve one connection with the inner application."""
        if scope["type"] == "websocket":
            send = _with_checkpoint(send)
        return self._app(scope, receive, send)


def _with_checkpoint(send: ASGISendCallable) -> ASGISendCallable:
    async def send_and_checkpoint(message: ASGISendEvent) -> None:
        await send(message)
        await trio.lowlevel.checkpoint()

    return send_and_checkpoint
