"""Heartbeats in virtual time, where an event and a heartbeat can come in the same moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from orchestra import Stream, pipeline, step
from orchestra.engine.engine import open_engine
from orchestra.server import sse
from orchestra.server.connections.bodies import Body
from orchestra.server.runs.event_streams import Events
from orchestra.server.settings import Settings
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.server.test_sse import dispatched

HALVES = st.integers(0, 5).map(lambda n: n / 2)
"""Seconds."""


@given(
    pauses=st.lists(st.tuples(HALVES, HALVES), max_size=6),
    takes_s=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    schedule=schedules(),
)
def test_no_event_is_lost_cut_or_told_twice_whenever_hearts_beat(
    pauses: list[tuple[float, float]], takes_s: float, schedule: int
) -> None:
    """Also where it comes in the very moment of the beat, since a step or the machine was busy."""

    @step
    async def say() -> AsyncIterator[int]:
        for number, (waits_s, works_s) in enumerate(pauses):
            await trio.sleep(waits_s)
            cast("MockClock", trio.lowlevel.current_clock()).jump(works_s)
            yield number

    @pipeline
    def said() -> Stream[int]:
        return say()

    async def main() -> tuple[str, list[bytes]]:
        written: list[bytes] = []

        async def send(data: bytes) -> None:
            await trio.sleep(takes_s)
            written.append(data)

        async with open_engine() as engine:
            run = engine.start(said, {})
            await Events(run, Settings(heartbeat_s=1.0)).write(Body(send))
        return run.id, written

    run_id, written = virtual(main, schedule=schedule)
    messages = dispatched(b"".join(each for each in written if each != sse.HEARTBEAT))
    assert [message.id for message in messages] == [
        f"{run_id}.{n + 1}" for n in range(len(messages))
    ]
    assert sum(message.event == "delta" for message in messages) == len(pauses)
    assert messages[-1].event == "run.finished"


@given(st.lists(st.sampled_from([0.25, 0.875, 1.0, 2.5]), max_size=6), schedules())
def test_a_heart_beats_only_where_nothing_was_said_for_as_long(
    pauses: list[float], schedule: int
) -> None:
    """Also where all that is said goes at once, so that nobody's task is woken for it."""

    class Quick(Body):
        """A client that takes everything at once."""

        def write_nowait(self, data: bytes) -> bool:
            written.append((trio.current_time(), data))
            return True

    @step
    async def say() -> AsyncIterator[str]:
        for pause in pauses:
            await trio.sleep(pause)
            yield "token"

    @pipeline
    def said() -> Stream[str]:
        return say()

    async def send(data: bytes) -> None:
        raise AssertionError(f"{data!r} did not go at once")

    async def main() -> None:
        async with open_engine() as engine:
            run = engine.start(said, {})
            await Events(run, Settings(heartbeat_s=1.0)).write(Quick(send))

    written: list[tuple[float, bytes]] = []
    virtual(main, schedule=schedule)
    for (before_s, _), (at_s, data) in pairwise(written):
        assert at_s - before_s <= 1.0
        assert data != sse.HEARTBEAT or at_s - before_s == pytest.approx(1.0)
