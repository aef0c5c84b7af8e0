"""A TCP connection, plain or with TLS: sends and receives bytes, and closes at once.

Rules of the file: `close` never waits, so that abandoning a response, also by a cancellation, stops
the server at once. A cancelled read loses no bytes. A read returns all available bytes, up to
64 KiB, since reading many chunks in one wake-up costs little more than reading one. TLS uses
Python's `ssl` with memory buffers, not `trio.SSLStream`, which returns one TLS record at a time.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from ipaddress import ip_address

import trio

from orchestra.providers.connections.http1 import Origin
from orchestra.providers.connections.lookup import limit_lookups

READ_BYTES = 64 * 1024


class Line:
    """A plain TCP connection, used by one task at a time. Methods raise OSError if it is broken."""

    __slots__ = ("_full", "_reads", "_socket")

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._full = False
        self._reads = False

    def send_nowait(self, data: bytes) -> memoryview:
        """Send as much as is possible without waiting; `flush` sends the returned rest."""
        return self._pushed(memoryview(data))

    async def flush(self, rest: memoryview) -> None:
        """Send the rest that `send_nowait` returned. If cancelled, a part may have been sent."""
        while rest:
            await trio.lowlevel.wait_writable(self._socket)
            rest = self._pushed(rest)

    def _pushed(self, rest: memoryview) -> memoryview:
        try:
            while rest:
                rest = rest[self._socket.send(rest) :]
        except BlockingIOError:
            return rest
        return rest

    async def receive(self) -> bytes:
        """All bytes that have arrived, waiting for some; empty at the end of the connection."""
        self._reads = True
        try:
            if self._full:  # more bytes have probably arrived, but other tasks need a turn
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._socket)
            while (data := self.receive_nowait()) is None:
                if not self._reads:  # `wake` found this task ready to run, not waiting
                    raise trio.ClosedResourceError("the read was ended")
                await trio.lowlevel.wait_readable(self._socket)
        finally:
            self._reads = False
        return data

    def receive_nowait(self) -> bytes | None:
        """All bytes that have arrived; None if there are none yet, empty at the end."""
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        self._full = len(data) == READ_BYTES
        return data

    @property
    def quiet(self) -> bool:
        """Whether it is open and has no unread bytes, as an idle connection must be."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except OSError as error:
            return isinstance(error, BlockingIOError)
        return False

    def wake(self) -> None:
        """Make a pending read raise trio.ClosedResourceError, unless its bytes have just come."""
        if self._reads:  # without a pending read, this would cost two system calls for nothing
            self._reads = False
            self._end_waits()

    def close(self) -> None:
        """Close the connection at once, without waiting. A second call does nothing."""
        if self._socket.fileno() >= 0:
            self._end_waits()
            self._socket.close()

    def _end_waits(self) -> None:
        with suppress(RuntimeError):  # outside of Trio, no task can be reading
            trio.lowlevel.notify_closing(self._socket)


class TlsLine(Line):
    """A TCP connection with TLS. It sends no close_notify: HTTP itself marks where data ends."""

    __slots__ = ("_ended", "_failure", "_incoming", "_outgoing", "_tls")

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(connection)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._ended = False
        self._failure: OSError | None = None

    async def handshake(self) -> None:
        """Negotiate keys, and check the certificate. Raises ssl.SSLError, or OSError."""
        while True:  # noqa: ASYNC913 - sending and receiving are checkpoints
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._deliver()
                await self._fill()
            except ssl.SSLError:
                self._alert()
                raise
            else:
                await self._deliver()
                return

    def send_nowait(self, data: bytes) -> memoryview:
        """Send as much as is possible without waiting; `flush` sends the returned rest."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        return super().send_nowait(self._outgoing.read())

    async def receive(self) -> bytes:
        """All bytes that have arrived, waiting for some; empty at the end.

        Raises:
            ssl.SSLError: the connection ended without the server's close_notify.
        """
        if self._ended:
            return self._end()
        return await super().receive()

    def receive_nowait(self) -> bytes | None:
        """All bytes that have arrived; None if there are none yet, empty at the end."""
        if self._ended:
            return self._end()
        data = super().receive_nowait()
        if data is None:
            return None
        self._put(data)
        parts: list[bytes] = []
        try:
            while part := self._tls.read(READ_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            return b"".join(parts) if parts else None
        except OSError as error:
            self._failure = error
        self._ended = True  # reported by the next read, if bytes came before it
        return b"".join(parts) or self._end()

    def _end(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        return b""

    async def _deliver(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        await self.flush(super().send_nowait(self._outgoing.read()))

    async def _fill(self) -> None:
        await trio.lowlevel.wait_readable(self._socket)
        if (data := super().receive_nowait()) is not None:
            self._put(data)

    def _put(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _alert(self) -> None:
        """Send the alert of a failed handshake, if that is possible without waiting."""
        with suppress(OSError):
            self._socket.send(self._outgoing.read())


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """The TLS settings: the system's certificate authorities are trusted, and those in `ca_file`.

    `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's authorities, as usual. HTTP/2 is not
    offered.

    Raises:
        OSError: `ca_file` does not exist, or contains no certificate.
    """
    context = ssl.create_default_context()
    # Python 3.11.2 (Debian 12) tells OpenSSL to treat a cut connection like one that was closed
    # properly.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def connect(origin: Origin, context: ssl.SSLContext | None) -> Line:
    """Connect to an origin, at the first of its addresses that accepts the connection.

    `context` has the TLS settings for https. Raises OSError, which includes ssl.SSLError.
    """
    stream = await _connected(origin.host, origin.port)  # it has set TCP_NODELAY
    connection = socket.socket(fileno=stream.socket.detach())
    if origin.scheme != "https" or context is None:
        return Line(connection)
    try:
        line = TlsLine(connection, context, origin.host)
        await line.handshake()
    except BaseException:
        connection.close()
        raise
    return line


async def _connected(host: str, port: int) -> trio.SocketStream:
    if not _is_address(host):
        limit_lookups()
        return await trio.open_tcp_stream(host, port)
    # For a single address, Trio's Happy Eyeballs would take three tasks and twice the time.
    connection = trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        await connection.connect((host, port))
    except BaseException:
        connection.close()
        raise
    return trio.SocketStream(connection)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
