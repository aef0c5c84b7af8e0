"""The tasks of the watch: few, however many limits there are, and none at the end."""

from __future__ import annotations

import socket
import threading
from queue import SimpleQueue

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import ModelTimeoutError
from orchestra.protocols import HttpRequest, Timeouts
from orchestra.providers.connections.http1 import outgoing
from orchestra.providers.connections.line import Line
from orchestra.providers.connections.pool import Pool
from orchestra.providers.connections.watch import LIMITS_MAX
from orchestra.providers.network import open_transport
from orchestra.providers.remote import RemoteModel
from orchestra.testing.contracts import check_model
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.providers.connections.test_watch import LIMIT_S, Watched
from tests.providers.upstream import (
    OK,
    Upstream,
    answering,
    fetch,
    holds,
    openai_endpoint,
    run,
    upstream,
)

PARTS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def test_readers_that_come_one_at_a_time_have_one_task() -> None:
    """It ends at the first check without readers, which the next reader after it does not notice."""

    async def main() -> None:
        before = tasks()
        here, there = socket.socketpair()
        with here, there:
            for _ in range(3):
                reader = Watched(Line(here))
                assert tasks() == before + 1
                reader.leave()
                reader.leave()
                await trio.sleep(LIMIT_S / 4)
                assert tasks() == before + 1
            await trio.sleep(2 * LIMIT_S)
            assert tasks() == before
            Watched(Line(there)).leave()
            assert tasks() == before + 1

    virtual(main, schedule=0)


@given(st.integers(1, 2 * LIMITS_MAX), st.integers(1, 30), schedules())
def test_limits_of_which_each_is_another_are_kept_by_few_tasks(
    count: int, different: int, schedule: int
) -> None:
    """However many requests there are at once: each ends at its own limit."""

    async def main() -> None:
        limits_s = [1 + each % different for each in range(count)]
        before, began_s = tasks(), trio.current_time()
        ended_s: list[tuple[int, float]] = []

        async def ask(limit_s: int) -> None:
            timeouts = Timeouts(first_byte_s=limit_s)
            with pytest.raises(ModelTimeoutError, match=f"within first_byte_s = {limit_s} "):
                await transport.ask(outgoing(HttpRequest(server.url, b"{}")), timeouts)
            ended_s.append((limit_s, trio.current_time() - began_s))

        async with upstream(holds()) as server:
            transport = Pool()
            served = tasks()
            async with trio.open_nursery() as nursery:
                for limit_s in limits_s:
                    nursery.start_soon(ask, limit_s)
                await trio.sleep(0.5)
                waiting = tasks() - served - 2 * len(limits_s)  # a client and a server for each
                assert waiting <= LIMITS_MAX
            assert ended_s == [(each, float(each)) for each in sorted(limits_s)]
            transport.close()
        await trio.testing.wait_all_tasks_blocked()
        assert tasks() == before

    virtual(main, schedule=schedule)


def test_requests_one_at_a_time_that_each_have_another_limit_do_not_pile_up_tasks() -> None:
    async def main() -> None:
        async with upstream(answering(OK)) as server, open_transport() as transport:
            before = tasks()
            for limit_s in range(100, 100 + 4 * LIMITS_MAX):
                timeouts = Timeouts(first_byte_s=limit_s)
                assert await fetch(transport, server.url, timeouts) == b"ok"
                assert tasks() <= before + LIMITS_MAX + 1  # and one for the connection

    run(main)


def test_a_transport_that_closes_ends_the_tasks_that_watch_nothing() -> None:
    async def main() -> None:
        before = tasks()

        async def left() -> int:
            async with open_transport():
                pass
            await trio.testing.wait_all_tasks_blocked()
            return tasks() - before

        here, there = socket.socketpair()
        with here, there:
            reader = Watched(Line(here))
            assert await left() == 1
            reader.leave()
            assert await left() == 0

    trio.run(main)


def test_a_model_over_a_transport_that_stays_open_keeps_its_contract() -> None:
    """The task that watches its connections is not one that the model has left behind."""
    found, leave = SimpleQueue[Upstream](), threading.Event()
    head = STREAM + b"content-length: %d\r\n\r\n" % len(PARTS)

    async def serve() -> None:
        async with upstream(answering(head, PARTS)) as server:
            found.put(server)
            await trio.to_thread.run_sync(leave.wait)

    async def main() -> None:
        async with open_transport(proxies={}) as transport:
            await check_model(RemoteModel(openai_endpoint(found.get()), transport))

    thread = threading.Thread(target=trio.run, args=(serve,))  # whose tasks are not the model's
    thread.start()
    try:
        run(main)
    finally:
        leave.set()
        thread.join()
