"""Connections that are kept, and those that went stale meanwhile."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from orchestra.errors import ModelConnectionError, ModelTimeoutError
from orchestra.protocols import HttpRequest, Timeouts
from orchestra.providers.connections.pool import HttpLimits
from orchestra.providers.network import HttpTransport, open_transport
from tests.providers.upstream import (
    CHUNKED,
    OK,
    Handler,
    Visit,
    answering,
    fetch,
    open_sockets,
    read,
    run,
    until,
    upstream,
)


def idle(transport: HttpTransport) -> int:
    return sum(len(place.idle) for place in transport._pool._places.values())


def scripted(*scripts: Handler) -> Handler:
    """The first connection does the first of these, and so on."""

    async def handle(visit: Visit) -> None:
        await scripts[visit.number](visit)

    return handle


@pytest.mark.parametrize(
    "answer",
    [OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nok"],
)
def test_a_connection_whose_answer_was_read_is_used_again(answer: bytes) -> None:
    async def main() -> None:
        async with upstream(answering(answer)) as server, open_transport() as transport:
            for _ in range(3):
                assert await fetch(transport, server.url) == b"ok"
            assert len(server.visits) == 1

    run(main)


def test_an_error_beside_an_answer_that_was_read_costs_no_connection() -> None:
    """Who reads an answer with status 429 and raises, leaves a connection as good as any."""

    async def main() -> None:
        async with upstream(answering(OK)) as server, open_transport() as transport:

            async def refuse() -> None:
                async with transport.send(HttpRequest(server.url)) as reply:
                    await read(reply)
                    raise LookupError(reply.status)

            with pytest.raises(LookupError):
                await refuse()
            assert idle(transport) == 1

    run(main)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        OK + b"more than was asked for",
        b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=0\r\ncontent-length: 2\r\n\r\nok",
    ],
)
def test_a_connection_that_cannot_be_used_again_is_closed(answer: bytes) -> None:
    async def main() -> None:
        async with upstream(answering(answer)) as server, open_transport() as transport:
            assert await fetch(transport, server.url) == b"ok"
            assert idle(transport) == 0
            await server.visits[0].gone.wait()

    run(main)


def test_a_reader_that_stops_at_the_last_event_keeps_the_connection() -> None:
    """The end of the framing is here, though nobody has read it."""
    sent = trio.Event()

    async def handle(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.send(CHUNKED, b"c\r\ndata: [DONE]\r\n")
            await visit.asked.wait()
            await visit.send(b"0\r\n\r\n")
            sent.set()

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            for _ in range(2):
                async with transport.send(HttpRequest(server.url)) as reply:
                    assert await reply.receive() == b"data: [DONE]"
                    await sent.wait()
                    await trio.testing.wait_all_tasks_blocked()
                assert idle(transport) == 1
            assert len(server.visits) == 1

    run(main)


@pytest.mark.parametrize(
    ("last", "kept"), [(b"0\r\n\r\n", True), (b"0\r\n", False), (b"", False), (b"no\r\n", False)]
)
def test_an_end_that_is_not_here_keeps_nothing(last: bytes, kept: bool) -> None:
    """It is not waited for: a provider that goes on has to be stopped."""
    event = b"c\r\ndata: [DONE]\r\n"

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED + event)
        await visit.send(last)
        await visit.left()

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            async with transport.send(HttpRequest(server.url)) as reply:
                await trio.testing.wait_all_tasks_blocked()
                assert await reply.receive() == b"data: [DONE]"
            assert idle(transport) == kept

    run(main)


# --- stale connections ------------------------------------------------------------------------


async def once(visit: Visit) -> None:
    """Answers once, and closes."""
    await visit.request()
    await visit.send(OK)


async def twice(visit: Visit, second: bytes) -> None:
    """Answers once, and closes after the second request with no more than this."""
    await once(visit)
    await visit.request()
    await visit.send(second)


def test_a_connection_that_the_server_closed_is_not_used() -> None:
    async def main() -> None:
        async with upstream(once) as server, open_transport() as transport:
            for turn in range(3):
                assert await fetch(transport, server.url) == b"ok"
                await trio.testing.wait_all_tasks_blocked()
                assert len(server.visits) == turn + 1

    run(main)


def test_a_connection_on_which_something_came_unasked_is_not_used() -> None:
    async def handle(visit: Visit) -> None:
        await once(visit)
        await visit.send(b"HTTP/1.1 408 Too Slow\r\ncontent-length: 0\r\n\r\n")
        await visit.left()

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            assert await fetch(transport, server.url) == b"ok"
            await trio.testing.wait_all_tasks_blocked()
            assert await fetch(transport, server.url) == b"ok"
            assert len(server.visits) == 2
            await server.visits[0].gone.wait()

    run(main)


def test_a_stale_connection_is_replaced_once() -> None:
    """Closed by the server while we asked, and no byte of an answer has come: asked again."""

    async def main() -> None:
        handler = scripted(partial(twice, second=b""), answering(OK))
        async with upstream(handler) as server, open_transport() as transport:
            assert await fetch(transport, server.url) == b"ok"
            assert await fetch(transport, server.url) == b"ok"
            assert len(server.visits) == 2

    run(main)


def test_a_stale_connection_is_not_replaced_by_another_stale_one() -> None:
    """The second try is on a new connection, even if others are kept; and there is no third."""

    async def silent(visit: Visit) -> None:
        await visit.request()

    async def main() -> None:
        stale = partial(twice, second=b"")
        handler = scripted(stale, stale, silent, answering(OK))
        async with upstream(handler) as server, open_transport() as transport:
            async with transport.send(HttpRequest(server.url)) as reply:
                await fetch(transport, server.url)
                await read(reply)
            assert idle(transport) == 2
            with pytest.raises(ModelConnectionError, match="without a response"):
                await fetch(transport, server.url)
            assert len(server.visits) == 3

    run(main)


@pytest.mark.parametrize("byte", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_after_a_byte_of_the_answer_nothing_is_asked_again(byte: bytes) -> None:
    """It may have been billed."""

    async def main() -> None:
        handler = scripted(partial(twice, second=byte), answering(OK))
        async with upstream(handler) as server, open_transport() as transport:
            assert await fetch(transport, server.url) == b"ok"
            with pytest.raises(ModelConnectionError, match="closed the connection"):
                await fetch(transport, server.url)
            assert len(server.visits) == 1

    run(main)


def test_a_new_connection_that_breaks_is_not_replaced() -> None:
    async def silent(visit: Visit) -> None:
        await visit.request()

    async def main() -> None:
        async with upstream(silent) as server, open_transport() as transport:
            with pytest.raises(ModelConnectionError, match="without a response"):
                await fetch(transport, server.url)
            assert len(server.visits) == 1

    run(main)


def test_a_timeout_on_a_kept_connection_is_not_asked_again() -> None:
    async def handle(visit: Visit) -> None:
        await once(visit)
        await visit.left()

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            await fetch(transport, server.url)
            with pytest.raises(ModelTimeoutError):
                await fetch(transport, server.url, Timeouts(first_byte_s=0.02))
            assert len(server.visits) == 1

    run(main)


# --- what is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "after_s", "connections"),
    [
        ("", 29.0, 1),
        ("", 31.0, 2),
        ("keep-alive: timeout=5\r\n", 4.0, 1),
        ("keep-alive: timeout=5\r\n", 6.0, 2),
    ],
)
def test_a_connection_is_kept_so_long(hint: str, after_s: float, connections: int) -> None:
    """30 s, or less where the server says so."""
    clock = trio.testing.MockClock()
    answer = f"HTTP/1.1 200 OK\r\n{hint}content-length: 0\r\n\r\n".encode()

    async def main() -> None:
        async with upstream(answering(answer)) as server, open_transport() as transport:
            await fetch(transport, server.url)
            clock.jump(after_s)
            await fetch(transport, server.url)
            assert len(server.visits) == connections

    trio.run(main, clock=clock)


def test_old_connections_go_when_others_come() -> None:
    """Also those to where nobody goes any more."""
    clock = trio.testing.MockClock()

    async def main() -> None:
        handler = answering(OK)
        async with upstream(handler) as old, upstream(handler) as new, open_transport() as own:
            await fetch(own, old.url)
            clock.jump(31)
            await fetch(own, new.url)
            assert idle(own) == 1
            await old.visits[0].gone.wait()

    trio.run(main, clock=clock)


def test_no_more_are_kept_than_are_wished() -> None:
    async def main() -> None:
        limits = HttpLimits(idle_max=2)
        async with upstream(answering(OK)) as server, open_transport(limits=limits) as transport:
            async with trio.open_nursery() as nursery:
                for _ in range(9):
                    nursery.start_soon(fetch, transport, server.url)
            assert idle(transport) == 2

    run(main)


def test_closing_closes_what_is_kept_at_once_and_what_is_in_use_later() -> None:
    async def main() -> None:
        async with upstream(answering(OK)) as server:
            transport, before = HttpTransport(), open_sockets()
            await fetch(transport, server.url)
            async with transport.send(HttpRequest(server.url)) as reply:
                await fetch(transport, server.url)
                await transport.aclose()
                assert await read(reply) == b"ok"
            assert idle(transport) == 0
            await until(lambda: all(visit.gone.is_set() for visit in server.visits))
            await until(lambda: open_sockets() == before)

    run(main)
