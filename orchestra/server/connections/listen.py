"""Accepting by ourselves, and Hypercorn's HTTP on the connections that come.

Hypercorn's own `serve` is not used, because in it (a) an exception in one connection
ends the whole server, (b) a send to a client that stopped reading is shielded and never
ends, so neither does a shutdown, and (c) the number of connections has no bound. The
tests show (a) and (b) with the stock server.

Rules of this file: what a connection raises stays in it; no send waits longer than
`stall_s` without progress, nor outlives the cancellation of its task; after a send that
was cut the connection is closed, since the next byte would stand in the wrong place. What an
answer ends with (its connection is idle from then on, or closed) has no checkpoint: that the answer
has ended may cancel who sends it, in that very moment.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Iterator
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
from hypercorn.trio.worker_context import TrioSingleTask, WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, ConnectionState, Scope

from orchestra.server.connections.bodies import CONNECTION
from orchestra.server.connections.bounded_listener import BoundedListener
from orchestra.server.connections.sockets import bind

if TYPE_CHECKING:
    from orchestra.server.settings import Settings

__all__ = ["Connection", "Door", "bind"]

log = logging.getLogger("orchestra.server")

LINGER_S = 2.0
LINGER_BYTES = 64 * 1024 * 1024
"""How long, and how much of it, a client may go on sending a body that was refused; it is read for
nothing. The kernel answers what comes to a socket that is closed with a reset, at which the client
forgets the answer that it has not read yet."""
REQUESTS_MAX = 1_000
"""Requests after which a connection is closed, as nginx does. Its client opens another: so a worker
that was replaced, or a host that was added, gets its share of clients that never leave."""
BURST_MAX = 16
"""Writes after which a connection lets the others run, when none of them had to wait."""


@attrs.define(eq=False)
class Door:
    """Where clients come in: open until `shut`, empty when `serve` returns.

    Shutting stops accepting and closes idle connections at once. Busy ones are closed
    after their answer, or cut at the time given to `close_by`.
    """

    app: ASGIFramework
    settings: Settings
    _context: WorkerContext = attrs.field(init=False, factory=lambda: WorkerContext(None))
    _shut: trio.Event = attrs.field(init=False, factory=trio.Event)
    _inside: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    _clients: BoundedListener | None = attrs.field(init=False, default=None)
    _connections: set[Connection] = attrs.field(init=False, factory=set)

    def shut(self) -> None:
        """Accept no more; again does nothing."""
        self._shut.set()

    def close_by(self, deadline: float) -> None:
        """Cut what is still open at `deadline`, a time of `trio.current_time()`."""
        self._inside.deadline = deadline

    @property
    def connections(self) -> int:
        """How many are open. For whoever watches it: a test."""
        return 0 if self._clients is None else self._clients.inside

    async def serve(self, listener: socket.socket) -> None:
        """Serve what comes to a listening socket, and close it at the end."""
        self._clients = clients = BoundedListener(listener, self.settings)
        handler = partial(
            self._connection,
            clients,
            _as_hypercorn_calls(self.app),
            _hypercorn_config(self.settings),
        )
        with self._inside:
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(
                            trio.serve_listeners, handler, [clients], handler_nursery=connections
                        )
                    )
                    await self._shut.wait()
                    accepting.cancel_scope.cancel()
                await self._context.terminated.set()
                for connection in self._connections:
                    connection.patience.end()

    async def _connection(
        self, clients: BoundedListener, app: AppWrapper, config: Config, stream: trio.SocketStream
    ) -> None:
        state, stall_s = ConnectionState({}), self.settings.stall_s
        connection = Connection(app, config, self._context, state, stream, stall_s=stall_s)
        state[CONNECTION] = connection
        self._connections.add(connection)
        try:
            await connection.run()
        except* Exception:
            log.exception("a connection failed and is closed; the others go on")
        finally:
            self._connections.discard(connection)
            state.clear()  # which it holds: it would wait for the search for garbage
            clients.left(stream)


class Patience(TrioSingleTask):
    """How long a connection may be idle: a deadline of the task that reads from it.

    Hypercorn has a task for that, which each request ends, and each answer begins anew.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self.scope = trio.CancelScope()

    async def restart(self, *_: object) -> None:
        """From now on the connection is idle. Not a checkpoint, nor is `stop`."""
        self.scope.deadline = trio.current_time() + self._patience_s

    async def stop(self) -> None:
        """It is not any more."""
        self.scope.deadline = inf

    def linger(self) -> None:
        """It has its last answer, and is still being sent to."""
        self.scope.deadline = trio.current_time() + LINGER_S

    def end(self) -> None:
        """Close it now, if it is idle or has its last answer."""
        if self.scope.deadline < inf:
            self.scope.deadline = -inf


