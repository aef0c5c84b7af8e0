"""A provider that streams OpenAI chat completions, as cheaply as asyncio can: it is not measured.

What it does stands in the path, in front of `/v1/chat/completions`:

* `/burst/N`: N chunks at once, as fast as the client reads.
* `/held/M`: one chunk, and once M requests are open at the same time, the rest.
* `/paced/M/N/S`: the same, but the rest are N chunks, one every S seconds.

Of the streams that are held, no two are paced at the same moment.
"""

from __future__ import annotations

import asyncio
import json

BACKLOG = 4_096
HELD_CHUNKS = 10
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\nx-request-id: req_0123456789\r\ncache-control: no-cache\r\n"
    b"openai-processing-ms: 12\r\nopenai-version: 2020-10-01\r\nserver: benchmarks\r\n\r\n"
)


def _chunk(content: str | None, finish: str | None = None) -> bytes:
    event = {
        "id": "chatcmpl-0123456789abcdefghijklmno",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": [
            {
                "index": 0,
                "delta": {} if content is None else {"content": content},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": None,
    }
    return _framed(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


TOKEN = _chunk(" token")
END = _chunk(None, "stop") + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_held: list[Answering] = []


class Answering(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        """The client has left."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or b"0")
            if len(rest) < size:
                return
            self._received = rest[size:]
            self._answer(head.split(b" ", 2)[1].decode())

    def write(self, data: bytes) -> None:
        """Write it, if the client is still here."""
        if self._transport is not None:
            self._transport.write(data)

    def pace(self, left: int, every_s: float) -> None:
        """Write so many chunks, the next now."""
        if left:
            self.write(TOKEN)
            later = asyncio.get_running_loop().call_later
            later(every_s, self.pace, left - 1, every_s)
        else:
            self.write(END)

    def _answer(self, path: str) -> None:
        _, kind, count, *more = path.split("/")
        if kind == "burst":
            self.write(HEAD + TOKEN * int(count) + END)
            return
        self.write(HEAD + TOKEN)
        _held.append(self)
        if len(_held) < int(count):
            return
        if kind == "held":
            for each in _held:
                each.write(TOKEN * (HELD_CHUNKS - 1) + END)
        else:
            _start(int(more[0]), float(more[1]))
        _held.clear()


def _start(chunks: int, every_s: float) -> None:
    later = asyncio.get_running_loop().call_later
    for number, each in enumerate(_held):
        later(every_s * number / len(_held), each.pace, chunks, every_s)


async def main() -> None:
    """Serve on a free loopback port, and print it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0, backlog=BACKLOG)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
