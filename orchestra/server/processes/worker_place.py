"""A worker's place under its supervisor: the socket that all share, and a line between the two.

Over the line a worker sends one byte when it is ready; the supervisor sends nothing. Each notices
the other's death when the line closes, on every system.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Self

import attrs
import trio

READY = b"+"


@attrs.frozen
class WorkerPlace:
    """The data that a worker gets at its start. `number` counts from 1.

    `replaces` is whether another had this number before.
    """

    number: int
    listener: socket.socket
    line: socket.socket
    replaces: bool = False

    @classmethod
    def take(cls, number: int, listener: int, line: int, replaces: int) -> Self:
        """The place of the numbers that a supervisor has put on the command line.

        Raises:
            OSError: they are not sockets of this process.
        """
        sockets = socket.socket(fileno=listener), socket.socket(fileno=line)
        made = cls(number, *sockets, replaces=bool(replaces))
        for each in (made.listener, made.line):
            each.set_inheritable(False)  # not for what steps start
        return made

    def tell_ready(self) -> None:
        """Tell the supervisor that this worker serves clients. If it has gone, nothing happens."""
        with suppress(OSError):
            self.line.send(READY)

    async def wait_alone(self) -> None:
        """Wait until the supervisor has gone."""
        line = trio.socket.from_stdlib_socket(self.line)
        with suppress(OSError):
            await line.recv(1)  # which says nothing, and closes
