"""Nobody is taken for dead because the state was away, or because its clock was set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import StateError
from orchestra.runs.archive import live_key
from orchestra.runs.heartbeat import OwnHeartbeat
from orchestra.runs.local import CONTINUE
from orchestra.runs.settings import RunsSettings
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.runs.processes import Cable, Process, heard, memory, process

if TYPE_CHECKING:
    from orchestra.engine.run import Run

BOUNDS = RunsSettings(inbox_s=0.5)
STEPS_S = st.sampled_from([0.0, 6.0, -3600.0])


async def status(of: Process, run_id: str) -> str | None:
    """How it says that a run is, None where it cannot tell."""
    with suppress(StateError):
        record = await of.registry.get(run_id)
        return None if record is None else record.status
    return None


@given(
    away_s=st.sampled_from([0.0, 5.5]),
    steps_s=st.lists(STEPS_S, min_size=1, max_size=2),
    waits_s=st.lists(st.sampled_from([0.0, 0.1, 1.4, 3.0]), min_size=1, max_size=4),
    schedule=schedules(),
)
def test_a_run_that_goes_on_is_lost_for_nobody_and_that_of_the_dead_is_in_the_end(
    away_s: float, steps_s: list[float], waits_s: list[float], schedule: int
) -> None:
    ahead_s = [0.0]

    async def main() -> None:
        state = MemoryState(now_s=lambda: 1e9 + trio.current_time() + ahead_s[0])
        async with (
            process(Cable(state), BOUNDS) as one,
            process(Cable(state), BOUNDS) as other,
        ):
            run = one.start([(1000.0, "x")])
            await one.registry.adopt_durably(run)
            await trio.sleep(2.0)
            for step_s in steps_s:
                one.cable.cut = other.cable.cut = away_s > 0
                await trio.sleep(away_s)
                ahead_s[0] += step_s
                one.cable.cut = other.cable.cut = False
                for wait_s in waits_s:
                    await trio.sleep(wait_s)
                    assert await status(other, run.id) in ("running", None)
            await trio.sleep(BOUNDS.heartbeat_s + BOUNDS.inbox_s)  # it is heard once more
            one.cable.cut = True
            await trio.sleep(2 * BOUNDS.dead_after_s + BOUNDS.heartbeat_s)
            assert await status(other, run.id) == "failed"
            run.cancel("the test is over")

    virtual(main, schedule=schedule)


@pytest.mark.parametrize(
    ("beats_s", "now_s", "may_judge"),
    [
        ([], 7.0, True),  # nobody else hears of it, or it has only begun
        ([0.0, 1.5, 3.0], 7.9, True),
        ([0.0, 1.5, 3.0], 8.0, False),  # its own has lapsed
        ([0.0, 9.0], 13.9, False),  # the others are given their time
        ([0.0, 9.0, 12.0], 14.0, True),
        ([3600.0, 0.0, 3.0], 4.9, False),  # the clock was set back, too
        ([3600.0, 0.0, 3.0], 5.0, True),
    ],
)
def test_who_was_silent_judges_nobody(beats_s: list[float], now_s: float, may_judge: bool) -> None:
    own_heartbeat = OwnHeartbeat(BOUNDS.dead_after_s)
    for each in beats_s:
        own_heartbeat.beat(each)
    assert own_heartbeat.may_judge(now_s) is may_judge


@pytest.mark.parametrize("away_s", [3.0, 30.0])
@pytest.mark.parametrize("followed", ["", "here", "elsewhere"])
@pytest.mark.parametrize("asked", [True, False])
def test_a_lost_run_that_nobody_follows_here_ends_when_its_process_is_back(
    away_s: float, followed: str, asked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise its calls of models would go on, for a result that nobody can get."""

    async def main() -> bool:
        state = memory()
        cable = Cable(state)
        async with process(cable, BOUNDS) as one, process(Cable(state), BOUNDS) as other:
            run = one.start([(60.0, "x")])
            one.registry.adopt(run, linger_s=CONTINUE, readers=int(followed == "here"))
            async with trio.open_nursery() as nursery:
                if followed == "elsewhere":
                    nursery.start_soon(heard, other.registry, run.id)
                await trio.sleep(0.9)
                cable.cut = True
                await trio.sleep(away_s)
                if asked:
                    await other.registry.get(run.id)
                cable.cut = False
                await trio.sleep(2.0)
                found = run.ended
                run.cancel("the test is over")
            return found

    lost = away_s > BOUNDS.dead_after_s and (asked or followed == "elsewhere")
    ends = lost and followed != "here"
    assert virtual(main) == ends
    told = [each for each in caplog.messages if "took them for lost" in each]
    assert len(told) == ends


@asynccontextmanager
async def lost_run() -> AsyncIterator[tuple[Process, Run[Any]]]:
    """A run that others took for lost; its process can still not reach the state."""
    state = memory()
    cable = Cable(state)
    async with process(cable, BOUNDS) as one, process(Cable(state), BOUNDS) as other:
        run = one.start([(60.0, "x")])
        one.registry.adopt(run, linger_s=CONTINUE, readers=0)
        await trio.sleep(0.9)
        cable.cut = True
        await trio.sleep(30.0)
        await other.registry.get(run.id)
        yield one, run
        run.cancel("the test is over")


def test_who_comes_back_to_a_lost_run_while_its_record_is_read_keeps_it() -> None:
    async def main() -> bool:
        async with lost_run() as (one, run):
            cable = one.cable
            cable.closed_to, cable.opens = live_key(run.id), trio.Event()
            cable.cut = False
            await trio.sleep(2.0)
            assert cable.waiting
            assert await one.registry.follow(run.id) is not None
            cable.opens.set()
            await trio.sleep(2.0)
            return run.ended

    assert not virtual(main)


def test_a_lost_run_ends_also_if_the_state_fails_once_more_when_it_is_back() -> None:
    async def main() -> tuple[bool, bool]:
        async with lost_run() as (one, run):
            one.cable.cut, one.cable.closed_to = False, live_key(run.id)
            await trio.sleep(3 * BOUNDS.heartbeat_s)
            before, one.cable.closed_to = run.ended, None
            await trio.sleep(2.0)
            return before, run.ended

    assert virtual(main) == (False, True)
