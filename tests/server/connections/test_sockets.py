"""Listening: where it cannot be, it is told why, and what to write."""

from __future__ import annotations

import errno
import socket

import pytest
import trio

from orchestra.errors import ServeError
from orchestra.server.connections.sockets import bind, has_arrived, hindrance, wait_left
from orchestra.server.settings import Settings


def refusal(host: str, port: int = 0) -> str:
    with pytest.raises(ServeError) as caught:
        bind(host, port, Settings())
    return str(caught.value)


@pytest.mark.parametrize("host", ["a b", "x..y", "a" * 64])
def test_what_is_no_host_is_told_without_a_number_or_a_traceback(host: str) -> None:
    told = refusal(host)
    assert told.startswith(f"cannot listen on host {host!r}, port 0: it cannot be resolved; ")
    assert "127.0.0.1" in told


def test_an_address_of_elsewhere_is_not_one_that_is_taken() -> None:
    told = refusal("192.0.2.1")  # of documentation: nobody has it
    assert "this machine has no such address; write 0.0.0.0" in told
    assert "another server" not in told


def test_a_port_that_is_taken_may_be_another_servers() -> None:
    with bind("127.0.0.1", 0, Settings()) as taken:
        assert "is another server running there?" in refusal("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "such as --port 8000"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "it cannot be resolved"),
    ],
)
def test_each_hindrance_is_told_by_what_it_is(error: OSError, says: str) -> None:
    assert says in hindrance(error)


def test_nobody_is_waited_for_on_a_connection_that_is_closed_on_this_side() -> None:
    """It may have been closed just before, by a write that failed: the client had left."""

    async def main() -> None:
        closed, other = socket.socketpair()
        closed.close()
        with other, trio.fail_after(9):
            await wait_left(closed.fileno())

    trio.run(main)


def test_what_has_arrived_is_seen_and_on_a_closed_connection_nothing_is() -> None:
    ours, other = socket.socketpair()
    with other:
        assert not has_arrived(ours.fileno())
        other.send(b"x")
        assert has_arrived(ours.fileno())
        ours.close()
        assert not has_arrived(ours.fileno())
