"""One connection to a Redis, plain or with TLS: sends commands, and receives their answers.

coredis parses the answers. Its own connections are not used: they need a nursery, buffer without a
bound, and keep the slot of each blocking command that was cancelled. Here a connection is a socket.

Rules of the file:

1. If a call is interrupted, the socket is closed at once: otherwise the next call would get the
   answer of this one.
2. No command blocks in Redis.
3. With TLS, nothing is sent before the certificate has been checked.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Sequence
from typing import TypeGuard

import attrs
import trio
from coredis.exceptions import RedisError
from coredis.parser import NotEnoughData, Parser

from orchestra.secret import Secret

Word = bytes | str | int | float
Command = Sequence[Word]
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Answer = object
"""An int, bytes, None, or a list of answers; or a RedisError, which is returned, not raised."""

RECEIVED_AT_ONCE = 64 * 1024
_UNWRITTEN = re.compile(r"\b(OOM|NOREPLICAS|MISCONF)\b")


@attrs.frozen
class RedisAddress:
    """Where a Redis listens: on a host and port, with TLS if `tls` is set, or on a Unix socket."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    socket_file: str | None = None


@attrs.frozen
class Login:
    """The user and password for a Redis; without a user, Redis uses its default user."""

    user: str | None
    password: Secret

    def command(self) -> Command:
        """The AUTH command."""
        return ["AUTH", *([self.user] if self.user else []), self.password.reveal()]

    def redacted(self, error: RedisError) -> RedisError:
        """The error of Redis, without the password.

        A server that does not know AUTH repeats its arguments, cut short: these are removed.
        """
        text, repeats, _ = str(error).partition(", with args beginning with")
        return RedisError(self.password.redact(text) + (" (and repeats it)" if repeats else ""))


class RedisConnection:
    """An open connection; used by one task at a time, and closed after its first failure."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        under = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._socket = under.socket
        self._parser = Parser()
        self.closed = False

    async def ask(self, commands: Sequence[Command]) -> list[Answer]:
        """Send some commands together, and return their answers; an error of Redis is an answer.

        Raises:
            OSError: the connection broke, or Redis closed it; the commands may have been performed.
        """
        try:
            await self._stream.send_all(b"".join(map(packed, commands)))
            return [await self._answer() for _ in commands]
        except trio.BrokenResourceError as error:
            self.close()
            raise ConnectionResetError(f"the connection broke: {_why(error)}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket at once; may be called twice, and after the `trio.run`."""
        self.closed = True
        if trio.lowlevel.in_trio_run():
            self._socket.close()
        elif self._socket.fileno() != -1:
            socket.close(self._socket.detach())

    async def _answer(self) -> Answer:
        while isinstance(found := self._parser.parse(), NotEnoughData):
            received = await self._stream.receive_some(RECEIVED_AT_ONCE)
            if not received:
                raise ConnectionResetError("Redis has closed the connection")
            self._parser.feed(bytes(received))
        return found[1]


async def connected(
    address: RedisAddress, login: Login | None, greeting: Sequence[Command]
) -> RedisConnection:
    """Connect, log in, and send the commands in `greeting`.

    Raises:
        OSError: no connection could be made, or the certificate is not trusted.
        RedisError: the login or one of the commands was refused.
    """
    connection = RedisConnection(await _stream(address))
    first = [] if login is None else [login.command()]
    answers = await connection.ask([*first, *greeting])
    for number, answer in enumerate(answers):
        if isinstance(answer, RedisError):
            connection.close()
            raise answer if login is None or number > 0 else login.redacted(answer)
    return connection


async def _stream(address: RedisAddress) -> Stream:
    if address.socket_file is not None:
        return await trio.open_unix_socket(address.socket_file)
    try:
        plain = await trio.open_tcp_stream(address.host, address.port)
    except OSError as error:
        raise _unreached(error) from error
    if address.tls is None:
        return plain
    secured = trio.SSLStream(plain, address.tls, server_hostname=address.host)
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        plain.socket.close()
        raise ConnectionResetError(f"the TLS handshake failed: {_why(error)}") from error
    except BaseException:
        plain.socket.close()
        raise
    return secured


def _unreached(error: OSError) -> OSError:
    """The error with the reasons why connecting failed, which Trio's own text does not contain."""
    tried = error.__cause__
    if not isinstance(tried, BaseExceptionGroup):
        return error
    errors = (each for each in tried.exceptions if isinstance(each, OSError))
    reasons = dict.fromkeys(os.strerror(e.errno) if e.errno else str(e) for e in errors)
    return ConnectionError(f"it cannot be reached: {', '.join(reasons)}")


def _why(error: trio.BrokenResourceError) -> BaseException:
    """The cause of a broken connection, which Trio's own text does not contain."""
    return error.__cause__ or error


def is_refusal(answer: Answer) -> TypeGuard[RedisError]:
    """Whether an answer is an error."""
    return isinstance(answer, RedisError)


def only_unwritten(error: RedisError) -> bool:
    """Whether an error means that Redis cannot write for now, although the connection is good.

    After any other error, a new connection may help: to the current master, with our scripts
    loaded, or with a new password.
    """
    return _UNWRITTEN.search(str(error)) is not None


def packed(command: Command) -> bytes:
    """Encode a command for Redis; text is encoded as UTF-8, including lone surrogates."""
    words = [f"*{len(command)}\r\n".encode()]
    for word in command:
        data = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogatepass")
        words += [f"${len(data)}\r\n".encode(), data, b"\r\n"]
    return b"".join(words)
