"""Many clients of an event stream in one process of their own: plain sockets and `select`.

No framework, so that what it costs is not in the way. It opens the streams, at most
`AT_ONCE` of them unanswered, waits until each has had its first event, and then reads for a
while; before and after it asks the kernel about the server's process. It prints one
line of JSON: a `Load`.

    python -m benchmarks.servers.client PORT PATH PID STREAMS WINDOW_S
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

import attrs

from benchmarks.servers.process import cpu_s, resident_bytes

AT_ONCE = 64
WARM_UP_STREAMS = 20
SETTLE_S = 0.5
OPEN_LIMIT_S = 90.0
READ_BYTES = 65_536
MARK = b"data:"


@attrs.frozen
class Load:
    """What the clients saw of a server."""

    streams: int
    open_s: float
    """From the first connection until every stream had its first event."""
    bytes_per_stream: float
    """Growth of the server's resident memory, per stream."""
    events: int
    """Events that arrived in the window, over all streams."""
    window_s: float
    cpu_s: float
    """CPU time of the server in the window."""


@attrs.define(eq=False)
class Client:
    """One open stream."""

    connection: socket.socket
    events: int = 0
    tail: bytes = b""

    def read(self) -> None:
        """Count the events that are there. Raises ConnectionError where the stream has ended."""
        received = self.connection.recv(READ_BYTES)
        if not received:
            raise ConnectionError(f"a stream ended after {self.events} events: {self.tail!r}")
        seen = self.tail + received
        self.events += seen.count(MARK)
        self.tail = seen[-(len(MARK) - 1) :]  # a mark may be cut; a whole one cannot be in it


class Crowd:
    """All the open streams to one server."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._request = (
            f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: text/event-stream\r\n\r\n"
        ).encode()
        self._selector = selectors.DefaultSelector()
        self._clients: list[Client] = []

    @property
    def events(self) -> int:
        """Events that have arrived so far."""
        return sum(client.events for client in self._clients)

    def open(self, count: int) -> None:
        """Open so many streams more, until each has had an event. Raises TimeoutError."""
        limit = time.monotonic() + OPEN_LIMIT_S
        silent: set[Client] = set()
        for _ in range(count):
            silent.add(self._connect())
            while len(silent) >= AT_ONCE:
                self._step(limit, silent)
        while silent:
            self._step(limit, silent)

    def read_for(self, window_s: float) -> float:
        """Read for so long, and tell how long it was."""
        began = time.monotonic()
        while (now := time.monotonic()) < began + window_s:
            self._read(began + window_s - now)
        return time.monotonic() - began

    def close(self) -> None:
        """Leave, all at once."""
        for client in self._clients:
            self._selector.unregister(client.connection)
            client.connection.close()
        self._clients.clear()

    def _connect(self) -> Client:
        client = Client(socket.create_connection(("127.0.0.1", self._port), timeout=10.0))
        client.connection.sendall(self._request)
        client.connection.setblocking(False)
        self._selector.register(client.connection, selectors.EVENT_READ, client)
        self._clients.append(client)
        return client

    def _step(self, limit: float, silent: set[Client]) -> None:
        if time.monotonic() > limit:
            raise TimeoutError(f"{len(silent)} streams had no event after {OPEN_LIMIT_S} s")
        self._read(0.1)
        silent -= {client for client in silent if client.events}

    def _read(self, wait_s: float) -> None:
        for key, _ in self._selector.select(wait_s):
            key.data.read()


def load(port: int, path: str, pid: int, streams: int, window_s: float) -> Load:
    """What so many streams do to the server, after a few that are not counted."""
    crowd = Crowd(port, path)
    crowd.open(WARM_UP_STREAMS)  # what the server imports and allocates once is not per stream
    crowd.read_for(SETTLE_S)
    crowd.close()
    time.sleep(SETTLE_S)
    memory = resident_bytes(pid)
    began = time.monotonic()
    crowd.open(streams)
    open_s = time.monotonic() - began
    crowd.read_for(SETTLE_S)
    memory = resident_bytes(pid) - memory
    events, cpu = crowd.events, cpu_s(pid)
    window_s = crowd.read_for(window_s)
    events, cpu = crowd.events - events, cpu_s(pid) - cpu
    return Load(streams, open_s, memory / streams, events, window_s, cpu)


if __name__ == "__main__":
    _, port, path, pid, streams, window_s = sys.argv
    found = load(int(port), path, int(pid), int(streams), float(window_s))
    print(json.dumps(attrs.asdict(found)))
