"""What a connection reads is its own, and what it writes of a head waits for the body."""

from __future__ import annotations

import os
import socket
from typing import Any, cast

import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from orchestra.server.connections.idle import Idle, IdleTimer
from orchestra.server.connections.listen import Connection, head_held
from orchestra.server.settings import Settings
from tests.server.socketing import Stage, on_stage, running
from tests.server.wire import open_house


def test_a_connection_that_was_closed_in_the_moment_it_was_readable_reads_nobody_elses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next client is given the number of the socket that was closed."""
    wait_readable = trio.lowlevel.wait_readable

    async def main() -> None:
        near, far = socket.socketpair()
        others, client = socket.socketpair()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        timer = IdleTimer(Idle(7.0))
        connection = Connection(None, Config(), None, None, stream, timer=timer, stall_s=1.0)
        descriptor = stream.socket.fileno()

        async def wait_until_it_is_anothers(readable: int) -> None:
            await wait_readable(readable)
            stream.socket.close()
            os.dup2(others.fileno(), readable)

        monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_until_it_is_anothers)
        with far, others, client:
            far.send(b"mine")
            client.send(b"not yours")
            with pytest.raises(trio.ClosedResourceError):
                await connection._read()
            assert os.read(descriptor, 100) == b"not yours"
            os.close(descriptor)

    trio.run(main)


START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
END = {"type": "http.response.body", "body": b"said", "more_body": False}


def test_a_head_that_is_held_goes_with_its_body() -> None:
    """Nothing of it has been written before."""
    held, asked = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        with head_held(scope):
            await send(cast("Any", START))
        held.set()
        await asked.wait()
        await send(cast("Any", END))

    async def main() -> None:
        async with open_house(app, Settings()) as house:
            client = await house.connect()
            await client.send("GET / HTTP/1.1")
            await held.wait()
            with pytest.raises(BlockingIOError):
                os.read(client.stream.socket.fileno(), 1)
            asked.set()
            assert (await client.reply()).body == b"said"

    trio.run(main)


def test_a_head_that_is_held_is_written_where_nothing_comes_behind_it() -> None:
    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        with head_held(scope):
            await send(cast("Any", START))

    async def main() -> bytes:
        async with open_house(app, Settings()) as house:
            client = await house.connect()
            await client.send("GET / HTTP/1.1")
            return await client.rest()

    assert trio.run(main).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("leaves", [True, False])
def test_whoever_sent_another_request_before_they_left_holds_no_place(leaves: bool) -> None:
    """Nobody reads from them then: the next request waits for the end of the response, which is
    not written any more, also of a client that stays and takes nothing."""

    async def test(stage: Stage) -> None:
        client = await stage.house.connect()
        await client.send("GET /v1/pipelines/endless/runs HTTP/1.1\nAccept: text/event-stream")
        await client.head()
        await client.send("GET /healthz HTTP/1.1")
        await trio.testing.wait_all_tasks_blocked(0.01)
        if leaves:
            client.stream.socket.close()
        while stage.house.server.connections or stage.engine.runs:
            await trio.lowlevel.checkpoint()

    on_stage(test, Settings(stall_s=0.1))


@pytest.mark.parametrize(("stays", "more"), [(True, False), (False, False), (False, True)])
def test_whoever_leaves_behind_another_request_is_heard(stays: bool, more: bool) -> None:
    """Also while nothing is written, as until a whole answer is there: its run would go on.

    And also behind `more` than is read meanwhile.
    """

    async def test(stage: Stage) -> None:
        client = await stage.house.connect()
        await client.send("GET /v1/pipelines/count/runs?count=1&hold=true HTTP/1.1")
        (run,) = await running(stage.engine, 1)
        await client.send("GET /healthz HTTP/1.1")
        await trio.testing.wait_all_tasks_blocked(0.01)
        if stays:
            await client.send("GET /livez HTTP/1.1")
            await trio.testing.wait_all_tasks_blocked(0.01)
            run.cancel("as somebody asked for it")
            assert [(await client.reply()).status for _ in range(3)] == [503, 200, 404]
        elif more:
            await client.send("GET /livez HTTP/1.1")
        client.stream.socket.close()
        with trio.fail_after(10):
            while stage.house.server.connections or stage.engine.runs:
                await trio.lowlevel.checkpoint()

    on_stage(test)
