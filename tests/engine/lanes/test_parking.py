"""Parking: as if the thing were awaited itself, but for what is done whenever it waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.engine.lanes.parking import parking
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual

acts = st.lists(st.sampled_from(["wait", "work", "scope", "raise"]), max_size=5)


async def does(acts: list[str], log: list[str]) -> str:
    """Each act in turn; what a cancellation leaves behind is in the log."""
    for act in acts:
        log.append(act)
        match act:
            case "wait":
                await trio.sleep(1)
            case "scope":
                with trio.move_on_after(0.5):
                    await trio.sleep_forever()
            case "raise":
                raise ValueError("told to raise")
    return "done"


async def outcome(awaited: Awaitable[str], until_s: float) -> tuple[object, float]:
    """What comes of it, and when; it may be cancelled before."""
    found: object = "cancelled"
    with trio.move_on_after(until_s):
        try:
            found = await awaited
        except ValueError as error:
            found = str(error)
    return found, trio.current_time()


@given(acts, st.sampled_from([0.0, 0.5, 1.5, 9.0]), schedules())
def test_what_comes_of_it_and_when_is_the_same(
    acts: list[str], until_s: float, schedule: int
) -> None:
    async def main(around: Callable[[Awaitable[str]], Awaitable[str]]) -> object:
        log: list[str] = []
        found, at_s = await outcome(around(does(acts, log)), until_s)
        return found, at_s, log

    def parked(awaited: Awaitable[str]) -> Awaitable[str]:
        return parking(awaited, lambda: None)

    assert virtual(lambda: main(parked), schedule=schedule) == virtual(
        lambda: main(lambda awaited: awaited), schedule=schedule
    )


@given(acts, schedules())
def test_it_is_done_before_each_wait_and_never_without_one(acts: list[str], schedule: int) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        await outcome(parking(does(acts, log), lambda: log.append("before")), 99.0)
        return log

    log = virtual(main, schedule=schedule)
    told = acts[: acts.index("raise") + 1] if "raise" in acts else acts
    waits = {"wait": ["wait", "before"], "scope": ["scope", "before"]}
    assert log == [each for act in told for each in waits.get(act, [act])]


def test_who_is_closed_while_it_waits_cleans_up() -> None:
    log: list[str] = []

    async def waits() -> None:
        try:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
        finally:
            log.append("cleaned")

    awaiting = cast("Generator[object]", parking(waits(), lambda: log.append("before")))
    next(awaiting)
    awaiting.close()
    assert log == ["before", "cleaned"]
    with pytest.raises(StopIteration):
        next(awaiting)
