"""Ports of the loopback for servers that are told theirs, and are started on it again and again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that the system gives to nobody else meanwhile, also while no server listens on it.

    One that was only free a moment ago may be another test's by now. A server can listen on it all
    the same, if it sets `SO_REUSEADDR`, since this socket does, too, and does not listen.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
