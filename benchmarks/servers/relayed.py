"""The clients of a relay, in one process of their own: plain sockets and epoll.

    python -m benchmarks.servers.relayed JSON

with an `Order` as JSON. It prints one line of JSON, a `Load` or a `Pace`.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from typing import TYPE_CHECKING

import attrs

from benchmarks.servers.process import cpu_s, private_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

AT_ONCE = 32
WARM_UP = 20
SETTLE_S = 1.0
READ_BYTES = 65_536
TOKEN = re.compile(rb"~(\d+)~")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
TAIL_BYTES = 32
"""More than a token has: what may be cut off at the end of a read."""


@attrs.frozen
class Order:
    """What is asked of a server: `pid` is the process that is measured, with its children."""

    port: int
    pid: int
    path: str
    body: str
    headers: dict[str, str]
    streams: int
    limit_s: float
    """By when all streams have to be open, or all requests answered."""
    window_s: float = 0.0
    requests: int = 0
    """So many requests in place of streams, `streams` of them at once."""


@attrs.frozen
class Load:
    """What clients of streams saw."""

    opened: int
    open_s: float
    """From the first request until every stream had a token."""
    dropped: int
    """Streams that ended, or broke, before the clients left."""
    bytes_per_stream: float
    """Growth of the server's private memory once the streams are open, per stream."""
    bytes_per_token: float
    """Its further growth in the window, per token."""
    tokens: int
    window_s: float
    cpu_s: float
    """Of the server, in the window."""
    late_ms: tuple[float, float, float]
    """Of the tokens in the window: the median, the 99th percentile, and the latest."""


@attrs.frozen
class Pace:
    """What clients of whole answers saw."""

    requests: int
    took_s: float
    cpu_s: float
    added_ms: tuple[float, float, float]
    """What each took beyond the provider's own time: median, 99th percentile, longest."""


@attrs.define(eq=False)
class Client:
    """One connection."""

    connection: socket.socket
    tokens: int = 0
    tail: bytes = b""
    sent_s: float = 0.0


