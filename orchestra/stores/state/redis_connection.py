"""One connection to a Redis, plain or under TLS: commands out, answers in.

coredis reads the answers. Its own connections need a nursery and buffer without a bound; a
command of theirs that is cancelled keeps its place (traps.md 9). Here a connection is a socket.

Rules of the file:

1. Whatever interrupts a call closes the socket at once: otherwise the next call would get its
   answer.
2. No command blocks in Redis.
3. Under TLS, nothing is sent before the certificate has been checked.
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
"""An int, bytes, None, or a list of answers; or a RedisError, which is not raised."""

RECEIVED_AT_ONCE = 64 * 1024
_UNWRITTEN = re.compile(r"\b(OOM|NOREPLICAS|MISCONF)\b")


@attrs.frozen
class RedisAddress:
    """Where a Redis listens: a host and port, under TLS where there is a `tls`; or a socket."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    socket_file: str | None = None


@attrs.frozen
class Login:
    """The login of a Redis; without a name, its default user."""

    user: str | None
    password: Secret

    def command(self) -> Command:
        """The AUTH command."""
        return ["AUTH", *([self.user] if self.user else []), self.password.reveal()]

    def told(self, error: RedisError) -> RedisError:
        """Redis's error, without the password: a server without AUTH repeats a part of it."""
        said, repeats, _ = str(error).partition(", with args beginning with")
        return RedisError(self.password.redact(said) + (" (and repeats it)" if repeats else ""))


class RedisConnection:
    """An open connection; used by one task at a time, and dropped after its first error."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        under = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._socket = under.socket
        self._parser = Parser()
        self.closed = False

    async def ask(self, commands: Sequence[Command]) -> list[Answer]:
        """The answers to some commands, which go out together; an error is an answer too.

        Raises:
            OSError: the connection broke, or Redis closed it; what was asked may have happened.
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
        """Close the socket at once; also twice, and after the `trio.run` that has opened it."""
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
    """A connection that is logged in, and on which these commands have succeeded.

    Raises:
        OSError: there is no connection, or the certificate is not to be trusted.
        RedisError: one of the commands was refused.
    """
    connection = RedisConnection(await _stream(address))
    first = [] if login is None else [login.command()]
    answers = await connection.ask([*first, *greeting])
    for number, answer in enumerate(answers):
        if isinstance(answer, RedisError):
            connection.close()
            raise answer if login is None or number > 0 else login.told(answer)
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
        raise ConnectionResetError(f"there is no TLS with it: {_why(error)}") from error
    except BaseException:
        plain.socket.close()
        raise
    return secured


def _unreached(error: OSError) -> OSError:
    """The reasons why connecting failed: Trio's own error does not have them."""
    tried = error.__cause__
    if not isinstance(tried, BaseExceptionGroup):
        return error
    errors = (each for each in tried.exceptions if isinstance(each, OSError))
    reasons = dict.fromkeys(os.strerror(e.errno) if e.errno else str(e) for e in errors)
    return ConnectionError(f"it cannot be reached: {', '.join(reasons)}")


def _why(error: trio.BrokenResourceError) -> BaseException:
    """The cause of a broken connection, which Trio's own error does not have."""
    return error.__cause__ or error


def is_refusal(answer: Answer) -> TypeGuard[RedisError]:
    """Whether it is an error."""
    return isinstance(answer, RedisError)


def only_unwritten(error: RedisError) -> bool:
    """Whether it says that nothing can be written for now, on a connection that is good.

    After any other error a new connection may help: to the current master, with our scripts loaded,
    or with a new password.
    """
    return _UNWRITTEN.search(str(error)) is not None


def packed(command: Command) -> bytes:
    """A command as Redis reads it; text is UTF-8, half of a surrogate pair included."""
    words = [f"*{len(command)}\r\n".encode()]
    for word in command:
        data = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogatepass")
        words += [f"${len(data)}\r\n".encode(), data, b"\r\n"]
    return b"".join(words)
