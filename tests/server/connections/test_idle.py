"""The limit of idle connections: one task closes each when a deadline of its own would have."""

from __future__ import annotations

import os
import socket
from math import inf
from typing import Any, cast

import trio
import trio.testing
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from hypothesis import given
from hypothesis import strategies as st

from orchestra.server.connections.idle import Idle, IdleTimer
from orchestra.server.connections.listen import HttpServer
from orchestra.server.settings import Settings
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual

PATIENCE_S = 4.0
Story = list[tuple[float, float]]
"""How long a connection is busy, and then idle, again and again."""

stories: st.SearchStrategy[list[Story]] = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.5, 3.0, 9.0]), st.sampled_from([0.0, 1.0, 3.5, 4.5, 9.0])
        ),
        max_size=4,
    ),
    min_size=1,
    max_size=4,
)


def closed_at(story: Story) -> float | None:
    """When a connection with this story is closed; None if it never is."""
    now_s = 0.0
    for busy_s, idle_s in story:
        now_s += busy_s
        if idle_s > PATIENCE_S:
            return now_s + PATIENCE_S
        now_s += idle_s
    return None


async def seen(stories: list[Story]) -> list[float | None]:
    """When each connection was closed."""
    found: list[float | None] = [None] * len(stories)
    began_s, idle = trio.current_time(), Idle(PATIENCE_S)

    async def live(number: int, story: Story) -> None:
        timer = IdleTimer(idle)
        with timer.scope:
            for busy_s, idle_s in story:
                # a second `restart` starts the limit anew, as `stop` and `restart` do
                await (timer.restart() if busy_s < PATIENCE_S else timer.stop())
                await trio.sleep(busy_s)
                await timer.restart()
                assert timer.ends_at == trio.current_time() + PATIENCE_S
                await trio.sleep(idle_s)
        timer.end()
        assert timer.ends_at == inf
        if timer.scope.cancelled_caught:
            found[number] = trio.current_time() - began_s

    async with trio.open_nursery() as watching:
        watching.start_soon(idle.watch)
        async with trio.open_nursery() as connections:
            for number, story in enumerate(stories):
                connections.start_soon(live, number, story)
        assert not idle.until_s
        watching.cancel_scope.cancel()
    return found


@given(stories, schedules())
def test_an_idle_connection_is_closed_as_by_a_deadline_of_its_own(
    stories: list[Story], schedule: int
) -> None:
    assert virtual(lambda: seen(stories), schedule=schedule) == list(map(closed_at, stories))


def test_a_server_without_idle_connections_sets_no_timer() -> None:
    """So a simulated server that hangs is found at once, not after a hundred thousand timers."""

    async def main() -> None:
        idle = Idle(PATIENCE_S)
        timer = IdleTimer(idle)
        async with trio.open_nursery() as watching:
            watching.start_soon(idle.watch)
            await timer.restart()
            await timer.stop()
            await trio.sleep(PATIENCE_S + 1)
            assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf
            watching.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def hello(_scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Answer each request after a second, unless the client leaves."""
    with trio.move_on_after(1):
        while True:
            if (await receive())["type"] == "http.disconnect":
                return
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    await send(cast("Any", head))
    await send(cast("Any", {"type": "http.response.body", "body": b"ok", "more_body": False}))


@given(schedules())
def test_a_request_that_comes_before_its_connection_is_closed_is_answered(schedule: int) -> None:
    """As where a step does not let others run: the limit passes meanwhile, and requests come."""

    async def main() -> bytes:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        server, listener = HttpServer(hello, Settings(keep_alive_s=PATIENCE_S)), socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listener)
            async with await trio.open_tcp_stream(*listener.getsockname()) as client:
                await trio.testing.wait_all_tasks_blocked()
                os.write(client.socket.fileno(), b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                clock.jump(PATIENCE_S)
                answer = bytes(await client.receive_some())
            nursery.cancel_scope.cancel()
        return answer

    assert virtual(main, schedule=schedule).startswith(b"HTTP/1.1 200 ")
