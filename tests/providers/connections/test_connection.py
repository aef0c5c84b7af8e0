"""Leaving an answer, and waiting for one: what becomes of the connection, and when."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncGenerator, Callable

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestra.errors import (
    MalformedStreamError,
    ModelConnectionError,
    ModelError,
    ModelTimeoutError,
)
from orchestra.protocols import HttpReply, HttpRequest, Timeouts
from orchestra.providers.connections.line import READ_BYTES
from orchestra.providers.network import HttpTransport, open_transport
from tests.patience import PATIENCE_S
from tests.providers.authority import Authority
from tests.providers.connections.test_bodies import PLACES, cut
from tests.providers.upstream import (
    CHUNKED,
    OK,
    Visit,
    answering,
    fetch,
    holds,
    least,
    open_sockets,
    read,
    run,
    streaming,
    until,
    upstream,
)

AT_ONCE_S = 0.05
NO_LIMIT = Timeouts(connect_s=None, first_byte_s=None, idle_s=None, total_s=None)


class OddError(Exception):
    """What a reader may raise."""


async def leave(transport: HttpTransport, url: str, scope: trio.CancelScope) -> None:
    async with transport.send(HttpRequest(url)) as reply:
        assert await reply.receive() == b"ab"


async def fail(transport: HttpTransport, url: str, scope: trio.CancelScope) -> None:
    async with transport.send(HttpRequest(url)) as reply:
        assert await reply.receive() == b"ab"
        raise OddError


async def cancelled(transport: HttpTransport, url: str, scope: trio.CancelScope) -> None:
    async with transport.send(HttpRequest(url)) as reply:
        assert await reply.receive() == b"ab"
        scope.cancel()
        await reply.receive()


@pytest.mark.parametrize("ask", [leave, fail, cancelled])
def test_leaving_early_closes_the_socket_at_once(ask: Callable[..., object]) -> None:
    async def main() -> float:
        async with upstream(streaming) as server, open_transport() as transport:
            before = open_sockets()
            with trio.CancelScope() as scope:
                try:
                    await ask(transport, server.url, scope)  # type: ignore[misc]
                except OddError:
                    assert ask is fail
            left_at = trio.current_time()
            # the server's end and ours were opened, and ours is closed before anything can run
            assert open_sockets() == before + 1
            await server.visits[0].gone.wait()
            return server.visits[0].gone_at - left_at

    assert least(main) < AT_ONCE_S


def test_a_cancelled_request_closes_its_socket_at_once() -> None:
    """While it waits for the answer's head: the server sees it within 50 ms."""

    async def main() -> float:
        async with upstream(holds()) as server, open_transport() as transport:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch, transport, server.url, NO_LIMIT)
                await until(lambda: bool(server.visits))
                await server.visits[0].asked.wait()
                nursery.cancel_scope.cancel()
            cancelled_at = trio.current_time()
            await server.visits[0].gone.wait()
            return server.visits[0].gone_at - cancelled_at

    assert least(main) < AT_ONCE_S


def test_who_is_cancelled_already_asks_nothing() -> None:
    """A request costs money: it is not sent for somebody who has gone."""
    asked: list[bytes] = []

    async def handle(visit: Visit) -> None:
        while True:
            asked.append(await visit.request())
            await visit.send(OK)

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            await fetch(transport, server.url)  # so that there is a connection
            with trio.CancelScope() as scope:
                scope.cancel()
                await fetch(transport, server.url)
            assert scope.cancelled_caught
            await server.visits[0].gone.wait()
            assert len(asked) == 1

    run(main)


def test_leaving_waits_for_nothing() -> None:
    """Not even where nobody can wait: when a suspended coroutine is thrown away."""

    async def asking(transport: HttpTransport, url: str) -> AsyncGenerator[bytes, None]:
        async with transport.send(HttpRequest(url)) as reply:
            yield await reply.receive()  # noqa: ASYNC119 - to be left suspended is its purpose

    async def main() -> None:
        async with upstream(streaming) as server, open_transport() as transport:
            generator = asking(transport, server.url)
            assert await anext(generator) == b"ab"
            with pytest.raises(StopIteration):
                generator.aclose().send(None)
            await server.visits[0].gone.wait()

    run(main)