class Connection(TCPServer):
    """Hypercorn's connection, with sends that are bounded, can be cancelled, and are cheap."""

    def __init__(self, *connection: Any, stall_s: float) -> None:
        super().__init__(*connection)
        self.idle_task = self.patience = Patience(self.config.keep_alive_timeout)
        self._stall_s = stall_s
        self._burst = 0
        self._held = b""
        self._linger_bytes = 0
        """How much of an unfinished body is still read, once its answer was the last."""
        self.holds = False
        """Whether what is written waits for what is written next: as a head for its body."""

    async def protocol_send(self, event: Event) -> None:
        """Write what is given; where that fails, the connection is closed."""
        if isinstance(event, RawData):
            return await self._written(event.data)
        if self._held:
            await self._written(b"")
        if isinstance(event, Updated):
            return await (self.patience.restart() if event.idle else self.patience.stop())
        if isinstance(event, Closed) and self._is_sent_to():
            return await self._linger()
        return await super().protocol_send(event)

    def _is_sent_to(self) -> bool:
        """Whether its client is in the middle of a body; not where the server stops."""
        protocol = self.protocol.protocol
        return (
            isinstance(protocol, H11Protocol)
            and protocol.connection.their_state is h11.SEND_BODY
            and not self.context.terminated.is_set()
        )

    async def _linger(self) -> None:
        """Say that nothing more comes, and leave the rest to the task that reads: it closes."""
        with suppress(OSError):
            self.stream.socket.shutdown(socket.SHUT_WR)
        self._linger_bytes = LINGER_BYTES
        self.patience.linger()
        await self.protocol.handle(Closed())

    async def _written(self, data: bytes) -> None:
        """Write it behind what was held back; where that fails, the connection is closed."""
        if self._held:
            data, self._held = self._held + data, b""
        if self.holds:
            self._held = data
            return
        if not data:
            return  # the end of a body whose length its head has told
        try:
            await self._write(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self.stream.socket.close()
            await self.protocol.handle(Closed())
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            self.stream.socket.close()
            raise

    async def _read_data(self) -> None:
        """Hypercorn's own, without a timeout that is never set, and until it is idle for too long.

        Its application is told at once that it is over.
        """
        with self.patience.scope:
            while True:
                try:
                    data = await self._read()
                except (trio.ClosedResourceError, OSError):
                    break
                if self._linger_bytes:
                    self._linger_bytes = max(self._linger_bytes - len(data), 0)
                    if not data or not self._linger_bytes:
                        break
                    continue
                await self.protocol.handle(RawData(data))
                if not data:
                    break
                del data  # a stream may be open for hours
        await self.protocol.handle(Closed())

    async def _close(self) -> None:
        """Hypercorn's own, without its checkpoints."""
        with suppress(OSError):
            self.stream.socket.shutdown(socket.SHUT_WR)
        self.stream.socket.close()

    async def _read(self) -> bytes:
        """What has come. Trio's own way there holds four coroutines more while it waits."""
        while (descriptor := self.stream.socket.fileno()) >= 0:
            await trio.lowlevel.wait_readable(descriptor)
            if self.stream.socket.fileno() != descriptor:
                break  # closed since it was readable: the number may be another client's by now
            with suppress(BlockingIOError):
                return os.read(descriptor, MAX_RECV)
        raise trio.ClosedResourceError("the connection was closed on this side")

    def write_nowait(self, data: bytes) -> int:
        """How much of it has gone; 0 where something else is being written, or it would wait.

        And where something is wrong: `protocol_send` tells what.
        """
        if self.send_lock.locked():
            return 0
        try:
            return os.write(self.stream.socket.fileno(), data)
        except OSError:
            return 0

    async def _write(self, data: bytes) -> None:
        """All of it, behind what others are writing.

        Most times the kernel takes it at once. Trio's own way there, with a lock, a
        cancel scope and two checkpoints, costs more than everything else of a small
        event; only what would block goes that way, and a write now and then, so that an
        application which only ever sends lets the others run.
        """
        sent = 0
        if not self.send_lock.locked():
            sent = _write_nowait(self.stream.socket.fileno(), data)
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
            raise _broken(error) from error


@contextmanager
def head_held(scope: Scope) -> Iterator[None]:
    """Have what is written to a request's connection go with what is written behind it."""
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
    """Have a WebSocket that is being opened obey these settings: its connection may be older.

    Does nothing where another server than ours serves it, or its client has left.
    """
    connection: Connection | None = scope.get("state", {}).get(CONNECTION)
    protocol = None if connection is None else connection.protocol.protocol
    stream = protocol.stream if isinstance(protocol, H11Protocol) else None
    if isinstance(stream, WSStream) and stream.scope is scope:
        stream.config = _hypercorn_config(settings)
        stream.buffer = WebsocketBuffer(settings.body_limit_bytes)


def _write_nowait(descriptor: int, data: bytes) -> int:
    """How much of it the kernel took."""
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
    except OSError as error:
        raise _broken(error) from error


def _broken(error: OSError) -> trio.BrokenResourceError:
    return trio.BrokenResourceError(f"the client cannot be written to: {error}")


def _as_hypercorn_calls(app: ASGIFramework) -> AppWrapper:
    """The application, called as Hypercorn does, and without the coroutine it puts around."""

    def call(scope: Scope, receive: Any, send: Any, *_threads: object) -> Awaitable[None]:
        return app(scope, receive, send)

    return cast("AppWrapper", call)


def _hypercorn_config(settings: Settings) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.h11_max_incomplete_size = settings.header_limit_bytes
    config.keep_alive_timeout = settings.keep_alive_s
    config.keep_alive_max_requests = REQUESTS_MAX
    config.websocket_max_message_size = settings.body_limit_bytes
    config.websocket_ping_interval = settings.heartbeat_s
    return config
