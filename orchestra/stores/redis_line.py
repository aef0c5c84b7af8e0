"""One connection to a Redis: commands out, answers in.

coredis reads the answers. Its own connections need a nursery and buffer without a bound; a
command of theirs that is cancelled keeps its place (traps.md 9). Here a connection is a socket.

Rules of the file:

1. Whatever interrupts a call closes the socket, at once and without waiting: nobody can be
   given the answer to somebody else's command.
2. No command blocks: each is answered as soon as Redis comes to it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import trio
from coredis.exceptions import RedisError
from coredis.parser import NotEnoughData, Parser

Word = bytes | str | int | float
Command = Sequence[Word]
Answer = object
"""An int, bytes, None, or a list of answers; or a RedisError, which is not raised."""

RECEIVED_AT_ONCE = 64 * 1024


class RedisLine:
    """An open connection; used by one task at a time, and dropped after its first error."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
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
            raise ConnectionResetError(f"the connection broke: {error}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket at once; also twice, and after the `trio.run` that has opened it."""
        self.closed = True
        if trio.lowlevel.in_trio_run():
            self._stream.socket.close()
        elif self._stream.socket.fileno() != -1:
            socket.close(self._stream.socket.detach())

    async def _answer(self) -> Answer:
        while isinstance(found := self._parser.parse(), NotEnoughData):
            received = await self._stream.receive_some(RECEIVED_AT_ONCE)
            if not received:
                raise ConnectionResetError("Redis has closed the connection")
            self._parser.feed(bytes(received))
        return found[1]


async def connected(host: str, port: int, greeting: Sequence[Command]) -> RedisLine:
    """A connection on which these commands have gone well: who we are, which database.

    Raises:
        OSError: there is no connection.
        RedisError: one of the commands was refused.
    """
    line = RedisLine(await trio.open_tcp_stream(host, port))
    for answer in await line.ask(greeting):
        if isinstance(answer, RedisError):
            line.close()
            raise answer
    return line


def packed(command: Command) -> bytes:
    """A command as Redis reads it; text is UTF-8, half of a surrogate pair included."""
    words = [f"*{len(command)}\r\n".encode()]
    for word in command:
        data = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogatepass")
        words += [f"${len(data)}\r\n".encode(), data, b"\r\n"]
    return b"".join(words)
