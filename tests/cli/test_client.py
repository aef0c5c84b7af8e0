"""The smallest client: a run that is followed, and servers that misbehave."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import trio

from orchestra.cli.client import ask
from orchestra.cli.failures import CommandError
from orchestra.events import Delta
from orchestra.server import sse


def stream(chunks: list[Any]) -> bytes:
    """Events and heartbeats, as our server writes them."""
    events = [Delta(seq, 0.5, chunk) for seq, chunk in enumerate(chunks, 1)]
    return b"".join(sse.HEARTBEAT + sse.frames([event]) for event in events)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


def talk(*answer: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """The events from a server that answers with these bytes, and what it was asked."""
    asked = b""
    events: list[dict[str, Any]] = []
    refusals: list[CommandError] = []

    async def serve(connection: trio.SocketStream) -> None:
        nonlocal asked
        while b'"inputs"' not in asked:
            asked += await connection.receive_some()
        for part in answer:
            await connection.send_all(part)
        await connection.aclose()

    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            try:
                async with ask(url, "a pipeline", {"question": "why?"}) as reply:
                    while batch := await reply.receive():
                        events.extend(batch)
            except CommandError as error:
                refusals.append(error)
            nursery.cancel_scope.cancel()

    trio.run(main)
    for refusal in refusals:
        raise refusal
    return events, asked


OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_run_is_asked_for_and_followed() -> None:
    parts = [chunked(part) for part in split(stream(["a", "b"]), [5, 70]) if part]
    events, asked = talk(OK, *parts, b"0\r\n\r\n")
    assert [event["chunk"] for event in events] == ["a", "b"]
    head, _, body = asked.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/pipelines/a%20pipeline/runs HTTP/1.1\r\n")
    assert b"text/event-stream" in head
    assert json.loads(body) == {"inputs": {"question": "why?"}}


def test_an_error_is_told_in_the_servers_own_words() -> None:
    refusal = b'HTTP/1.1 422 No\r\nContent-Length: 14\r\n\r\n{"title": "x"}'
    with pytest.raises(CommandError, match=r'the server answered 422: \{"title": "x"\}'):
        talk(refusal)


@pytest.mark.parametrize("answer", [b"", OK, OK + chunked(b"data: {}")[:-1], b"nonsense\r\n\r\n"])
def test_a_connection_that_breaks_off_is_an_error(answer: bytes) -> None:
    """A cut stream never looks complete."""
    with pytest.raises(CommandError, match="the connection to the server broke"):
        talk(answer)
