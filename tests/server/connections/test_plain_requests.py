"""Requests that have come whole: an application is told what Hypercorn and h11 would have told it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestra.server.connections import plain_requests
from orchestra.server.settings import Settings
from tests.server.wire import open_house

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

STARTS = st.sampled_from(
    [
        *(b"POST /v1/a?b=%2F HTTP/1.1", b"GET / HTTP/1.1", b"OPTIONS * HTTP/1.1"),
        *(b"HEAD / HTTP/1.1", b"post / HTTP/1.1", b"GET http://host/ HTTP/1.1"),
        *(b"GET / HTTP/1.0", b"GET / HTTP/2.0", b"GET /\xe9 HTTP/1.1", b"GET  / HTTP/1.1"),
        *(b"CONNECT host:1 HTTP/1.1", b"\r\nGET / HTTP/1.1", b"GET / HTTP/1.1 "),
    ]
)
FIELDS = st.sampled_from(
    [
        *(b"Host: test", b"host:test\t", b"x: a", b"X:  a, b ", b"x:", b"cookie: a=b; c=d"),
        *(b"Content-Length: 3", b"content-length: 0", b"content-length: 03", b"content-length: 9"),
        *(b"content-length: 3, 3", b"content-length: +3", b"transfer-encoding: chunked"),
        *(b"connection: keep-alive", b"Connection: Close", b"connection: keep-alive, upgrade"),
        *(b"upgrade: x", b"upgrade: websocket", b"expect: 100-continue", b"trailer: x"),
        *(b"x : a", b" folded", b": a", b"x", b"x: \xe9", b"x: a\x0bb", b"x: a\rb", b"\xe9: a"),
    ]
)
PLAIN_FIELDS = st.sampled_from([[b"Host: a", b"Content-Length: 3"], [b"host: a"]])
BODIES = st.sampled_from([b"", b"abc", b"abcd", b"ab", b"3\r\nabc\r\n0\r\n\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, or something like one."""
    fields = draw(PLAIN_FIELDS | st.just([])) + draw(st.lists(FIELDS, max_size=3))
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b""]))
    head = b"".join(line + b"\r\n" for line in [draw(STARTS), *fields])
    return head + end + draw(BODIES)


@attrs.define
class Seen:
    """What a connection has told and written, and in what state it is."""

    scopes: list[Any] = attrs.field(factory=list)
    body: bytes = b""
    ended: bool = False
    written: bytes = b""
    closed: bool = False
    idle: list[bool] = attrs.field(factory=list)
    state: Any = None

    async def send(self, event: Event) -> None:
        if isinstance(event, RawData):
            self.written += event.data
        self.closed = self.closed or isinstance(event, Closed)
        if isinstance(event, Updated):
            self.idle.append(event.idle)

    async def spawn_app(self, app: object, config: object, scope: Any, send: Any) -> Any:
        self.scopes.append(scope)
        return self.put

    async def put(self, message: Any) -> None:
        assert not self.ended
        self.body += message.get("body", b"")
        self.ended = not message.get("more_body", False)


async def read(handle: Callable[[H11Protocol, Event], Awaitable[None]], data: bytes) -> Seen:
    """What becomes of these bytes, all in one read."""
    seen: Any = Seen()
    config, context, state = Config(), WorkerContext(None), ConnectionState({})
    config.include_date_header = False
    protocol = H11Protocol(seen, config, context, seen, state, False, None, None, seen.send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle, protocol, RawData(data))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    connection: Any = protocol.connection
    known = dict(vars(getattr(connection, "h11_connection", connection)))
    states, buffer = known.pop("_cstate"), known.pop("_receive_buffer")
    ways = [known.pop(each) for each in ("_reader", "_writer")]
    kinds = [getattr(way, "__name__", type(way)) for way in ways]  # functions, or objects
    # A copy: Python 3.13.0 may empty what only the dict of an object in a cycle still holds.
    cycle = {**vars(states), "states": dict(states.states)}
    seen.state = known, cycle, bytes(buffer), kinds, protocol.keep_alive_requests
    return seen  # type: ignore[no-any-return]


