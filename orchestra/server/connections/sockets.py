"""Sockets and their URLs; without HTTP, since the supervisor binds sockets as well."""

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
"""How often `wait_left` looks."""
_LEFT = getattr(select, "POLLRDHUP", select.POLLHUP)  # Linux alone has the first


async def wait_left(descriptor: int) -> None:
    """Wait until the other side of a connection has left, or reset it; not if it is closed here.

    To be used where bytes are left unread: they hide the end behind them from all but `poll`.
    """
    if descriptor < 0:  # that of a closed socket
        return
    poll = select.poll()
    poll.register(descriptor, _LEFT)
    while not poll.poll(0):  # noqa: ASYNC110 - Trio has no event for it
        await trio.sleep(LOOK_S)


def bind(host: str, port: int, settings: Settings) -> socket.socket:
    """A socket that listens on the host's first address; port 0 takes a free one.

    On Linux the kernel drops a connection whose peer acknowledges nothing, or opens no window,
    for `stall_s`: accepted sockets inherit this. So a client that has vanished is noticed, which
    on other systems takes the kernel's default of a quarter of an hour.

    Raises:
        ServeError: the address is not this machine's, or is in use.
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
            return "this machine has no such address; write 0.0.0.0 for every one that it has"
        case errno.EACCES:
            fix = "; ports below 1024 need a privilege; take another (--port 8000, say)"
        case _:
            fix = ""
    return f"{error.strerror or error}{fix}"


def url_of(listener: socket.socket) -> str:
    """The address of a listening socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://{bracketed(host)}:{port}"
