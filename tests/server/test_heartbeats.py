"""Heartbeats in virtual time, where an event and a heartbeat can come in the same moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from orchestra import Stream, pipeline, step
from orchestra.engine.engine import open_engine
from orchestra.server import sse
from orchestra.server.bodies import Body
from orchestra.server.runs import Events
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

    async def main() -> list[bytes]:
        written: list[bytes] = []

        async def send(data: bytes) -> None:
            await trio.sleep(takes_s)
            written.append(data)

        async with open_engine() as engine:
            run = engine.start(said, {})
            await Events(run, Settings(heartbeat_s=1.0)).write(Body(send))
        return written

    written = virtual(main, schedule=schedule)
    messages = dispatched(b"".join(each for each in written if each != sse.HEARTBEAT))
    assert [message.id for message in messages] == [str(n + 1) for n in range(len(messages))]
    assert sum(message.event == "delta" for message in messages) == len(pauses)
    assert messages[-1].event == "run.finished"
