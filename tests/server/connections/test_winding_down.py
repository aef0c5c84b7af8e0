"""A server that stops takes no request from a proxy that it does not answer.

A proxy does not repeat a POST that was sent and not answered: its client gets a 502.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from orchestra.server.connections import listen
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.settings import Settings
from tests.patience import PATIENCE_S
from tests.server.wire import Client, Reply, open_house


@pytest.fixture(autouse=True)
def _mended() -> None:
    mend_hypercorn()


REQUEST = b"GET /whole HTTP/1.1\r\nHost: a\r\n\r\n"


async def hello(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Say it whole to one path, and in chunks to all others."""
    assert scope["type"] == "http"
    headers = [(b"content-length", b"3")] if scope["path"] == "/whole" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hi\n", "more_body": not headers})
    if not headers:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize("path", ["/whole", "/chunked"])
def test_each_response_is_the_last_of_its_connection_and_says_so(path: str) -> None:
    """New clients are served, too, until the server is shut."""
    request = f"GET {path} HTTP/1.1"

    async def last(client: Client) -> Reply:
        reply = await client.ask(request)
        assert await client.closed()
        return reply

    async def main() -> list[Reply]:
        async with open_house(hello, Settings()) as house:
            kept = await house.connect()
            before = await kept.ask(request)
            await house.server.wind_down()
            return [before, await last(kept), await last(await house.connect())]

    replies = trio.run(main)
    assert [reply.body for reply in replies] == [b"hi\n"] * 3
    assert [reply.headers.get("connection") for reply in replies] == [None, "close", "close"]


def test_a_request_that_has_arrived_is_answered_though_its_connection_was_idle() -> None:
    """It came between the last look of the reading task and the end of the idle connections."""

    async def main() -> tuple[Reply, bool, bool]:
        async with open_house(hello, Settings()) as house:
            asking, idle = await house.connect(), await house.connect()
            for client in (asking, idle):
                await client.ask("GET /whole HTTP/1.1")
            await house.server.wind_down()
            await trio.testing.wait_all_tasks_blocked()
            os.write(asking.stream.socket.fileno(), REQUEST)
            for connection in house.server._connections:
                connection.end_if_idle()
            return await asking.reply(), await asking.closed(), await idle.closed()

    reply, *closed = trio.run(main)
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert closed == [True, True]


@pytest.mark.parametrize("most", [None, 7])
def test_who_has_connected_but_is_not_accepted_yet_is_answered(most: int | None) -> None:
    """The kernel resets the connections that wait at a socket when that is closed; but no address
    gets more of them than it may have."""
    count = 20
    settings = Settings(connections_per_address_max=most)

    async def status(client: Client) -> int:
        try:
            return (await client.reply()).status
        except (EOFError, trio.BrokenResourceError):
            return 0

    async def main() -> list[int]:
        async with open_house(hello, settings) as house:
            await trio.testing.wait_all_tasks_blocked()
            with ExitStack() as opened:
                at_once = [
                    opened.enter_context(socket.create_connection(("127.0.0.1", house.port)))
                    for _ in range(count)
                ]
                for each in at_once:
                    each.sendall(REQUEST)
                house.server.shut()
                clients = [
                    Client(trio.SocketStream(trio.socket.from_stdlib_socket(each)))
                    for each in at_once
                ]
                return [await status(client) for client in clients]

    answered = most or count
    assert sorted(trio.run(main)) == [0] * (count - answered) + [200] * answered


def test_who_connects_and_then_sends_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "LAST_S", PATIENCE_S / 2)

    async def main() -> int:
        async with open_house(hello, Settings()) as house:
            client = await house.connect()
            house.server.shut()
            await trio.testing.wait_all_tasks_blocked()
            return (await client.ask("GET /whole HTTP/1.1")).status

    assert trio.run(main) == 200