def test_a_receive_that_is_cancelled_has_taken_nothing() -> None:
    """A reader may give up waiting, and wait again: no byte is lost in between."""
    go = trio.Event()

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED, b"1\r\na\r\n")
        await go.wait()
        await visit.send(b"1\r\nb\r\n", b"0\r\n\r\n")

    async def main() -> None:
        async with (
            upstream(handle) as server,
            open_transport() as transport,
            transport.send(HttpRequest(server.url)) as reply,
        ):
            assert await reply.receive() == b"a"
            with trio.move_on_after(0):
                await reply.receive()
            go.set()
            assert await read(reply) == b"b"

    run(main)


def test_what_comes_together_is_one_batch() -> None:
    """A thousand chunks of a stream that are there are one read, not a thousand."""
    sent = trio.Event()

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED)
        await visit.send(b"2\r\nab\r\n" * 1_000)
        sent.set()
        await visit.left()

    async def main() -> None:
        async with (
            upstream(handle) as server,
            open_transport() as transport,
            transport.send(HttpRequest(server.url)) as reply,
        ):
            await sent.wait()
            assert await reply.receive() == b"ab" * 1_000

    run(main)


@pytest.mark.parametrize("together", [False, True])
def test_an_end_that_has_come_is_known_without_a_wait(together: bool) -> None:
    """And before the last part was received, or the end came, it is not."""
    goes_on = trio.Event()

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED + b"2\r\nab\r\n" + (b"0\r\n\r\n" if together else b""))
        await goes_on.wait()
        await visit.send(b"0\r\n\r\n")

    async def main() -> None:
        async with (
            upstream(handle) as server,
            open_transport() as transport,
            transport.send(HttpRequest(server.url)) as reply,
        ):
            known = [reply.ended]
            assert await reply.receive() == b"ab"
            known.append(reply.ended)
            if together:
                with trio.CancelScope() as scope:
                    scope.cancel()
                    assert await reply.receive() == b""
                assert not scope.cancelled_caught
            goes_on.set()
            assert await reply.receive() == b""
            assert [*known, reply.ended] == [False, together, True]

    run(main)


