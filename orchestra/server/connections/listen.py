"""Accepts connections, and serves them with Hypercorn's implementation of HTTP.

Hypercorn's `serve` is not used, because with it (a) an exception in one connection ends the whole
server, (b) a send to a client that stopped reading is shielded and never ends, so a shutdown does
not end either, and (c) the number of connections is unlimited. The tests show (a) and (b) with
Hypercorn's own server.

Rules of this file: an exception in a connection ends only that connection. No send waits longer
than `stall_s` without progress, or continues after its task is cancelled. After an incomplete send
the connection is closed, since the next byte would be in the wrong place. The code at the end of a
response (which makes its connection idle, or closes it) has no checkpoint, since the sending task
may be cancelled at that moment.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, cast

import attrs
import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import EventWrapper, WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, ConnectionState, Scope

from orchestra.groups import contained
from orchestra.server.connections.bodies import CONNECTION
from orchestra.server.connections.bounded_listener import BoundedListener
from orchestra.server.connections.idle import Idle, IdleTimer
from orchestra.server.connections.sockets import has_arrived, wait_left

if TYPE_CHECKING:
    from orchestra.server.settings import Settings

log = logging.getLogger("orchestra.server")

LINGER_S = 2.0
LINGER_BYTES = 64 * 1024 * 1024
"""How long, and how many bytes, a client may continue to send of a refused body, which is read and
dropped. Otherwise the kernel would answer further bytes to the closed socket with a reset, and the
client would lose the unread response.
"""
REQUESTS_MAX = 1_000
"""The requests after which a connection is closed, as in nginx. Its client opens another one, so
that a replaced worker or an added host gets its share of the clients that stay connected.
"""
LAST_S = 0.1
"""How long the requests of the last clients may take to arrive: a proxy connects, then sends."""
BURST_MAX = 16
"""The writes without waiting after which a connection lets other tasks run."""
_FAILED = "a connection failed and is closed; the others go on"


@attrs.define(eq=False)
class HttpServer:
    """Serves an application over HTTP, until `shut`; no connection is left after `serve` returns.

    After `wind_down`, each response closes its connection, and says so. `shut` stops accepting, and
    closes idle connections after `LAST_S`. Busy ones are closed after their response, or cut at the
    time passed to `close_by`.
    """

    app: ASGIFramework
    settings: Settings
    _context: WorkerContext = attrs.field(init=False, factory=lambda: WorkerContext(None))
    _shut: trio.Event = attrs.field(init=False, factory=trio.Event)
    _inside: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    _clients: BoundedListener | None = attrs.field(init=False, default=None)
    _connections: set[Connection] = attrs.field(init=False, factory=set)
    _idle: Idle = attrs.field(init=False)

    @_idle.default
    def _without_connections(self) -> Idle:
        return Idle(self.settings.keep_alive_s)

    async def wind_down(self) -> None:
        """Close each connection after its next response, which has `Connection: close`.

        If a proxy sends a POST over a connection that is closed as idle, it cannot know whether a
        run has started, and its client gets a 502. If it was told, it uses another connection.
        """
        await self._context.terminate.set()

    def shut(self) -> None:
        """Stop accepting; a second call does nothing."""
        self._shut.set()

    async def wait_shut(self) -> None:
        """Wait, after `shut`, until every request that had arrived is being served."""
        await self._context.terminated.wait()

    def close_by(self, deadline: float) -> None:
        """Cut the connections still open at `deadline`, a time of `trio.current_time()`."""
        self._inside.deadline = deadline

    @property
    def connections(self) -> int:
        """The number of open connections, for tests."""
        return 0 if self._clients is None else self._clients.inside

    async def serve(self, listener: socket.socket) -> None:
        """Serve the connections to a listening socket, and close it at the end."""
        self._clients = clients = BoundedListener(listener, self.settings)
        app, config = _as_hypercorn_calls(self.app), _hypercorn_config(self.settings)
        with self._inside, listener.dup() as door:  # open until all is accepted that has come
            async with trio.open_nursery() as watching:
                watching.start_soon(self._idle.watch)
                await self._accept(clients, door, partial(self._connection, clients, app, config))
                watching.cancel_scope.cancel()

    async def _accept(
        self,
        clients: BoundedListener,
        door: socket.socket,
        handler: Callable[[trio.SocketStream], Awaitable[None]],
    ) -> None:
        """Serve connections until `shut`, and wait for the last ones; `door` also accepts them."""
        async with trio.open_nursery() as connections:
            accept = partial(trio.serve_listeners, handler, [clients], handler_nursery=connections)
            async with trio.open_nursery() as accepting:
                accepting.start_soon(accept)
                await self._shut.wait()
                accepting.cancel_scope.cancel()
            for stream in clients.arrived(door):
                connections.start_soon(handler, stream)
            door.close()
            await trio.sleep(LAST_S)
            await self._context.terminated.set()
            for connection in self._connections:
                connection.end_if_idle()

    async def _connection(
        self, clients: BoundedListener, app: AppWrapper, config: Config, stream: trio.SocketStream
    ) -> None:
        state, timer, stall_s = ConnectionState({}), IdleTimer(self._idle), self.settings.stall_s
        connection = Connection(
            app, config, self._context, state, stream, timer=timer, stall_s=stall_s
        )
        state[CONNECTION] = connection
        self._connections.add(connection)
        try:
            await contained(connection.run, log, _FAILED)
        finally:
            self._connections.discard(connection)
            timer.end()
            state.clear()  # breaks a reference cycle, which would wait for the garbage collector
            clients.left(stream)


class Turn(EventWrapper):
    """Hypercorn's event for which a pipelined request waits: the end of the response before it.

    Nothing is read meanwhile, so `watch` watches for the client's departure.
    """

    def __init__(self, watch: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._watch = watch

    async def wait(self) -> None:
        """Wait for the end of the response."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await super().wait()
            nursery.cancel_scope.cancel()


