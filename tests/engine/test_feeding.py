"""Feeding: whoever takes batches by hand folds what everybody folds, however little it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import Limits, Stream, open_engine, pipeline, step
from orchestra.engine.journal import Journal
from orchestra.engine.lanes.output import Output
from orchestra.engine.run import Run
from orchestra.events import Delta, Event, Snapshot
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual


@attrs.frozen
class Script:
    """What a step says: before each burst it waits so long, and how many chunks are in it."""

    bursts: list[tuple[int, int]]


@attrs.frozen
class Taking:
    """How a client takes: after how many batches it is full, how long it then needs, its beat."""

    full_after: int
    flush_s: int
    beat_s: float
    leaves_after: int | None


scripts = st.builds(Script, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20)), max_size=5))
takings = st.builds(
    Taking,
    full_after=st.integers(1, 4),
    flush_s=st.integers(0, 3),
    beat_s=st.sampled_from([0.5, 1.0, 50.0]),
    leaves_after=st.none() | st.integers(0, 5),
)


@step
async def says(script: Script) -> AsyncIterator[str]:
    """Numbers, in bursts."""
    number = 0
    for waits_s, chunks in script.bursts:
        await trio.sleep(waits_s)
        for _ in range(chunks):
            yield f"{number} "
            number += 1


@pipeline
def said(script: Script) -> Stream[str]:
    return says(script)


def whole(script: Script) -> str:
    return "".join(f"{number} " for number in range(sum(chunks for _, chunks in script.bursts)))


async def take(run: Run, taking: Taking, most: int) -> list[Event]:
    """The events that a client took, from the first to the last or until it left."""
    taken: list[Event] = []
    batch_ends: list[int] = []
    batches = 0

    def hand(batch: tuple[Event, ...]) -> bool:
        nonlocal batches
        batches += 1
        batch_ends.append(batch[-1].seq)
        assert sum(isinstance(event, Delta) for event in batch) <= most
        taken.extend(batch)
        return bool(batches % taking.full_after)

    goes_on = True
    with run.journal.attach() as reader:
        while goes_on and (taking.leaves_after is None or batches <= taking.leaves_after):
            before = batches
            with trio.move_on_after(taking.beat_s):
                goes_on = await reader.feed(taken[-1].seq if taken else 0, hand)
            if batches > before and not batches % taking.full_after:
                asked = _before_last(batch_ends)
                await trio.sleep(taking.flush_s)
                newer = [event for event in run.journal.kept if event.seq > asked]
                assert sum(isinstance(event, Delta) for event in newer) <= most
    return taken


def _before_last(ends: list[int]) -> int:
    """What had been acknowledged when the last batch was taken."""
    return ends[-2] if len(ends) > 1 else 0


@settings(max_examples=80)
@given(scripts, st.lists(takings, min_size=1, max_size=2), st.integers(1, 6), schedules())
def test_every_hand_is_given_every_event_once_and_in_order(
    script: Script, takings: list[Taking], window: int, schedule: int
) -> None:
    """Also while heartbeats end its waits, and others leave; and it holds the step back."""

    async def main() -> None:
        limits = Limits(window_chunks=window)
        async with open_engine(limits=limits) as engine:
            run = engine.start(said, {"script": script})
            async with trio.open_nursery() as nursery:
                for taking in takings:
                    nursery.start_soon(check, run, taking)
            assert await run.result() == whole(script)

    async def check(run: Run, taking: Taking) -> None:
        taken = await take(run, taking, window)
        assert [event.seq for event in taken] == list(range(1, len(taken) + 1))
        if taking.leaves_after is None:
            assert len(taken) == run.journal.seq
            assert not any(isinstance(event, Snapshot) for event in taken)

    virtual(main, schedule=schedule)


@given(st.integers(1, 16), schedules())
def test_what_is_ready_together_is_handed_over_together(chunks: int, schedule: int) -> None:
    async def main() -> list[int]:
        script = Script([(1, chunks), (1, chunks)])
        sizes: list[int] = []

        def hand(batch: tuple[Event, ...]) -> bool:
            sizes.append(sum(isinstance(event, Delta) for event in batch))
            return True

        async with open_engine() as engine:
            run = engine.start(said, {"script": script})
            with run.journal.attach() as reader:
                assert not await reader.feed(0, hand)
        return [size for size in sizes if size]

    assert virtual(main, schedule=schedule) == [chunks, chunks]


def test_a_step_that_is_held_has_told_what_it_has_said() -> None:
    async def main() -> None:
        taken: list[Event] = []

        def hand(batch: tuple[Event, ...]) -> bool:
            taken.extend(batch)
            return True

        async with open_engine(limits=Limits(window_chunks=1)) as engine:
            run = engine.start(said, {"script": Script([(1, 3)])})
            with run.journal.attach() as reader:
                assert not await reader.feed(0, hand)
        assert [event.seq for event in taken] == list(range(1, len(taken) + 1))

    virtual(main, schedule=0)


@given(st.integers(2, 6), st.integers(1, 2), schedules())
def test_a_step_that_a_hand_lets_go_on_before_it_waits_can_be_cancelled_at_that_moment(
    chunks: int, window: int, schedule: int
) -> None:
    """The hand makes the room that the step was about to wait for, in the step's own task."""

    async def main() -> None:
        async with open_engine(limits=Limits(window_chunks=window)) as engine:
            run = engine.start(said, {"script": Script([(1, chunks)])})
            with run.journal.attach() as reader:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(reader.feed, 0, lambda _: True)
                    await trio.sleep(1)
                    run.cancel("now")
                    await run.wait_ended()

    virtual(main, schedule=schedule)


def test_a_chunk_is_handed_over_by_the_task_that_made_it() -> None:
    """But for the last, behind which the step does not wait."""

    async def main() -> list[str]:
        tasks: list[str] = []

        def hand(batch: tuple[Event, ...]) -> bool:
            if any(isinstance(event, Delta) for event in batch):
                tasks.append(trio.lowlevel.current_task().name)
            return True

        async with open_engine() as engine:
            run = engine.start(said, {"script": Script([(1, 1)] * 3)})
            with run.journal.attach() as reader:
                await reader.feed(0, hand)
        return tasks[:-1]

    assert virtual(main, schedule=0) == ["says", "says"]


def test_what_a_hand_raises_is_its_readers_and_not_the_steps() -> None:
    async def main() -> None:
        def hand(batch: tuple[Event, ...]) -> bool:
            if any(isinstance(event, Delta) for event in batch):
                raise KeyError("a hand that breaks")
            return True

        async with open_engine() as engine:
            run = engine.start(said, {"script": Script([(1, 1), (1, 1)])})
            with run.journal.attach() as reader:
                with pytest.raises(KeyError, match="breaks"):
                    await reader.feed(0, hand)
                assert not await reader.feed(0, lambda _: True), "it is raised once"
            assert await run.result() == "0 1 "

    virtual(main, schedule=0)


def test_one_reader_feeds_one_hand_and_none_once_it_is_detached() -> None:
    async def main() -> None:
        limits = Limits()
        journal = Journal(limits, Output(str, limits), trio.current_time())
        reader = journal.attach()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(closed, reader.feed, 0, lambda _: True)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await reader.feed(0, lambda _: True)
            journal.detach(reader)
        await closed(reader.feed, 0, lambda _: True)

    async def closed(feed: object, *arguments: object) -> None:
        with pytest.raises(trio.ClosedResourceError, match="detached"):
            await feed(*arguments)  # type: ignore[operator]

    virtual(main, schedule=0)