@settings(max_examples=500)
@given(requests())
@example(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc")
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabc")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 3\r\n\r\nabc")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n")
@example(b"CONNECT host:1 HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n\r\n")
def test_an_application_is_told_what_the_long_way_would_have_told_it(data: bytes) -> None:
    """Whatever came; and h11 is in the same state."""
    assert trio.run(read, plain_requests.handle, data) == trio.run(
        read, plain_requests._STOCK_HANDLE, data
    )


@attrs.define
class Answering(Seen):
    """As `Seen`, with an application that answers each request, at once or a little later."""

    later: bool = False
    nursery: Any = attrs.field(init=False, default=None, eq=False)

    async def spawn_app(self, app: object, config: object, scope: Any, send: Any) -> Any:
        self.scopes.append(scope)

        async def put(message: Any) -> None:
            self.body += message.get("body", b"|")
            if not message.get("more_body", True):
                self.nursery.start_soon(self.answer, send)

        return put

    async def answer(self, send: ASGISendCallable) -> None:
        if self.later:
            await trio.testing.wait_all_tasks_blocked()
        await echoed(b"ok", send, 404)  # no CONNECT is granted


async def heard(
    handle: Callable[[H11Protocol, Event], Awaitable[None]], reads: list[bytes], *, later: bool
) -> Answering:
    """What becomes of these reads, one after the other, where each request is answered."""
    seen: Any = Answering(later=later)
    config, context, state = Config(), WorkerContext(None), ConnectionState({})
    config.include_date_header, config.keep_alive_max_requests = False, 2
    config.server_names = ["a"]  # others are answered by Hypercorn
    protocol = H11Protocol(seen, config, context, seen, state, False, None, None, seen.send)

    async def feed() -> None:
        for data in reads:
            await handle(protocol, RawData(data))
            if not later:
                await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as seen.nursery:
        seen.nursery.start_soon(feed)
        for _ in range(2 * len(reads) + 2):
            await trio.testing.wait_all_tasks_blocked()
        seen.nursery.cancel_scope.cancel()
    connection: Any = getattr(protocol.connection, "h11_connection", protocol.connection)
    seen.state = connection.states, connection.trailing_data, protocol.keep_alive_requests
    return seen  # type: ignore[no-any-return]


PLAIN = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ]
)


@st.composite
def several(draw: st.DrawFn) -> list[bytes]:
    """The reads of a connection with some requests: one each, all in one, or cut anywhere."""
    sent = draw(st.lists(PLAIN | PLAIN | requests(), min_size=1, max_size=4))
    if draw(st.booleans()):
        return sent
    data = b"".join(sent)
    cuts = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=3)))
    return [data[begin:end] for begin, end in pairwise([0, *cuts, len(data)])]


@settings(max_examples=200)
@given(reads=several(), later=st.booleans())
@example(reads=[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] * 4, later=False)
@example(reads=[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] * 4, later=True)
def test_a_connection_goes_on_as_it_would_have_the_long_way(
    reads: list[bytes], later: bool
) -> None:
    """Requests behind each other, in one read, in several, and before the last is answered."""
    quick = trio.run(partial(heard, plain_requests.handle, reads, later=later))
    assert quick == trio.run(partial(heard, plain_requests._STOCK_HANDLE, reads, later=later))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[plain_requests.Plain | None]:
    """What became of each read: the request, where it was taken at once."""
    found: list[plain_requests.Plain | None] = []

    def take(protocol: H11Protocol, data: bytes) -> plain_requests.Plain | None:
        found.append(stock(protocol, data))
        return found[-1]

    stock = plain_requests._taken
    monkeypatch.setattr(plain_requests, "_taken", take)
    monkeypatch.setattr(H11Protocol, "handle", plain_requests.handle)
    return found


async def echo(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    message: Any = await receive()
    await echoed(message["body"], send)


async def echoed(body: bytes, send: ASGISendCallable, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send(
        {"type": "http.response.start", "status": status, "headers": headers, "trailers": False}
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def test_plain_requests_are_taken_at_once_and_their_connection_goes_on(
    taken: list[plain_requests.Plain | None],
) -> None:
    """Without this, the law would hold of what always goes the long way."""

    async def main() -> None:
        async with open_house(echo, Settings()) as house:
            client = await house.connect()
            for _ in range(3):
                assert (await client.ask("GET / HTTP/1.1")).body == b""
                assert (await client.ask("POST / HTTP/1.1", b"abc")).body == b"abc"

    trio.run(main)
    assert len(taken) == 6
    assert all(taken)
