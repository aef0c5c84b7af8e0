"""Large work is done apart, one piece at a time, and small work where it is."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.computed import computed
from tests.patience import PATIENCE_S


@given(st.lists(st.booleans(), max_size=8))
@example([True, True, True])
def test_one_piece_of_large_work_at_a_time_is_in_a_thread(sizes: list[bool]) -> None:
    turn = threading.Lock()

    def work(*, large: bool) -> int:
        if large:
            assert turn.acquire(blocking=False), "another is at work"
            trio.from_thread.run(trio.testing.wait_all_tasks_blocked)  # all others had their turn
            turn.release()
        return threading.get_ident()

    async def ask(index: int, large: bool) -> None:
        found[index] = await computed(partial(work, large=large), large=large)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for index, large in enumerate(sizes):
                nursery.start_soon(ask, index, large)

    found: dict[int, int] = {}
    trio.run(main)
    here = threading.get_ident()
    assert [found[index] != here for index in range(len(sizes))] == sizes


@pytest.mark.parametrize("large", [False, True])
def test_it_raises_what_the_work_raises(large: bool) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        trio.run(partial(computed, partial(int, "x"), large=large))


def test_who_is_cancelled_waits_for_no_thread() -> None:
    goes_on, over = threading.Event(), threading.Event()

    def work() -> None:
        goes_on.wait()
        over.set()

    async def main() -> None:
        with trio.move_on_after(0.01) as scope:
            await computed(work, large=True)
        assert scope.cancelled_caught
        assert not over.is_set()
        goes_on.set()

    trio.run(main)
    assert over.wait(PATIENCE_S)
