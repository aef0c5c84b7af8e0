"""Who is refused in the middle of a body reads why, and holds nothing for long."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
import trio.lowlevel
import trio.testing
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from orchestra.server.connections import listen
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.settings import Settings
from tests.server.wire import Client, House, open_house

MEBIBYTE = b"x" * 1024 * 1024
HEAD = "POST / HTTP/1.1\nContent-Length: 1000000000"


async def refusing(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    headers = [(b"content-length", b"3")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"no\n", "more_body": False})


async def empty(house: House) -> None:
    """Wait until nobody holds a place."""
    while house.server.connections:
        await trio.lowlevel.checkpoint()


def housing(main: Callable[[House], Awaitable[None]]) -> None:
    async def serve() -> None:
        async with open_house(refusing, Settings()) as house:
            await main(house)

    mend_hypercorn()
    trio.run(serve)


async def refused(house: House) -> Client:
    """A client that has begun a body, and has read that it is not wanted, and that all is over."""
    client = await house.connect()
    await client.send(HEAD)
    assert (await client.rest()).endswith(b"\r\n\r\nno\n")
    return client


def test_a_client_that_sends_before_it_reads_reads_why_it_is_refused() -> None:
    """A reset would take the answer from it: that is what a close is to one who still sends."""

    async def main(house: House) -> None:
        client = await house.connect()
        await client.send(HEAD)
        for _ in range(32):
            await client.stream.send_all(MEBIBYTE)
        reply = await client.reply()
        assert (reply.status, reply.body) == (413, b"no\n")
        assert reply.headers["connection"] == "close", "a proxy would send its next request"
        assert await client.closed()
        await client.stream.aclose()
        await empty(house)

    housing(main)


def test_a_client_that_goes_on_sending_is_left_by_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listen, "LINGER_S", math.inf)
    monkeypatch.setattr(listen, "LINGER_BYTES", len(MEBIBYTE))

    async def main(house: House) -> None:
        client = await refused(house)
        with suppress(trio.BrokenResourceError):
            while True:
                await client.stream.send_all(MEBIBYTE)
        await empty(house)

    housing(main)


def test_a_client_that_stops_sending_is_left_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "LINGER_S", 0.05)

    async def main(house: House) -> None:
        await refused(house)
        await empty(house)

    housing(main)


def test_who_lingers_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "LINGER_S", 1000.0)

    async def main(house: House) -> None:
        await refused(house)
        assert house.server.connections == 1
        house.server.shut()
        await house.empty.wait()

    housing(main)


def test_who_is_refused_while_the_server_stops_is_closed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listen, "LINGER_S", 1000.0)
    asked, shut = trio.Event(), trio.Event()

    async def late(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        asked.set()
        await shut.wait()
        await refusing(scope, receive, send)

    async def main() -> None:
        async with open_house(late, Settings()) as house:
            client = await house.connect()
            await client.send(HEAD)
            await asked.wait()
            house.server.shut()
            await trio.testing.wait_all_tasks_blocked()
            shut.set()
            await house.empty.wait()

    trio.run(main)
