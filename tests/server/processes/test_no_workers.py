"""Clients of a host without workers: each is told, and none keeps the others from it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from orchestra.server.processes.no_workers import ANSWER, READ_BYTES, answer_unavailable
from tests.patience import PATIENCE_S


@asynccontextmanager
async def unavailable() -> AsyncIterator[int]:
    """A port at which nobody works."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_unavailable, listener)
            yield listener.getsockname()[1]
            nursery.cancel_scope.cancel()


async def told(port: int, *sent: bytes) -> bytes:
    """What a client hears until the end."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        for each in sent:
            await stream.send_all(each)
        return b"".join([part async for part in stream])


def test_a_client_is_told_also_while_its_body_is_on_its_way() -> None:
    async def main() -> None:
        async with unavailable() as port:
            body = b"x" * READ_BYTES
            assert await told(port, b"POST / HTTP/1.1\r\n", b"Host: a\r\n\r\n") == ANSWER
            assert await told(port, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n" + body[:9_000]) == ANSWER

    trio.run(main)


def test_a_page_of_another_origin_may_read_it() -> None:
    """Which it may ask without a preflight, or after one of the last minutes."""
    head = ANSWER.lower().partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert b"access-control-allow-origin: *" in head
    assert b"access-control-expose-headers: retry-after" in head


def test_who_asks_nothing_hears_nothing_and_the_next_is_told() -> None:
    async def main() -> None:
        async with unavailable() as port:
            async with await trio.open_tcp_stream("127.0.0.1", port) as silent:
                await silent.send_eof()
                assert await silent.receive_some() == b""
            assert await told(port, b"GET / HTTP/1.1\r\n\r\n") == ANSWER

    trio.run(main)


def test_a_head_without_an_end_is_not_read_to_it() -> None:
    async def main() -> None:
        async with unavailable() as port, await trio.open_tcp_stream("127.0.0.1", port) as endless:
            with trio.fail_after(PATIENCE_S), pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - until it is closed
                while True:
                    await endless.send_all(b"x" * READ_BYTES)

    trio.run(main)
