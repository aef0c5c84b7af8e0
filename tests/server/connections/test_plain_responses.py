"""Whole answers, and heads: what the client reads is what Hypercorn and h11 would have written."""

from __future__ import annotations

import re
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import h11
import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestra.server.connections import plain_responses
from orchestra.server.connections.bodies import CONNECTION
from orchestra.server.connections.listen import head_held
from orchestra.server.settings import Settings
from tests.server.wire import open_house

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope


DATE = re.compile(rb"date: [^\r]*\r\n")


@attrs.frozen
class Told:
    """What an application says: its status, headers and body, in so many messages."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = attrs.field(repr=lambda body: str(len(body)))
    length: bytes | None
    messages: int = 1
    held: bool = True
    """Whether its head waits for the body, as that of a whole answer does."""

    @property
    def head(self) -> Any:
        lengths = [] if self.length is None else [(b"content-length", self.length)]
        return {
            "type": "http.response.start",
            "status": self.status,
            "headers": [*self.headers, *lengths],
        }


BODIES = st.sampled_from([b"", b"{}", b"0\r\n\r\n", b"x" * 70_000])
NAMES = st.sampled_from([b"x-a", b"content-type", b"set-cookie"]) | st.sampled_from(
    [b"connection", b"transfer-encoding", b"X-B", b"x b", b"host", b"upgrade"]
)
VALUES = st.sampled_from([b"a", b"a b", b"a\r\nb: c", b"a\nb: c"]) | st.sampled_from(
    [b" a ", b"", b"close", b"chunked", b"\xe4"]
)
PLAIN = st.booleans() | st.just(True)


@st.composite
def answers(draw: st.DrawFn) -> Told:
    body = draw(BODIES)
    length = b"%d" % len(body)
    return Told(
        200 if draw(PLAIN) else draw(st.sampled_from([204, 304, 404, 500, 503])),
        draw(st.lists(st.tuples(NAMES, VALUES), max_size=2)),
        body,
        length if draw(PLAIN) else draw(st.sampled_from([None, b"3"])),
        1 if draw(PLAIN) else 2,
        draw(st.booleans()),
    )


GOING_ON = st.sampled_from(
    [
        "GET / HTTP/1.1",
        "HEAD / HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET / HTTP/1.1\nConnection: upgrade\nUpgrade: other",
        "POST / HTTP/1.1\nContent-Length: 3",
        "POST / HTTP/1.1\nExpect: 100-continue\nContent-Length: 3",
    ]
)
ENDING = st.sampled_from(["GET / HTTP/1.0", "GET / HTTP/1.1\nConnection: close"])
REQUESTS = st.tuples(st.lists(GOING_ON, max_size=2), GOING_ON | ENDING).map(
    lambda drawn: [*drawn[0], drawn[1]]
)
"""Of one connection; nothing is sent behind one that ends it."""


def telling(told: Told) -> ASGIFramework:
    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        with head_held(scope) if told.held else nullcontext():
            await send(told.head)
        for each in range(told.messages):
            last = each == told.messages - 1
            body = told.body if each == 0 else b""
            await send({"type": "http.response.body", "body": body, "more_body": not last})

    return app


@attrs.define
class Wire:
    """A connection without a socket: what was written, and whether it was closed behind it."""

    holds: bool = False
    written: bytearray = attrs.field(factory=bytearray)
    closed: bool = False

    async def send(self, event: Event) -> None:
        if isinstance(event, RawData) and not self.closed:
            self.written += event.data
        self.closed = self.closed or isinstance(event, Closed)


@attrs.define
class Tasks:
    """In place of Hypercorn's group of tasks; what an application raises, it is told there."""

    told: Told
    nursery: trio.Nursery

    async def spawn_app(self, app: object, config: object, scope: Any, send: Any) -> Any:
        async def run() -> None:
            with suppress(h11.LocalProtocolError):
                await telling(self.told)(scope, nothing, send)
            await send(None)

        self.nursery.start_soon(run)
        return nothing


async def nothing(*_: object) -> Any:
    """Hear nothing, and say nothing."""


async def said(told: Told, requests: list[str]) -> tuple[bytes, bool]:
    """All that comes to one who sends these at once, and whether the connection is then closed."""
    lines = [request.replace("\n", "\r\n") + "\r\nHost: test\r\n\r\n" for request in requests]
    data = "".join(line + ("abc" if line.startswith("POST") else "") for line in lines)
    wire, config = Wire(), Config()
    async with trio.open_nursery() as nursery:
        tasks: Any = Tasks(told, nursery)
        state = ConnectionState({CONNECTION: wire})
        protocol = H11Protocol(
            nothing,  # type: ignore[arg-type]
            config,
            WorkerContext(None),
            tasks,
            state,
            False,
            None,
            None,
            wire.send,
        )
        nursery.start_soon(protocol.handle, RawData(data.encode()))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return DATE.sub(b"", bytes(wire.written)), wire.closed


@settings(max_examples=500)
@given(answers(), REQUESTS)
@example(Told(200, [], b"{}", b"2"), ["GET / HTTP/1.1\nConnection: close"])
@example(Told(200, [], b"{}", None, 2, held=False), ["GET / HTTP/1.1", "HEAD / HTTP/1.1"])
def test_what_the_client_reads_is_what_the_long_way_would_have_written(
    told: Told, requests: list[str]
) -> None:
    """Whatever the answer, however it was asked for, and whatever is asked behind it."""
    before = HTTPStream.app_send
    found = []
    try:
        for way in (plain_responses._STOCK_APP_SEND, plain_responses.app_send):
            HTTPStream.app_send = way  # type: ignore[method-assign]
            found.append(trio.run(said, told, requests))
    finally:
        HTTPStream.app_send = before  # type: ignore[method-assign]
    assert found[1] == found[0]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The whole answers, and the heads and ends of streams, that were written at once."""
    found: list[bytes] = []

    def noted(stock: Callable[..., bytes | None], *asked: object) -> bytes | None:
        data = stock(*asked)
        found.extend([] if data is None else [data])
        return data

    for name in ("_plain", "_plain_head", "_plain_end"):
        monkeypatch.setattr(plain_responses, name, partial(noted, getattr(plain_responses, name)))
    monkeypatch.setattr(HTTPStream, "app_send", plain_responses.app_send)
    return found


@pytest.mark.parametrize(
    ("plain", "writes"),
    [
        (Told(200, [(b"content-type", b"application/json")], b"{}", b"2"), 1),
        (Told(200, [(b"content-type", b"text/event-stream")], b"{}", None, 2, held=False), 2),
    ],
    ids=["whole", "streamed"],
)
def test_a_plain_answer_is_written_at_once_and_its_connection_goes_on(
    plain: Told, writes: int, written: list[bytes]
) -> None:
    """Without this, the law would hold of what always goes the long way."""

    async def main() -> None:
        async with open_house(telling(plain), Settings()) as house:
            client = await house.connect()
            for _ in range(3):
                assert (await client.ask("GET / HTTP/1.1")).body == b"{}"
                assert (await client.ask("POST / HTTP/1.1", b"abc")).body == b"{}"

    trio.run(main)
    assert len(written) == 6 * writes
