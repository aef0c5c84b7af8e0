"""Streamed bodies: what the client reads is what h11 would have written, and nothing of it waits."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.server.connections.bodies import UNBROKEN_MAX, body_of, forget_heads, on_departure
from orchestra.server.connections.hardening import Mailbox
from orchestra.server.settings import Settings
from tests.patience import PATIENCE_S
from tests.server.wire import House, open_house

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

START: Any = {"type": "http.response.start", "status": 200, "headers": []}
END: Any = {"type": "http.response.body", "body": b"", "more_body": False}
LARGE = b"x" * 300_000


def saying(
    chunks: Sequence[bytes], *, long_way: bool = False, over: trio.Event | None = None
) -> ASGIFramework:
    """An application that says these, one after another; `over` is set then."""

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await send(START)
        body = body_of({} if long_way else scope, send)
        for chunk in chunks:
            await body(chunk)
        await send(END)
        if over is not None:
            over.set()

    return app


async def said(chunks: Sequence[bytes], request: str, *, long_way: bool) -> bytes:
    """All that comes to one who asks, on a server that stops behind its answer."""
    over = trio.Event()

    async def shut(house: House) -> None:
        await over.wait()
        house.server.shut()

    async with (
        open_house(saying(chunks, long_way=long_way, over=over), Settings()) as house,
        trio.open_nursery() as nursery,
    ):
        client = await house.connect()
        nursery.start_soon(shut, house)
        await client.send(request)
        return await client.rest()  # noqa: ASYNC121 - nothing is left in it


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from([b"", b"a", b"\r\n", b"0\r\n\r\n", b"ab" * 40, LARGE]), max_size=20),
    st.sampled_from(["GET / HTTP/1.1", "HEAD / HTTP/1.1", "GET / HTTP/1.0"]),
)
def test_what_the_client_reads_is_what_the_long_way_would_have_written(
    chunks: list[bytes], request: str
) -> None:
    """Chunks that are empty, that look like an end, and answers that have no chunks, or no body."""

    async def main() -> tuple[bytes, bytes]:
        return await said(chunks, request, long_way=False), await said(
            chunks, request, long_way=True
        )

    short, long = trio.run(main)
    assert _undated(short) == _undated(long)


def test_a_stream_that_was_written_so_keeps_its_connection() -> None:
    async def main() -> None:
        async with open_house(saying([b"a", b"b" * 100]), Settings()) as house:
            client = await house.connect()
            for _ in range(3):
                assert (await client.ask("GET / HTTP/1.1")).body == b"a" + b"b" * 100

    trio.run(main)


def test_a_client_that_reads_late_holds_the_writer_back_and_gets_every_byte() -> None:
    written = 0

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        nonlocal written
        await send(START)
        body = body_of(scope, send)
        for _ in range(50):
            await body(LARGE)
            written += 1
        await send(END)

    async def main() -> int:
        async with open_house(app, Settings()) as house:
            client = await house.connect()
            await client.send("GET / HTTP/1.1")
            await client.head()
            await trio.testing.wait_all_tasks_blocked(0.05)
            before = written
            read = 0
            while chunk := await client.chunk():
                whole = chunk == LARGE  # pytest would compare the bytes for a minute
                assert whole
                read += 1
            assert read == 50
            return before

    assert trio.run(main) < 50


def test_a_writer_that_never_waits_lets_the_others_run() -> None:
    turns = 0

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        await send(START)
        body = body_of(scope, send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(10 * UNBROKEN_MAX):
                await body(b"x")
            nursery.cancel_scope.cancel()
        await send(END)

    async def main() -> bytes:
        async with open_house(app, Settings()) as house:
            return (await (await house.connect()).ask("GET / HTTP/1.1")).body

    assert trio.run(main) == b"x" * 10 * UNBROKEN_MAX
    assert turns >= 9


@pytest.mark.parametrize("size", [10, len(LARGE)])
def test_a_writer_whose_client_has_left_is_not_held_up(size: int) -> None:
    gone, went_on = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await send(START)
        body = body_of(scope, send)
        await body(b"begun")
        await gone.wait()
        with suppress(trio.BrokenResourceError):
            for _ in range(100):
                await body(b"x" * size)
        went_on.set()

    async def main() -> None:
        async with open_house(app, Settings()) as house:
            client = await house.connect()
            await client.send("GET / HTTP/1.1")
            await client.until(b"begun")
            client.stream.socket.close()
            gone.set()
            with trio.fail_after(PATIENCE_S):
                await went_on.wait()

    trio.run(main)


@pytest.mark.parametrize("by", ["leaving", "ending"])
def test_the_end_of_an_exchange_is_told_once_and_to_no_other_request(by: str) -> None:
    told: list[str] = []
    begun, ended = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        def departed() -> None:
            told.append(str(scope.get("path")))
            ended.set()

        await receive()
        assert not on_departure({**scope}, departed), "that is another request's"
        assert on_departure(scope, departed)
        await send(START)
        if by == "ending":
            await send(END)
        else:
            await body_of(scope, send)(b"begun")
            begun.set()
            await ended.wait()
        assert not on_departure(scope, departed), "it is over"

    async def main() -> None:
        async with open_house(app, Settings()) as house:
            client = await house.connect()
            await client.send("GET /one HTTP/1.1")
            if by == "leaving":
                await begun.wait()
                client.stream.socket.close()
            with trio.fail_after(PATIENCE_S):
                await ended.wait()

    trio.run(main)
    assert told == ["/one"]


def test_a_stream_holds_neither_head_and_ends_as_any_other() -> None:
    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await send(cast("Any", {**START, "headers": [(b"x-kind", b"stream")]}))
        forget_heads(scope)
        assert cast("Any", scope)["headers"] == []
        await body_of(scope, send)(b"said")
        await send(END)

    async def main() -> None:
        async with open_house(app, Settings()) as house:
            client = await house.connect()
            for _ in range(2):
                reply = await client.ask("GET / HTTP/1.1")
                assert (reply.headers["x-kind"], reply.body) == ("stream", b"said")

    trio.run(main)


def test_whoever_asks_a_mailbox_that_has_retired_hears_of_a_departure() -> None:
    async def main() -> None:
        mailbox = Mailbox(2)
        await mailbox.put({"type": "http.request", "body": b"", "more_body": False})
        assert (await mailbox.receive())["type"] == "http.request"
        mailbox.retire()
        for _ in range(2):
            assert await mailbox.receive() == {"type": "http.disconnect"}

    trio.run(main)


def _undated(answer: bytes) -> bytes:
    """The answer without the line that tells its time."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:")]
    return b"\r\n".join(lines) + blank + body