class Connection(TCPServer):
    """Hypercorn's connection, with sends that are cheap, limited in time, and can be cancelled."""

    def __init__(self, *connection: Any, timer: IdleTimer, stall_s: float) -> None:
        super().__init__(*connection)
        self.idle_task = self.patience = timer
        self._stall_s = stall_s
        self._burst = 0
        self._held = b""
        self._linger_bytes = 0
        """How many bytes of an unfinished body are still read after the last response; 0 before."""
        self.holds = False
        """Whether written bytes are held back until the next write: a head waits for its body."""

    async def protocol_send(self, event: Event) -> None:
        """Write an event's bytes; after an error the connection is closed."""
        if type(event) is RawData:  # not `isinstance`: their base is abstract, which is slow
            return await self._written(event.data)
        if self._held:
            await self._written(b"")
        if type(event) is Updated:
            return await (self.patience.restart() if event.idle else self.patience.stop())
        if isinstance(event, Closed) and self._is_sent_to():
            return await self._linger()
        return await super().protocol_send(event)

    def end_if_idle(self) -> None:
        """Close the connection now if it is idle, unless a request has arrived but is not read."""
        if self.patience.ends_at < inf and not has_arrived(self.stream.socket.fileno()):
            self._abandon()  # now: until a deadline expires, a request may arrive

    def _is_sent_to(self) -> bool:
        """Whether the client is still sending a body; False if the server is stopping."""
        protocol = self.protocol.protocol
        return (
            isinstance(protocol, H11Protocol)
            and protocol.connection.their_state is h11.SEND_BODY
            and not self.context.terminated.is_set()
        )

    async def _linger(self) -> None:
        """Close the sending side; the reading task closes the connection."""
        with suppress(OSError):
            self.stream.socket.shutdown(socket.SHUT_WR)
        self._linger_bytes = LINGER_BYTES
        self.patience.linger(LINGER_S)
        await self.protocol.handle(Closed())

    async def _written(self, data: bytes) -> None:
        """Write bytes after those held back; after an error, the connection is closed."""
        if self._held:
            data, self._held = self._held + data, b""
        if self.holds:
            self._held = data
            return
        if not data:
            return  # the end of a body whose length is in the head
        try:
            await self._write(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._abandon()
            await self.protocol.handle(Closed())
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Close the socket, and end the reading task.

        If the client has sent another request, the reading task does not read, but waits for the
        end of a response that will not be written any more.
        """
        self.stream.socket.close()
        self.patience.scope.cancel()

    async def _read_data(self) -> None:
        """Hypercorn's method, without its unused timeout, but with the limit of idle connections.

        At the end, the application is told at once that the client has left.
        """
        cast("H11Protocol", self.protocol.protocol).can_read = Turn(self._watch_departure)
        with self.patience.scope:
            while True:
                try:
                    data = await self._read()
                except (trio.ClosedResourceError, OSError):
                    break
                self._burst = 0  # this task has waited, so others have run
                if self._linger_bytes:
                    self._linger_bytes = max(self._linger_bytes - len(data), 0)
                    if not data or not self._linger_bytes:
                        break
                    continue
                await self.protocol.handle(RawData(data))
                if not data:
                    break
                del data  # free it now: a stream may be open for hours
        await self.protocol.handle(Closed())

    async def _watch_departure(self) -> None:
        """Close the connection when the client leaves, even if there are unread bytes before."""
        with suppress(trio.ClosedResourceError, OSError):
            if await self.stream.socket.recv(1, socket.MSG_PEEK):
                await wait_left(self.stream.socket.fileno())
        self._abandon()

    async def _close(self) -> None:
        """Hypercorn's method, without its checkpoints."""
        with suppress(OSError):
            self.stream.socket.shutdown(socket.SHUT_WR)
        self._abandon()

    async def _read(self) -> bytes:
        """The received bytes; while waiting, Trio's own method would keep four more coroutines."""
        while (descriptor := self.stream.socket.fileno()) >= 0:
            await trio.lowlevel.wait_readable(descriptor)
            if self.stream.socket.fileno() != descriptor:
                break  # closed in the meantime: the descriptor may belong to another client
            try:
                return os.read(descriptor, MAX_RECV)
            except BlockingIOError:
                continue
        raise trio.ClosedResourceError("the connection was closed on this side")

    def write_nowait(self, data: bytes) -> int:
        """Write without waiting, and return the number of bytes; 0 if another write is in progress.

        Also 0 after an error, which the next write that waits raises.
        """
        if self.send_lock.locked():
            return 0
        try:
            return os.write(self.stream.socket.fileno(), data)
        except OSError:
            return 0

    async def _write(self, data: bytes) -> None:
        """Write all bytes, after the writes of other tasks.

        Mostly the kernel takes them at once. Trio's own method, with a lock, a cancel scope and two
        checkpoints, costs more than everything else for a small event. So it is used only for
        writes that would block, and after `BURST_MAX` others, so that an application that only
        sends lets other tasks run.
        """
        sent = self.write_nowait(data)
        self._burst += 1
        if sent == len(data) and self._burst < BURST_MAX:
            return
        self._burst = 0
        rest = memoryview(data)[sent:]
        async with self.send_lock:
            while rest:
                with trio.fail_after(self._stall_s):
                    rest = rest[await self._send_some(rest) :]

    async def _send_some(self, data: memoryview) -> int:
        try:
            return int(await self.stream.socket.send(data))
        except OSError as error:
            raise trio.BrokenResourceError(f"the client cannot be written to: {error}") from error


@contextmanager
def head_held(scope: Scope) -> Iterator[None]:
    """Hold back the bytes written to a request's connection until the next write."""
    connection: Connection | None = scope.get("state", {}).get(CONNECTION)
    if connection is None:
        yield
        return
    connection.holds = True
    try:
        yield
    finally:
        connection.holds = False


def obey(scope: Scope, settings: Settings) -> None:
    """Apply these settings to a WebSocket that is being opened, whose connection may be older.

    Does nothing if another server than `HttpServer` serves it, or the client has left.
    """
    connection: Connection | None = scope.get("state", {}).get(CONNECTION)
    protocol = None if connection is None else connection.protocol.protocol
    stream = protocol.stream if isinstance(protocol, H11Protocol) else None
    if isinstance(stream, WSStream) and stream.scope is scope:
        stream.config = _hypercorn_config(settings)
        stream.buffer = WebsocketBuffer(settings.body_limit_bytes)


def _as_hypercorn_calls(app: ASGIFramework) -> AppWrapper:
    """The application with the signature that Hypercorn calls, without an additional coroutine."""

    def call(scope: Scope, receive: Any, send: Any, *_threads: object) -> Awaitable[None]:
        return app(scope, receive, send)

    return cast("AppWrapper", call)


def _hypercorn_config(settings: Settings) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.h11_max_incomplete_size = settings.header_limit_bytes
    config.keep_alive_max_requests = REQUESTS_MAX
    config.websocket_max_message_size = settings.body_limit_bytes
    config.websocket_ping_interval = settings.heartbeat_s
    return config