def test_a_body_longer_than_a_read_comes_whole() -> None:
    """And other tasks run while it is read, though it is all there."""
    body = bytes(range(256)) * 20_000
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def main() -> None:
        raw = CHUNKED + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
        async with (
            upstream(answering(raw)) as server,
            open_transport() as transport,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(count)
            assert await fetch(transport, server.url) == body
            nursery.cancel_scope.cancel()
        assert turns > len(body) // 65_536

    run(main)


@pytest.mark.parametrize("closing", [False, True])
def test_a_refusal_before_the_request_is_read_is_still_an_answer(closing: bool) -> None:
    """A server that will not have so long a request says so, and closes, read or not."""
    refusal = b"HTTP/1.1 413 Too Long\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno"

    async def handle(visit: Visit) -> None:
        while b"\r\n\r\n" not in visit._buffer:
            await visit._more()
        await visit.send(refusal)
        if not closing:
            await visit.left()

    async def main() -> None:
        async with (
            upstream(handle) as server,
            open_transport() as transport,
            transport.send(HttpRequest(server.url, bytes(9_000_000))) as reply,
        ):
            assert reply.status == 413
            assert await read(reply) == b"no"

    run(main)


LONG = bytes(30_000_000)


@pytest.mark.parametrize("end", [b"connection: close\r\n", b""])
@pytest.mark.parametrize("secure", [False, True])
def test_a_refusal_is_seen_by_who_still_writes(
    end: bytes, secure: bool, authority: Authority
) -> None:
    """A server that reads no more, and does not close: nothing else ends the writing."""
    refusal = b"HTTP/1.1 413 Too Long\r\n" + end + b"content-length: 2\r\n\r\nno"

    async def handle(visit: Visit) -> None:
        if visit.number:
            await answering(OK)(visit)
        await visit._more()
        await visit.send(refusal)
        await trio.sleep_forever()

    async def main() -> None:
        async with (
            upstream(handle, tls=authority.loopback if secure else None) as server,
            open_transport(ca_file=authority.file) as transport,
        ):
            with trio.fail_after(PATIENCE_S):
                request = HttpRequest(server.url, LONG, timeouts=NO_LIMIT)
                async with transport.send(request) as reply:
                    assert (reply.status, await read(reply)) == (413, b"no")
                assert await fetch(transport, server.url) == b"ok"
            assert len(server.visits) == 2, "half a request has been sent over the first"

    run(main)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"]), PLACES)
@example(OK, [])  # what hangs hangs once
def test_a_whole_answer_is_seen_by_who_still_writes(raw: bytes, places: list[int]) -> None:
    """However it is cut: a server that has answered may read no more, and need not close."""
    parts = cut(raw, places)

    async def handle(visit: Visit) -> None:
        if visit.number:
            await answering(OK)(visit)
        await visit._more()
        await visit.send(*parts)
        await trio.sleep_forever()

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            with trio.fail_after(PATIENCE_S):
                request = HttpRequest(server.url, LONG, timeouts=NO_LIMIT)
                async with transport.send(request) as reply:
                    assert await read(reply) == b"ok"
                assert await fetch(transport, server.url) == b"ok"
            assert len(server.visits) == 2, "half a request has been sent over the first"

    run(main)


def test_an_answer_that_begins_before_the_request_is_read_does_not_end_it() -> None:
    """A refusal does, and one that is whole: else the server wants the rest."""
    got: list[int] = []

    async def handle(visit: Visit) -> None:
        await visit._more()
        await visit.send(CHUNKED, b"2\r\nab\r\n")
        await trio.testing.wait_all_tasks_blocked(0.001)
        got.append(len(await visit.request()))
        await visit.send(b"0\r\n\r\n")
        await visit.left()

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            async with transport.send(HttpRequest(server.url, LONG)) as reply:
                assert await read(reply) == b"ab"
            assert got[0] > len(LONG)

    run(main)


@pytest.mark.parametrize(
    ("raw", "error"),
    [(b"", ModelConnectionError), (b"no HTTP\r\n\r\n", MalformedStreamError)],
)
def test_what_breaks_while_the_request_is_written_is_an_error_by_itself(
    raw: bytes, error: type[ModelError]
) -> None:
    async def handle(visit: Visit) -> None:
        await visit._more()
        await visit.send(*([raw] if raw else []))
        if raw:
            await trio.sleep_forever()

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            with pytest.raises(error):
                await transport.send(HttpRequest(server.url, LONG)).__aenter__()

    run(main)


def test_a_request_that_is_not_read_is_bounded_and_may_be_cancelled() -> None:
    async def handle(visit: Visit) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            before = open_sockets()
            for timeouts in (Timeouts(first_byte_s=0.1), NO_LIMIT):
                asked = HttpRequest(server.url, LONG, timeouts=timeouts)
                with trio.move_on_after(0.3 if timeouts is NO_LIMIT else PATIENCE_S) as scope:
                    with pytest.raises(ModelTimeoutError, match="first_byte_s"):
                        await transport.send(asked).__aenter__()
                assert scope.cancelled_caught == (timeouts is NO_LIMIT)
            assert open_sockets() <= before + 2, "the server's own"

    run(main)


def test_after_an_error_there_is_nothing_more() -> None:
    """A connection whose bytes made no sense is closed, even if what follows looks like an end."""
    go, sent = trio.Event(), trio.Event()

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED)
        await go.wait()
        await visit.send(b"no chunk\r\n".ljust(READ_BYTES, b"."), b"0\r\n\r\n")
        sent.set()
        await visit.left()

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            async with transport.send(HttpRequest(server.url)) as reply:
                go.set()
                await sent.wait()
                with pytest.raises(MalformedStreamError, match="no chunk"):
                    await reply.receive()
                with pytest.raises(ModelConnectionError, match="cannot be read any further"):
                    await reply.receive()
            await server.visits[0].gone.wait()

    run(main)


