"""The watch: a read that takes too long ends when a scope around it would have ended it."""

from __future__ import annotations

import gc
import math
import os
import socket
import struct
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import ModelConnectionError, ModelTimeoutError
from orchestra.protocols import HttpRequest, Timeouts, Transport
from orchestra.providers.connections.line import READ_BYTES, Line
from orchestra.providers.connections.watch import Wait, Watch
from orchestra.providers.network import open_transport
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.providers.upstream import CHUNKED, Visit, run, upstream

LIMIT_S = 4.0
Story = tuple[float, list[tuple[float, float]]]
"""When a reader comes; and of each read, after how long a byte comes, and what time is then spent."""

waits = st.sampled_from(
    [0.0, 0.5, 1.0, 3.5, 4.5, 9.0]
)  # never just the limit: then either is right
works = st.sampled_from([0.0, 0.5, 3.0, 4.0, 13.0])
stories: st.SearchStrategy[list[Story]] = st.lists(
    st.tuples(works, st.lists(st.tuples(waits, works), max_size=4)), min_size=1, max_size=4
)


class Scoped:
    """Reads with a scope around each: what the watch has to come to."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def read(self) -> bool:
        """Whether a byte came in time."""
        with trio.move_on_after(LIMIT_S):
            await self._line.receive()
            return True
        return False

    def leave(self) -> None:
        """Do nothing."""


class Watched:
    """Reads that the watch looks at."""

    def __init__(self, line: Line) -> None:
        wait = Watch.over(line, LIMIT_S)
        assert wait is not None
        self._wait = wait

    async def read(self) -> bool:
        """Whether a byte came in time."""
        assert self._wait.begin(math.inf)
        try:
            await self._wait.line.receive()
        except trio.ClosedResourceError:
            assert self._wait.late
            return False
        finally:
            self._wait.since_s = math.inf
        return True

    def leave(self) -> None:
        """Be watched no more."""
        self._wait.leave()


async def told(
    stories: list[Story], kind: type[Scoped | Watched]
) -> list[list[tuple[float, bool]]]:
    """Of each reader, when each of its reads ended, and whether in time."""
    found: list[list[tuple[float, bool]]] = [[] for _ in stories]
    began_s = trio.current_time()

    async def write(after_s: float, end: socket.socket) -> None:
        await trio.sleep(after_s)
        with suppress(OSError):
            end.send(b"x")

    async def read(number: int, story: Story) -> None:
        begin_s, reads = story
        await trio.sleep(begin_s)
        here, there = socket.socketpair()
        with here, there:
            reader = kind(Line(here))
            for wait_s, work_s in reads:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(write, wait_s, there)
                    in_time = await reader.read()
                    found[number].append((trio.current_time() - began_s, in_time))
                    nursery.cancel_scope.cancel()
                if not in_time:
                    break
                await trio.sleep(work_s)
            reader.leave()

    async with trio.open_nursery() as nursery:
        for number, story in enumerate(stories):
            nursery.start_soon(read, number, story)
    return found


@given(stories, schedules())
def test_a_read_ends_as_by_a_scope_of_its_own(stories: list[Story], schedule: int) -> None:
    watched = virtual(lambda: told(stories, Watched), schedule=schedule)
    assert watched == virtual(lambda: told(stories, Scoped), schedule=schedule)


class Halves(Line):
    """A line that gets half a TLS record: there is a byte to read, but no data."""

    def receive_nowait(self) -> bytes | None:
        """Nothing but None, whatever comes."""
        super().receive_nowait()
        return None


@given(schedules())
def test_a_read_whose_limit_passes_as_half_a_record_comes_has_an_end(schedule: int) -> None:
    """Its task is ready to run, since there is a byte, so the watch does not find it waiting."""

    async def main() -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)

        async def stall(end: socket.socket) -> None:
            await trio.testing.wait_all_tasks_blocked()
            end.send(b"x")
            clock.jump(LIMIT_S)  # as when one task does not let the others run

        here, there = socket.socketpair()
        with here, there:
            reader = Watched(Halves(here))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stall, there)
                with trio.fail_after(2 * LIMIT_S):
                    assert not await reader.read()
            reader.leave()

    virtual(main, schedule=schedule)


@given(schedules())
def test_a_read_that_lets_others_run_is_ended_like_one_that_waits(schedule: int) -> None:
    async def main() -> None:
        here, there = socket.socketpair()
        with here, there:
            line = Line(here)
            there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * READ_BYTES)
            assert there.send(bytes(READ_BYTES)) == READ_BYTES
            assert await line.receive() == bytes(READ_BYTES)  # the next one expects more

            async def end() -> None:
                line.wake()

            with trio.fail_after(LIMIT_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(end)
                    with pytest.raises(trio.ClosedResourceError):
                        await line.receive()

    virtual(main, schedule=schedule)


@given(schedules())
def test_a_connection_that_is_cut_after_a_late_part_is_not_called_late(schedule: int) -> None:
    """If the part has come as its limit passed, then it counts, and so does what comes next."""

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED)
        await trio.testing.wait_all_tasks_blocked()
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        assert isinstance(visit.stream, trio.SocketStream)
        os.write(visit.stream.socket.fileno(), b"2\r\nab\r\n")
        clock.jump(LIMIT_S)
        await trio.testing.wait_all_tasks_blocked()
        visit.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            request = HttpRequest(server.url, b"{}", timeouts=Timeouts(idle_s=LIMIT_S))
            async with transport.send(request) as reply:
                assert await reply.receive() == b"ab"
                with pytest.raises(ModelConnectionError) as caught:
                    await reply.receive()
                assert caught.value.code == "cut"

    virtual(main, schedule=schedule)


def test_who_was_left_behind_by_a_run_of_trio_may_leave_after_it() -> None:
    here, there = socket.socketpair()

    async def main() -> Watched:
        return Watched(Line(here))

    with here, there:
        reader = trio.run(main)
        reader.leave()
        reader.leave()
        trio.run(main).leave()


@pytest.mark.parametrize(
    ("code", "timeouts"),
    [
        ("idle_s", Timeouts(idle_s=1.0)),
        ("total_s", Timeouts(idle_s=5.0, total_s=1.5)),
        ("total_s", Timeouts(idle_s=None, total_s=1.5)),
    ],
)
def test_an_answer_of_many_pieces_has_its_bounds_too(code: str, timeouts: Timeouts) -> None:
    pieces = 8

    async def main() -> None:
        read = trio.Event()

        async def handle(visit: Visit) -> None:
            nonlocal read
            await visit.request()
            await visit.send(CHUNKED)
            for _ in range(pieces):
                read = trio.Event()
                await visit.send(b"1\r\na\r\n")
                await read.wait()
            await visit.left()

        size = 0

        async def ask(url: str, transport: Transport) -> None:
            nonlocal size
            async with transport.send(HttpRequest(url, timeouts=timeouts)) as reply:
                while data := await reply.receive():
                    size += len(data)
                    read.set()

        async with upstream(handle) as server, open_transport() as transport:
            with pytest.raises(ModelTimeoutError) as caught:
                await ask(server.url, transport)
            assert size == pieces
            assert caught.value.code == code
            await server.visits[0].gone.wait()

    run(main)


class Collecting(Line):
    """A line at whose end the garbage collector runs, as it may anywhere."""

    def wake(self) -> None:
        """End a read; whatever is unreachable is collected."""
        super().wake()
        gc.collect()


@attrs.define(eq=False)
class Forgotten:
    """An answer that nobody has left, in a cycle."""

    wait: Wait
    itself: Any = None

    def __del__(self) -> None:
        self.wait.leave()


@given(st.lists(st.booleans(), min_size=1, max_size=6), schedules())
def test_readers_that_are_collected_in_a_check_do_not_end_it(
    which: list[bool], schedule: int
) -> None:
    """Whichever they are: the others end at their limit, and nothing else ends."""

    async def main() -> list[bool]:
        late: list[bool] = []

        async def read(*, forgotten: bool) -> None:
            here, there = socket.socketpair()
            with here, there:
                reader = Watched(Collecting(here))
                if forgotten:
                    holder = Forgotten(reader._wait)
                    holder.itself = holder
                    holder.wait.since_s = trio.current_time()
                    del holder, reader
                    await trio.sleep(2 * LIMIT_S)
                    return
                late.append(not await reader.read())
                reader.leave()

        gc.disable()
        gc.freeze()  # otherwise each collection also goes through all that other tests have made
        try:
            async with trio.open_nursery() as nursery:
                for forgotten in which:
                    nursery.start_soon(partial(read, forgotten=forgotten))
        finally:
            gc.unfreeze()
            gc.enable()
        return late

    assert virtual(main, schedule=schedule) == [True] * which.count(False)
