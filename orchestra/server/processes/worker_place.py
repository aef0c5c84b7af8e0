"""A worker's place under its supervisor: the shared listening socket, and a line between the two.

The line is a socket, over which the worker sends one byte when it is ready, and then `heartbeats`;
the supervisor sends nothing. When the line closes, each knows that the other has died; this works
on every system.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import attrs
import trio

from orchestra.server.processes.heartbeats import BEAT, BEAT_S, LOADING

if TYPE_CHECKING:
    from collections.abc import Callable

READY = b"+"


@attrs.frozen
class WorkerPlace:
    """What a worker gets from its supervisor at the start. `number` counts from 1.

    `replaces` says whether another worker had this number before.
    """

    number: int
    listener: socket.socket
    line: socket.socket
    replaces: bool = False

    @classmethod
    def take(cls, number: int, listener: int, line: int, replaces: int) -> Self:
        """The place that the arguments on a worker's command line describe.

        Raises:
            OSError: a descriptor is not an open socket of this process.
        """
        sockets = socket.socket(fileno=listener), socket.socket(fileno=line)
        made = cls(number, *sockets, replaces=bool(replaces))
        for each in (made.listener, made.line):
            each.set_inheritable(False)  # processes that steps start must not get them
        return made

    def tell_ready(self) -> None:
        """Tell the supervisor that this worker is ready; does nothing if it has died."""
        with suppress(OSError):
            self.line.send(READY)

    def beat(self, *, loading: bool) -> None:
        """Send the supervisor a heartbeat; does nothing if it has died, or does not read them."""
        with suppress(OSError):
            self.line.send(LOADING if loading else BEAT, socket.MSG_DONTWAIT)

    async def keep_beating(self, loading: Callable[[], bool]) -> None:
        """Send heartbeats until cancelled; `loading` says whether this worker reloads."""
        while True:
            self.beat(loading=loading())
            await trio.sleep(BEAT_S)

    async def wait_alone(self) -> None:
        """Wait until the supervisor has died."""
        line = trio.socket.from_stdlib_socket(self.line)
        with suppress(OSError):
            await line.recv(1)  # the supervisor sends nothing: this returns when the line closes