def test_leaving_wakes_who_still_reads() -> None:
    """In another task: an error for him, and no waiting for ever."""

    async def main() -> None:
        async with upstream(streaming) as server, open_transport() as transport:

            async def late(reply: HttpReply) -> None:
                with pytest.raises(ModelConnectionError, match="cannot be read any further"):
                    await reply.receive()

            async with (
                trio.open_nursery() as nursery,
                transport.send(HttpRequest(server.url)) as reply,
            ):
                assert await reply.receive() == b"ab"
                nursery.start_soon(late, reply)  # noqa: ASYNC111 - this bug is what is looked at
                await trio.testing.wait_all_tasks_blocked()

    run(main)


def test_leaving_wakes_who_still_reads_also_where_the_connection_is_kept() -> None:
    """He would take the next answer, which is somebody else's."""

    async def main() -> None:
        async with upstream(streaming) as server, open_transport() as transport:

            async def late(reply: HttpReply) -> None:
                with pytest.raises(ModelConnectionError, match="cannot be read any further"):
                    await reply.receive()

            async with trio.open_nursery() as nursery:
                async with transport.send(HttpRequest(server.url)) as reply:
                    assert await reply.receive() == b"ab"
                    nursery.start_soon(late, reply)  # noqa: ASYNC111 - this bug is what is looked at
                    await trio.testing.wait_all_tasks_blocked()
                    stream = server.visits[0].stream
                    assert isinstance(stream, trio.SocketStream)
                    os.write(stream.socket.fileno(), b"0\r\n\r\n")
                (place,) = transport._pool._places.values()
                assert len(place.idle) == 1

    run(main)


@pytest.mark.parametrize("kept", [False, True])
def test_a_reply_that_was_left_takes_nothing_from_the_next(kept: bool) -> None:
    """Its connection may be somebody else's by now, whether another task still waits or not."""

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED, b"1\r\na\r\n" + (b"0\r\n\r\n" if kept else b""))
        await visit.request()
        await visit.send(OK)

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            async with transport.send(HttpRequest(server.url)) as reply:
                assert await reply.receive() == b"a"
            if kept:
                assert await reply.receive() == b""
                async with transport.send(HttpRequest(server.url)) as other:
                    assert await reply.receive() == b""
                    assert await other.receive() == b"ok"
                assert len(server.visits) == 1
            else:
                with pytest.raises(ModelConnectionError, match="cannot be read any further"):
                    await reply.receive()

    run(main)


def test_a_thousand_abandoned_streams_leave_nothing() -> None:
    """No task, no socket, no slot; whether they were left, cancelled or thrown away."""

    async def main() -> None:
        async with upstream(streaming) as server:
            gc.collect()
            sockets, tasks = open_sockets(), trio.lowlevel.current_statistics().tasks_living
            async with open_transport() as transport:
                for turn in range(1_000):
                    with trio.CancelScope() as scope:
                        await (cancelled if turn % 2 else leave)(transport, server.url, scope)
                await until(lambda: all(visit.gone.is_set() for visit in server.visits))
                await trio.testing.wait_all_tasks_blocked()
                gc.collect()
                assert open_sockets() == sockets
            await trio.testing.wait_all_tasks_blocked()
            assert trio.lowlevel.current_statistics().tasks_living == tasks
            assert len(server.visits) == 1_000

    run(main)
