"""Ports of the loopback for servers that tests start on the same port several times."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that no other process gets meanwhile, also while no server listens on it.

    A port that was merely free a moment ago may be another test's by now. The server has to set
    `SO_REUSEADDR`: then it can listen on the port although this socket is bound to it.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
