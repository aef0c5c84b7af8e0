"""Calls done together: everybody gets an outcome or an error in time, whoever is cancelled."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import StateError
from orchestra.stores.state import grouping
from orchestra.stores.state.grouping import Call, Group, Outcomes, Recalling
from orchestra.testing.virtual import virtual
from tests.stores.state.test_fair_time import stand_still

arrivals = st.tuples(
    st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 7.0, 11.0]),  # when it comes
    st.none() | st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]),  # after what time it is cancelled
)


@given(
    st.lists(arrivals, max_size=12), st.lists(st.sampled_from([0.0, 1.0, 2.0, 60.0]), max_size=8)
)
def test_nobody_waits_for_a_leader_that_went(
    calls: list[tuple[float, float | None]], takes: list[float]
) -> None:
    """Whatever is cancelled or too slow, each call ends within twice its time, with its own."""
    busy = 0
    left = list(takes)

    async def perform(batch: Sequence[Call]) -> Outcomes:
        nonlocal busy
        assert busy == 0
        assert batch
        busy += 1
        try:
            await trio.sleep(left.pop() if left else 1.0)
        finally:
            busy -= 1
        return [call.key for call in batch if isinstance(call, Recalling)]

    async def main() -> None:
        group = Group("here", perform, 5.0)

        async def one(name: str, at_s: float, patience_s: float | None) -> None:
            await trio.sleep(at_s)
            began_s = trio.current_time()
            with trio.move_on_after(patience_s if patience_s is not None else 1000):
                try:
                    assert await group.do(Recalling(name)) == name
                except StateError as error:
                    assert str(error).startswith("here: no answer within 5 s")  # noqa: PT017
            assert trio.current_time() - began_s <= 10.0

        async with trio.open_nursery() as nursery:
            for number, (at_s, patience_s) in enumerate(calls):
                nursery.start_soon(one, str(number), at_s, patience_s)
        left.clear()
        assert await group.do(Recalling("last")) == "last"

    virtual(main)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=5), st.integers(0, 99))
def test_a_store_is_not_taken_for_slow_while_this_process_stands_still(
    arrive_s: list[float], schedule: int
) -> None:
    """Neither by who asks it, nor by those who wait for their turn."""

    async def perform(batch: Sequence[Call]) -> Outcomes:
        await trio.sleep(0.5)
        stand_still(60.0)
        await trio.sleep(0.5)
        return [None for _ in batch]

    async def main() -> None:
        group = Group("here", perform, 5.0)

        async def one(at_s: float) -> None:
            await trio.sleep(at_s)
            await group.do(Recalling("x"))

        async with trio.open_nursery() as nursery:
            for at_s in arrive_s:
                nursery.start_soon(one, at_s)

    virtual(main, schedule=schedule)


def test_whatever_goes_wrong_with_a_store_is_a_state_error_of_those_who_asked() -> None:
    broken = RuntimeError("can't start new thread")

    async def perform(batch: Sequence[Call]) -> Outcomes:
        await trio.sleep(1)
        if trio.current_time() < 1.5:
            raise broken
        return ["found" for _ in batch]

    async def main() -> None:
        group = Group("here", perform, 5.0)

        async def first() -> None:
            with pytest.raises(StateError, match="RuntimeError: can't start new thread") as raised:
                await group.do(Recalling("x"))
            assert raised.value.__cause__ is broken

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.sleep(0.5)
            assert await group.do(Recalling("y")) == "found"

    virtual(main)


def test_the_queue_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "CALLS_WAITING", 2)
    refused = []

    async def perform(batch: Sequence[Call]) -> Outcomes:
        await trio.sleep(1)
        return [None for _ in batch]

    async def main() -> None:
        group = Group("here", perform, 5.0)

        async def one() -> None:
            try:
                await group.do(Recalling("x"))
            except StateError as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)

    virtual(main)
    (message,) = refused
    assert "2 calls are waiting already" in message
