"""A provider for ten thousand streams: sockets and epoll, no framework. It is not measured.

It answers `POST /v1/chat/completions` as OpenAI does. A stream is sent a token at once, and the
next every EVERY_S seconds, `max_tokens` of them; an answer that is not streamed comes after
DELAY_S. No stream has a timer of its own: time goes in ticks of a millisecond, each of which
serves the streams of one slot, and the streams are spread over the slots, so that tokens come
alone as they do from a provider of many. A token's text is the moment it was due, in microseconds
of the machine's monotonic clock, between tildes: a client in another process can tell how late it
is.

    python -m benchmarks.servers.provider EVERY_S DELAY_S
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections import deque

import attrs

BACKLOG = 4_096
TICK_S = 0.001
READ_BYTES = 65_536
UNSENT_MAX = 1 << 20
"""Bytes that a reader may be behind before it is left."""
GOLDEN = 0.6180339887  # spreads any number of streams evenly over the slots
TOKENS = re.compile(rb'"max_(?:completion_)?tokens": ?(\d+)')
STREAMED = re.compile(rb'"stream": ?true')
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\nx-request-id: req_0123456789\r\ncache-control: no-cache\r\n"
    b"openai-processing-ms: 12\r\nopenai-version: 2020-10-01\r\nserver: benchmarks\r\n\r\n"
)
ABOUT = {
    "id": "chatcmpl-0123456789abcdefghijklmno",
    "created": 1_700_000_000,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
}


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(value: object) -> bytes:
    return _framed(b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n")


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    kind = {"object": "chat.completion.chunk"}
    return _event({**ABOUT, **kind, "choices": [choice], "usage": None})


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": tokens + 9}


def text(at_s: float) -> str:
    """A token that tells when it was due."""
    return f" ~{at_s * 1e6:.0f}~"


BEGIN = HEAD + _chunk({"role": "assistant", "content": ""})
_BEFORE, _AFTER = _chunk({"content": text(1e9)}).split(text(1e9).encode())
_DIGITS = len(text(1e9))


def token(at_s: float) -> bytes:
    """The chunk of a token, of the same length whenever it is due."""
    return b"%s%s%s" % (_BEFORE, text(at_s).rjust(_DIGITS).encode(), _AFTER)


def end(tokens: int) -> bytes:
    """The reason, the usage, and the end of a stream."""
    usage = {**ABOUT, "object": "chat.completion.chunk", "choices": [], "usage": _usage(tokens)}
    return _chunk({}, "stop") + _event(usage) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def answer(asked_s: float, now_s: float) -> bytes:
    """A whole answer; its text is when the question came, and when the answer was sent."""
    message = {"role": "assistant", "content": text(asked_s) + text(now_s), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    whole = {**ABOUT, "object": "chat.completion", "choices": [choice], "usage": _usage(2)}
    body = json.dumps(whole).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


@attrs.define(eq=False)
class Line:
    """A connection."""

    connection: socket.socket
    received: bytes = b""
    unsent: bytes = b""
    left: int = 0
    """Tokens that its stream still owes."""
    tokens: int = 0
    gone: bool = False


class Provider:
    """All connections, and the slots of those that stream."""

    def __init__(self, every_s: float, delay_s: float) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._lines: dict[int, Line] = {}
        self._slots: list[list[Line]] = [[] for _ in range(max(round(every_s / TICK_S), 1))]
        self._streams = 0
        self._delay_s = delay_s
        self._waiting: deque[tuple[float, float, Line]] = deque()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Serve for ever."""
        tick, began = 0, time.monotonic()
        while True:
            due = began + tick * TICK_S
            if self._waiting:
                due = min(due, self._waiting[0][0])
            for descriptor, _ in self._epoll.poll(max(due - time.monotonic(), 0), 1_024):
                if descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._ready(self._lines[descriptor])
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                _, asked_s, line = self._waiting.popleft()
                self._write(line, answer(asked_s, time.monotonic()))
            while began + tick * TICK_S <= now:
                self._tick(tick % len(self._slots), began + tick * TICK_S)
                tick += 1

    def _tick(self, slot: int, at_s: float) -> None:
        """Send a token to each stream of a slot."""
        lines, data = self._slots[slot], token(at_s)
        for line in lines:
            line.left -= 1
            self._write(line, data if line.left else data + end(line.tokens))
        if any(line.gone or not line.left for line in lines):
            lines[:] = [line for line in lines if line.left and not line.gone]

    def _accept(self) -> None:
        for _ in range(256):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._lines[connection.fileno()] = Line(connection)
            self._epoll.register(connection, select.EPOLLIN)

    def _ready(self, line: Line) -> None:
        """Read what came, and write what could not be written before."""
        if line.unsent:
            unsent, line.unsent = line.unsent, b""
            self._write(line, unsent)
            if not (line.unsent or line.gone):
                self._epoll.modify(line.connection, select.EPOLLIN)
        try:
            data = line.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._leave(line)
            return
        line.received += data
        head, blank, rest = line.received.partition(b"\r\n\r\n")
        size = LENGTH.search(head)
        if not blank or len(rest) < (int(size[1]) if size else 0):
            return
        line.received = b""
        self._begin(line, rest)

    def _begin(self, line: Line, body: bytes) -> None:
        now = time.monotonic()
        if not STREAMED.search(body):
            self._waiting.append((now + self._delay_s, now, line))
            return
        asked = TOKENS.search(body)
        line.tokens = max(int(asked[1]) if asked else 100, 2)
        line.left = line.tokens - 1
        self._write(line, BEGIN + token(now))
        self._streams += 1
        self._slots[int(self._streams * GOLDEN % 1 * len(self._slots))].append(line)

    def _write(self, line: Line, data: bytes) -> None:
        if line.gone:
            return
        if line.unsent:
            line.unsent += data
            if len(line.unsent) > UNSENT_MAX:
                self._leave(line)
            return
        try:
            sent = line.connection.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._leave(line)
            return
        if sent < len(data):
            line.unsent = data[sent:]
            self._epoll.modify(line.connection, select.EPOLLIN | select.EPOLLOUT)

    def _leave(self, line: Line) -> None:
        if not line.gone:
            line.gone = True
            del self._lines[line.connection.fileno()]
            line.connection.close()


def main() -> None:
    """Serve on a free loopback port, and print it."""
    provider = Provider(float(sys.argv[1]), float(sys.argv[2]))
    print(f"http://127.0.0.1:{provider.port}", flush=True)
    provider.serve()


if __name__ == "__main__":
    main()