class Crowd:
    """All connections to one server."""

    def __init__(self, order: Order) -> None:
        body = order.body.encode()
        headers = {**order.headers, "content-type": "application/json"}
        headers |= {"host": f"127.0.0.1:{order.port}", "content-length": str(len(body))}
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        head = f"POST {order.path} HTTP/1.1\r\n{''.join(lines)}\r\n"
        self.request = head.encode() + body
        self.late_us: list[int] = []
        self.tokens = self.dropped = 0
        self._port = order.port
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}

    def open(self, count: int, limit_s: float) -> int:
        """Open so many streams, until each has had a token; how many had one in time."""
        limit = time.monotonic() + limit_s
        silent: set[Client] = set()
        for _ in range(count):
            while len(silent) >= AT_ONCE and time.monotonic() < limit:
                self.read(0.05)
                silent -= {client for client in silent if client.tokens}
            if time.monotonic() > limit:
                break
            client = self.connect()
            client.connection.sendall(self.request)
            silent.add(client)
        while silent and time.monotonic() < limit:
            self.read(0.05)
            silent -= {client for client in silent if client.tokens}
        return sum(client.tokens > 0 for client in self._clients.values())

    def connect(self) -> Client:
        """One more connection."""
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=20.0)
        connection.setblocking(False)
        client = self._clients[connection.fileno()] = Client(connection)
        self._epoll.register(connection, select.EPOLLIN)
        return client

    def read_for(self, window_s: float) -> float:
        """Read for so long, and tell how long it was."""
        began = time.monotonic()
        while (now := time.monotonic()) < began + window_s:
            self.read(began + window_s - now)
        return time.monotonic() - began

    def read(self, wait_s: float) -> None:
        """Read all that is there, after at most so long a wait."""
        for descriptor, _ in self._epoll.poll(wait_s, 1_024):
            client = self._clients[descriptor]
            try:
                data = client.connection.recv(READ_BYTES)
            except OSError:
                data = b""
            if data:
                self._count(client, data)
            else:
                self.dropped += 1
                self._epoll.unregister(client.connection)

    def whole(self, wait_s: float) -> list[Client]:
        """Those whose answer is whole. Raises ConnectionError where one is closed or refused."""
        ready = []
        for descriptor, _ in self._epoll.poll(wait_s, 1_024):
            client = self._clients[descriptor]
            data = client.connection.recv(READ_BYTES)
            client.tail += data
            head, blank, body = client.tail.partition(b"\r\n\r\n")
            length = LENGTH.search(head)
            if not data or (blank and (b" 200 " not in head or length is None)):
                raise ConnectionError(f"not an answer: {client.tail[:500]!r}")
            if blank and length is not None and len(body) >= int(length[1]):
                ready.append(client)
        return ready

    def leave(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.connection.close()
        self._clients.clear()

    def _count(self, client: Client, data: bytes) -> None:
        now_us = round(time.monotonic() * 1e6)
        data = client.tail + data
        at = 0
        for found in TOKEN.finditer(data):
            at = found.end()
            client.tokens += 1
            self.late_us.append(now_us - int(found[1]))
        client.tail = data[max(at, len(data) - TAIL_BYTES) :]


def load(order: Order) -> Load:
    """What so many streams do to the server, after a few that are not counted."""
    crowd = Crowd(order)
    crowd.open(WARM_UP, order.limit_s)
    crowd.read_for(SETTLE_S)
    crowd.leave()
    time.sleep(SETTLE_S)
    crowd = Crowd(order)
    before, began = private_bytes(order.pid), time.monotonic()
    opened = crowd.open(order.streams, order.limit_s)
    open_s = time.monotonic() - began
    crowd.read_for(SETTLE_S)
    crowd.late_us.clear()
    memory, cpu = private_bytes(order.pid), cpu_s(order.pid)
    window_s = crowd.read_for(order.window_s)
    cpu = cpu_s(order.pid) - cpu
    grown = private_bytes(order.pid) - memory
    return Load(
        opened=opened,
        open_s=open_s,
        dropped=crowd.dropped + order.streams - opened,
        bytes_per_stream=(memory - before) / max(opened, 1),
        bytes_per_token=grown / max(len(crowd.late_us), 1),
        tokens=len(crowd.late_us),
        window_s=window_s,
        cpu_s=cpu,
        late_ms=spread(crowd.late_us),
    )


def pace(order: Order) -> Pace:
    """How fast so many requests are answered, `streams` of them at once."""
    crowd = Crowd(order)
    answered(crowd, order, min(order.requests, 2 * order.streams + WARM_UP))
    cpu, began = cpu_s(order.pid), time.monotonic()
    added_us = answered(crowd, order, order.requests)
    took_s = time.monotonic() - began
    return Pace(len(added_us), took_s, cpu_s(order.pid) - cpu, spread(added_us))


def answered(crowd: Crowd, order: Order, requests: int) -> list[int]:
    """Of each request what it took beyond the provider's own time, in microseconds.

    Raises:
        TimeoutError: they were not answered within the limit.
    """
    limit = time.monotonic() + order.limit_s
    free, busy = [crowd.connect() for _ in range(order.streams)], set[Client]()
    left, added_us = requests, list[int]()
    while len(added_us) < requests:
        while free and left:
            client = free.pop()
            client.sent_s = time.monotonic()
            client.connection.sendall(crowd.request)
            busy.add(client)
            left -= 1
        for client in crowd.whole(0.5):
            busy.discard(client)
            free.append(client)
            added_us.append(_added_us(client))
        if time.monotonic() > limit:
            raise TimeoutError(f"{len(added_us)} of {requests} requests were answered in time")
    crowd.leave()
    return added_us


def _added_us(client: Client) -> int:
    """What an answer took beyond the provider's time."""
    took_us = (time.monotonic() - client.sent_s) * 1e6
    asked_us, answered_us = map(int, TOKEN.findall(client.tail))
    client.tail = b""
    return round(took_us - (answered_us - asked_us))


def spread(values: Sequence[int]) -> tuple[float, float, float]:
    """Median, 99th percentile and most, in milliseconds."""
    if not values:
        return 0.0, 0.0, 0.0
    found = sorted(values)
    middle, late, last = (found[min(int(len(found) * at), len(found) - 1)] for at in (0.5, 0.99, 1))
    return middle / 1e3, late / 1e3, last / 1e3


if __name__ == "__main__":
    asked = Order(**json.loads(sys.argv[1]))
    seen = pace(asked) if asked.requests else load(asked)
    print(json.dumps(attrs.asdict(seen)))
