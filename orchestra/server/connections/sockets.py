"""Listening sockets and their URLs; without HTTP, since the supervisor also binds sockets."""

from __future__ import annotations

import errno
import select
import socket
from typing import TYPE_CHECKING

import trio

from orchestra.errors import ServeError
from orchestra.hosts import bracketed

if TYPE_CHECKING:
    from orchestra.server.settings import Settings

LOOK_S = 0.5
"""Seconds between two polls of `wait_left`."""
_LEFT = getattr(select, "POLLRDHUP", select.POLLHUP)  # only Linux has the first


async def wait_left(descriptor: int) -> None:
    """Wait until the peer of a connection has closed or reset it; not if it is closed here.

    Use this while received bytes are left unread: only `poll` notices the end after them.
    """
    if descriptor < 0:  # that of a closed socket
        return
    poll = select.poll()
    poll.register(descriptor, _LEFT)
    while not poll.poll(0):  # noqa: ASYNC110 - Trio cannot wait for this
        await trio.sleep(LOOK_S)


def has_arrived(descriptor: int) -> bool:
    """Whether something has arrived that is not read yet: bytes, or the end of the connection."""
    if descriptor < 0:  # that of a closed socket
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def bind(host: str, port: int, settings: Settings) -> socket.socket:
    """A socket that listens on the host's first address; port 0 takes a free port.

    On Linux, the kernel drops a connection if its peer acknowledges nothing, or opens no window,
    for `stall_s`: accepted sockets inherit this. So it is noticed when a client has vanished; on
    other systems, this takes the kernel's default of a quarter of an hour.

    Raises:
        ServeError: the socket cannot be bound: for example, the address is in use.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
    except (OSError, UnicodeError) as error:
        raise _refusal(host, port, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            stall_ms = round(settings.stall_s * 1000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stall_ms)
        listener.bind(address)
        listener.listen(settings.backlog)
    except OSError as error:
        listener.close()
        raise _refusal(host, port, error) from error
    return listener


def _refusal(host: str, port: int, error: OSError | UnicodeError) -> ServeError:
    return ServeError(f"cannot listen on host {host!r}, port {port}: {hindrance(error)}")


def hindrance(error: OSError | UnicodeError) -> str:
    """The reason why binding an address failed, and what to write instead. Pure."""
    if isinstance(error, UnicodeError | socket.gaierror):  # an invalid or unknown name
        return (
            "it cannot be resolved; write an address of this machine, such as 127.0.0.1 or 0.0.0.0"
        )
    match error.errno:
        case errno.EADDRINUSE:
            fix = "; is another server running there? port 0 takes a free one"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address; write 0.0.0.0 for all of its addresses"
        case errno.EACCES:
            fix = "; ports below 1024 need a privilege; use another one, such as --port 8000"
        case _:
            fix = ""
    return f"{error.strerror or error}{fix}"


def url_of(listener: socket.socket) -> str:
    """The address of a listening socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://{bracketed(host)}:{port}"
