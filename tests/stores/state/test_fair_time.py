"""A store's time: exact while this process goes on, and still while it stands still."""

from __future__ import annotations

from typing import cast

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from orchestra.stores.state.fair_time import BEATS, FairTime
from orchestra.testing.virtual import virtual

LIMIT_S = 5.0
moments = st.sampled_from([0.0, 0.3, 1.0, 1.1, 2.5, 4.9, 5.0, 7.0, 12.0])
schedules = st.integers(0, 1000)


def stand_still(for_s: float) -> None:
    """Let the time go by, as when a module is imported."""
    cast("MockClock", trio.lowlevel.current_clock()).jump(for_s)


async def waited(time: FairTime, takes_s: float) -> bool:
    """Whether what takes so long is waited for to its end."""
    with time.limited():
        await trio.sleep(takes_s)
        return True
    return False


@given(st.lists(st.tuples(moments, moments), max_size=8), schedules)
def test_each_wait_is_as_long_as_it_may_be_whenever_it_begins(
    waits: list[tuple[float, float]], schedule: int
) -> None:
    async def main() -> None:
        time = FairTime(LIMIT_S)

        async def one(at_s: float, takes_s: float) -> None:
            await trio.sleep(at_s)
            began_s = trio.current_time()
            whole = await waited(time, takes_s)
            assert whole or takes_s >= LIMIT_S
            assert trio.current_time() - began_s == pytest.approx(min(takes_s, LIMIT_S))

        async with trio.open_nursery() as nursery:
            for at_s, takes_s in waits:
                nursery.start_soon(one, at_s, takes_s)

    virtual(main, schedule=schedule)


@given(
    st.lists(st.tuples(moments, st.floats(0.0, 4.9)), max_size=5),
    moments,
    st.sampled_from([2.0, 5.0, 50.0]),
    schedules,
)
def test_what_has_come_in_time_is_taken_though_the_process_stood_still(
    waits: list[tuple[float, float]], still_at_s: float, still_s: float, schedule: int
) -> None:
    """Whenever that was, and for however long."""

    async def main() -> None:
        time = FairTime(LIMIT_S)

        async def one(at_s: float, takes_s: float) -> None:
            await trio.sleep(at_s)
            assert await waited(time, takes_s)

        async with trio.open_nursery() as nursery:
            for at_s, takes_s in waits:
                nursery.start_soon(one, at_s, takes_s)
            await trio.sleep(still_at_s)
            stand_still(still_s)

    virtual(main, schedule=schedule)


@given(st.lists(moments, max_size=3), st.floats(0.0, 4.9), st.floats(0.0, 1.0), schedules)
def test_who_has_more_to_ask_after_a_standstill_has_the_time_for_it(
    others: list[float], takes_s: float, share: float, schedule: int
) -> None:
    """A change of a Redis is two trips, and the second begins when the process goes on."""

    async def two_trips(time: FairTime) -> None:
        whole = False
        with time.limited():
            await trio.sleep(takes_s * share)
            stand_still(50.0)
            await trio.sleep(takes_s * (1 - share))
            whole = True
        assert whole

    async def main() -> None:
        time = FairTime(LIMIT_S)
        async with trio.open_nursery() as nursery:
            for other_s in others:
                nursery.start_soon(waited, time, other_s)
            nursery.start_soon(two_trips, time)

    virtual(main, schedule=schedule)


@pytest.mark.parametrize("schedule", range(10))
def test_what_comes_while_the_process_stands_still_is_taken_at_the_very_end_too(
    schedule: int,
) -> None:
    """Whoever is next, the one who waits or the one who counts."""

    async def whole() -> None:
        assert await waited(FairTime(LIMIT_S), LIMIT_S - 0.05)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(whole)
            await trio.sleep(LIMIT_S - 0.1)
            stand_still(60.0)

    virtual(main, schedule=schedule)


@given(st.sampled_from([0.1, 1.0, 2.0]), schedules)
def test_every_wait_ends_also_in_a_process_that_stands_still_again_and_again(
    every_s: float, schedule: int
) -> None:
    async def main() -> None:
        time, stops = FairTime(LIMIT_S), 0

        async def stop() -> None:
            nonlocal stops
            while True:
                await trio.sleep(every_s)
                stand_still(60.0)
                stops += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            assert not await waited(time, 1e5)
            nursery.cancel_scope.cancel()
        assert stops <= 2 * BEATS * LIMIT_S / every_s

    virtual(main, schedule=schedule)


def test_it_counts_anew_in_another_run() -> None:
    time = FairTime(LIMIT_S)

    async def left() -> None:
        with trio.move_on_after(1.0):
            await waited(time, 1e5)

    virtual(left)
    assert not virtual(lambda: waited(time, 1e5))


@given(
    st.lists(st.tuples(st.floats(0.0, 20.0), st.floats(0.0, 20.0)), max_size=8),
    st.lists(st.tuples(st.floats(0.0, 20.0), st.sampled_from([2.5, 10.0])), max_size=4),
    schedules,
)
@example([(0.0, 4.9), (0.5, 90.0), (0.9, 15.7), (10.96, 90.0)], [(0.95, 10.0), (16.5, 5.0)], 0)
def test_every_wait_ends_though_one_that_began_before_it_ends_later(
    waits: list[tuple[float, float]], stills: list[tuple[float, float]], schedule: int
) -> None:
    """A beat in which the process stood still counts for those who began in it, and for nobody
    else: in the example, the time of the last is over before that of the third."""

    async def main() -> None:
        time = FairTime(LIMIT_S)

        async def one(at_s: float, takes_s: float) -> None:
            await trio.sleep(at_s)
            assert await waited(time, takes_s) or takes_s >= LIMIT_S

        async def still(at_s: float, for_s: float) -> None:
            await trio.sleep(at_s)
            stand_still(for_s)

        async with trio.open_nursery() as nursery:
            for wait in waits:
                nursery.start_soon(one, *wait)
            for stop in stills:
                nursery.start_soon(still, *stop)

    virtual(main, schedule=schedule)
