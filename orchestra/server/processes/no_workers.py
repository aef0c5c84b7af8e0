"""Answers clients with 503 while no worker is ready: at once, so that a proxy tries another host.

Otherwise clients would wait at an open port that no process serves.

Rules of the file: the supervisor uses it, so it knows nothing about the application. Each client
takes at most `ANSWER_S`, and is read for at most about `READ_BYTES` before and after the response;
at most `AT_ONCE` clients are answered at a time.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

import trio

AT_ONCE = 64
ANSWER_S = 1.0
READ_BYTES = 64 * 1024
RETRY_AFTER_S = 5
FULL_S = 0.1
"""Seconds to wait after an error, such as no file descriptor for another connection."""

_BODY = (
    b'{"type": "urn:problem-type:orchestra:no-worker", '
    b'"title": "No worker of this server is ready.", "status": 503}'
)
ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Content-Type: application/problem+json\r\n"
    b"Content-Length: %d\r\n"
    b"Retry-After: %d\r\n"
    b"Cache-Control: no-store\r\n"
    b"Access-Control-Allow-Origin: *\r\n"  # there is nothing in it that a page must not read
    b"Access-Control-Expose-Headers: Retry-After\r\n"
    b"Connection: close\r\n\r\n%s" % (len(_BODY), RETRY_AFTER_S, _BODY)
)
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EAGAIN)
"""Errors of `accept` if the client has already left."""


async def answer_unavailable(listener: socket.socket) -> None:
    """Answer each client with a 503, until cancelled; responses that have begun are finished."""
    with listener.dup() as ours:
        shared, lock = trio.socket.from_stdlib_socket(ours), trio.Lock()
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(_answer_all, shared, lock)


async def _answer_all(listener: trio.socket.SocketType, lock: trio.Lock) -> None:
    """Answer one client after the other."""
    while True:
        async with lock:  # in Trio, only one task may wait for a socket
            client = await _accepted(listener)
        if client is None:
            continue
        with client, trio.move_on_after(ANSWER_S, shield=True), suppress(OSError):
            await _answer(client)


async def _accepted(listener: trio.socket.SocketType) -> trio.socket.SocketType | None:
    try:
        client, _ = await listener.accept()
    except OSError as error:
        if error.errno not in _GONE:
            await trio.sleep(FULL_S)
        return None
    return client


async def _answer(client: trio.socket.SocketType) -> None:
    """Read the request, answer, and wait for the client to close: a reset could lose the answer."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = await client.recv(READ_BYTES)
        if not more or len(head) > READ_BYTES:
            return
        head += more
    await client.send(ANSWER)
    client.shutdown(socket.SHUT_WR)
    left = READ_BYTES
    while left > 0 and (more := await client.recv(READ_BYTES)):
        left -= len(more)
