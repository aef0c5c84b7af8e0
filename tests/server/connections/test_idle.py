"""The limit of idle connections: one task closes each when a deadline of its own would have."""

from __future__ import annotations

from math import inf

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchestra.server.connections.idle import Idle, IdleTimer
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
