"""A connection reads what is its own, whatever number its socket has."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from orchestra.server.listen import Connection


def test_a_connection_that_was_closed_in_the_moment_it_was_readable_reads_nobody_elses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next client is given the number of the socket that was closed."""
    wait_readable = trio.lowlevel.wait_readable

    async def main() -> None:
        near, far = socket.socketpair()
        others, client = socket.socketpair()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        connection = Connection(None, None, None, None, stream, stall_s=1.0)
        descriptor = stream.socket.fileno()

        async def wait_until_it_is_anothers(readable: int) -> None:
            await wait_readable(readable)
            stream.socket.close()
            os.dup2(others.fileno(), readable)

        monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_until_it_is_anothers)
        with far, others, client:
            far.send(b"mine")
            client.send(b"not yours")
            with pytest.raises(trio.ClosedResourceError):
                await connection._read()
            assert os.read(descriptor, 100) == b"not yours"
            os.close(descriptor)

    trio.run(main)
