"""A route over real connections: what a provider does wrong, and a healthy one behind it."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from orchestra.answers import Completion
from orchestra.errors import ModelError, ModelsFailedError
from orchestra.policies.routing import Candidate, Route
from orchestra.protocols import Model, Timeouts
from orchestra.providers.network import HttpTransport
from orchestra.providers.remote import RemoteModel
from orchestra.providers.routing import RoutedModel
from orchestra.values import ChatRequest, Message, ModelEvent, Stopped, TextDelta
from tests.providers.upstream import (
    CHUNKED,
    Handler,
    Upstream,
    Visit,
    holds,
    open_sockets,
    openai_endpoint,
    run,
    sends,
    until,
    upstream,
)

ASKED = ChatRequest((Message("user", "why?"),))
EVENTS = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-type: text/event-stream\r\n\r\n")
ROLE = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
TEXT = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"Be"}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{"content":"cause"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
ERROR = b'data: {"error":{"message":"The server is overloaded","type":"server_error"}}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def status(line: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 " + line + b"\r\n" + headers + b"content-length: 2\r\n\r\n{}"


async def resets(visit: Visit) -> None:
    await visit.request()
    assert isinstance(visit.stream, trio.SocketStream)
    visit.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


HEALTHY = sends(EVENTS, chunk(ROLE), chunk(TEXT), chunk(END), b"0\r\n\r\n")
FAULTS = {
    "429": sends(status(b"429 Too Many Requests")),
    "429 with a wait": sends(status(b"429 Too Many Requests", b"retry-after: 30\r\n")),
    "500": sends(status(b"500 Internal Server Error")),
    "503": sends(status(b"503 Service Unavailable")),
    "401": sends(status(b"401 Unauthorized")),
    "reset": resets,
    "silent": holds(),
    "stalls before content": holds(EVENTS, chunk(ROLE)),
    "cut before content": sends(EVENTS, chunk(ROLE)),
    "an end without content": sends(EVENTS, chunk(ROLE), b"0\r\n\r\n"),
    "a 200 that turns into an error": sends(EVENTS, chunk(ROLE), chunk(ERROR), b"0\r\n\r\n"),
    "malformed": sends(EVENTS, chunk(ROLE), chunk(b"data: {not json\n\n"), b"0\r\n\r\n"),
    "not HTTP": sends(b"SSH-2.0-OpenSSH\r\n\r\n"),
}


def model(server: Upstream, transport: HttpTransport, wait_s: float = 20) -> Model:
    timeouts = Timeouts(first_byte_s=wait_s, idle_s=wait_s)
    return RemoteModel(openai_endpoint(server, timeouts=timeouts), transport)


@asynccontextmanager
async def routed(
    primary: Handler, fallback: Handler, wait_s: float = 20
) -> AsyncIterator[tuple[Model, list[Visit]]]:
    async with upstream(primary) as first, upstream(fallback) as second:
        transport = HttpTransport()
        try:
            models = {"a": model(first, transport, wait_s), "b": model(second, transport)}
            route = Route(name="r", candidates=(Candidate(name="a"), Candidate(name="b")))
            yield RoutedModel(route, models), first.visits
        finally:
            transport.close()


async def hear(asked: Model, into: list[ModelEvent]) -> None:
    async with asked.stream(ASKED) as reply:
        while batch := await reply.receive():
            into.extend(batch)


def text(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_before_the_first_content_is_not_seen(fault: str) -> None:
    """One whole answer, and no connection to the one that failed is left."""

    async def main() -> list[ModelEvent]:
        heard: list[ModelEvent] = []
        slow = fault in ("silent", "stalls before content")
        async with routed(FAULTS[fault], HEALTHY, 0.1 if slow else 20) as (asked, visits):
            await hear(asked, heard)
            if slow:
                await until(lambda: bool(visits))
                await visits[0].gone.wait()
        return heard

    before = open_sockets()
    heard = run(main)
    assert text(heard) == "Because"
    assert any(isinstance(event, Stopped) for event in heard)
    assert open_sockets() == before


@pytest.mark.parametrize("cut", [b"", chunk(ERROR), chunk(b"data: {not json\n\n")])
def test_a_fault_behind_it_is_told_and_nothing_is_spliced(cut: bytes) -> None:
    async def main() -> None:
        heard: list[ModelEvent] = []
        broken = sends(EVENTS, chunk(ROLE), chunk(TEXT), cut)
        async with routed(broken, HEALTHY) as (asked, _):
            with pytest.raises(ModelError) as caught:
                await hear(asked, heard)
        assert not isinstance(caught.value, ModelsFailedError)
        assert text(heard) == "Be"

    run(main)


def test_if_both_fail_both_are_told() -> None:
    async def main() -> ModelsFailedError:
        async with routed(FAULTS["503"], FAULTS["cut before content"]) as (asked, _):
            with pytest.raises(ModelsFailedError) as caught:
                await hear(asked, [])
        return caught.value

    error = run(main)
    assert "\n  a: OverloadedError: openai m: HTTP 503" in str(error)
    assert set(error.errors) == {"a", "b"}
    assert error.retryable


def test_a_whole_answer_falls_back_too() -> None:
    whole = (
        b'{"id":"1","model":"m","choices":[{"index":0,"message":{"content":"Because"},'
        b'"finish_reason":"stop"}]}'
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    cut = sends(head % len(whole), whole[:20])

    async def main() -> Completion:
        async with routed(cut, sends(head % len(whole), whole)) as (asked, _):
            return await asked.complete(ASKED)

    assert run(main).text == "Because"
