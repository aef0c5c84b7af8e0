"""httpx on our connections: what its users, and the SDKs that are made with it, see."""

from __future__ import annotations

import gc
import gzip
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx  # noqa: ASYNC127 - the one that orchestra uses
import pytest
import trio
import trio.testing

from orchestra.errors import (
    ModelError,
)
from orchestra.providers.connections.pool import HttpLimits
from orchestra.providers.transport import TrioTransport
from tests.providers.connections.test_bodies import chunked
from tests.providers.connections.test_connection import AT_ONCE_S
from tests.providers.upstream import (
    CHUNKED,
    OK,
    Visit,
    answering,
    end,
    least,
    run,
    streaming,
    until,
    upstream,
)

KEY = "sk-very-secret"


def test_httpx_speaks_over_our_connections() -> None:
    async def main() -> None:
        async with upstream(answering(OK)) as server:
            async with httpx.AsyncClient(transport=TrioTransport()) as client:
                for _ in range(3):
                    answer = await client.post(server.url, json={"a": 1})
                    assert (answer.status_code, answer.reason_phrase) == (200, "OK")
                    assert answer.text == "ok"
                    assert answer.http_version == "HTTP/1.1"
                assert len(server.visits) == 1
            await server.visits[0].gone.wait()

    run(main)


def test_a_request_of_httpx_arrives_whole() -> None:
    """Also one whose length it does not know before."""
    arrived: list[bytes] = []

    async def handle(visit: Visit) -> None:
        while True:
            arrived.append(await visit.request())
            await visit.send(OK)

    async def parts() -> AsyncIterator[bytes]:
        yield b"a" * 5
        yield b"b" * 5

    async def main() -> None:
        async with (
            upstream(handle) as server,
            httpx.AsyncClient(transport=TrioTransport(), headers={"X-Api-Key": KEY}) as client,
        ):
            await client.post(server.url, content=parts())
            await client.get(server.url)

    run(main)
    post, get = arrived
    assert post.startswith(b"POST /v1/chat?a=1 HTTP/1.1\r\n")
    assert post.endswith(b"\r\n\r\naaaaabbbbb")
    assert f"\r\nX-Api-Key: {KEY}\r\n".encode() in post
    assert get.startswith(b"GET /v1/chat?a=1 HTTP/1.1\r\n")
    assert b"content-length" not in get.lower()


def test_httpx_undoes_what_is_compressed() -> None:
    body = b"data: x\n\n" * 1_000
    packed = gzip.compress(body)
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")

    async def main() -> None:
        async with (
            upstream(answering(head, chunked([(packed, b"", 0, False)], []))) as server,
            httpx.AsyncClient(transport=TrioTransport()) as client,
        ):
            assert (await client.get(server.url)).content == body

    run(main)


def test_leaving_a_stream_of_httpx_closes_its_socket_at_once() -> None:
    async def main() -> float:
        async with (
            upstream(streaming) as server,
            httpx.AsyncClient(transport=TrioTransport()) as client,
        ):
            async with client.stream("POST", server.url) as answer:
                parts = answer.aiter_raw()
                assert await anext(parts) == b"ab"
            left_at = trio.current_time()
            await server.visits[0].gone.wait()
            took_s = server.visits[0].gone_at - left_at
            with suppress(httpx.RemoteProtocolError):
                await end(parts)  # httpx's own generators, which it leaves suspended
            return took_s

    assert least(main) < AT_ONCE_S


def test_a_response_that_is_thrown_away_leaves_nothing() -> None:
    """Nobody closed it: no socket and no slot stay behind."""

    async def main() -> None:
        transport = TrioTransport(limits=HttpLimits(connections_max=1))
        async with upstream(streaming) as server:
            for _ in range(3):
                response = await transport.handle_async_request(httpx.Request("GET", server.url))
                del response
                gc.collect()
            await until(lambda: all(visit.gone.is_set() for visit in server.visits))
            assert len(server.visits) == 3

    run(main)


SHORT = httpx.Timeout(0.5)
"""What is there comes within it."""
CASES: list[tuple[bytes | None, type[httpx.TransportError]]] = [
    (b"", httpx.RemoteProtocolError),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", httpx.RemoteProtocolError),
    (b"SSH-2.0\r\n\r\n", httpx.RemoteProtocolError),
    (None, httpx.ReadTimeout),
]


@pytest.mark.parametrize(("sent", "error"), CASES)
def test_httpx_sees_errors_of_its_own(
    sent: bytes | None, error: type[httpx.TransportError]
) -> None:
    """So that a vendor's SDK, which knows only those, can retry."""

    async def handle(visit: Visit) -> None:
        await visit.request()
        await (visit.left() if sent is None else visit.send(sent))

    timeout = SHORT if sent is None else None

    async def main() -> None:
        async with (
            upstream(handle) as server,
            httpx.AsyncClient(transport=TrioTransport(), timeout=timeout) as client,
        ):
            with pytest.raises(error) as caught:
                await client.get(server.url)
            assert isinstance(caught.value.__cause__, ModelError)
            assert caught.value.request.url == server.url

    run(main)


def test_httpx_sees_where_there_is_no_connection() -> None:
    async def main() -> None:
        async with upstream(streaming) as server:
            url = server.url
            limits = HttpLimits(connections_max=1, waiting_max=0)
            client = httpx.AsyncClient(transport=TrioTransport(limits=limits), timeout=5.0)
            async with client, client.stream("GET", url):
                with pytest.raises(httpx.PoolTimeout):
                    await client.get(url)
            limits = HttpLimits(connections_max=1)
            client = httpx.AsyncClient(transport=TrioTransport(limits=limits), timeout=SHORT)
            async with client, client.stream("GET", url):
                with pytest.raises(httpx.ConnectTimeout):
                    await client.get(url)
        async with httpx.AsyncClient(transport=TrioTransport()) as client:
            with pytest.raises(httpx.ConnectError, match="could not be reached"):
                await client.get(url)
            with pytest.raises(httpx.UnsupportedProtocol, match="'ftp' is not supported"):
                await client.get("ftp://there/")
            with pytest.raises(httpx.LocalProtocolError) as caught:
                await client.get(url, headers={"authorization": f"{KEY}\r\nx: y"})
            assert KEY not in str(caught.value)

    run(main)
