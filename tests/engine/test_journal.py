"""The journal: whoever reads it, whenever and however slowly, folds the same output."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.engine.journal import Journal, Reader
from orchestra.engine.lanes.output import Output, size_bytes
from orchestra.events import (
    Delta,
    Event,
    RunCancelled,
    RunStarted,
    Snapshot,
    StepStarted,
)
from orchestra.graph.rules.policy import Limits
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual

ticks = st.integers(0, 3)
chunks = st.sampled_from(["", "a", "bc", "é", "long " * 9])
narrow = st.builds(
    Limits,
    window_chunks=st.integers(1, 4),
    window_bytes=st.integers(1, 50),
    journal_events=st.integers(1, 5),
)


@attrs.frozen
class Pace:
    """How one reader reads: when it comes, how long it takes over each batch, how much of it."""

    comes_s: int
    takes_s: tuple[int, ...]
    """Cycled; how long it is busy with each batch."""
    most: int | None
    """How many events of a batch it acknowledges at a time; None for all of them."""
    leaves_after: int | None
    """How many batches it reads before it leaves; None to read to the end."""
    from_seq: int = 0
    awaits_content: bool = False


paces = st.builds(
    Pace,
    comes_s=st.integers(0, 12),
    takes_s=st.lists(ticks, min_size=1, max_size=4).map(tuple),
    most=st.none() | st.integers(1, 3),
    leaves_after=st.none() | st.integers(0, 4),
    awaits_content=st.booleans(),
)


def made(limits: Limits) -> Journal:
    return Journal(limits, Output(str, limits), trio.current_time())


def add(journal: Journal, chunk: object) -> None:
    """A chunk that the readers hear of at once."""
    journal.delta_soon(chunk)
    journal.push()


def folded(events: Sequence[Event]) -> tuple[str, int]:
    """The output that a reader of these events knows, and the number of the last of them."""
    output, seq = "", 0
    for event in events:
        if isinstance(event, Snapshot):
            output, seq = event.output, event.seq
        elif event.seq > seq:
            assert event.seq == seq + 1, f"{event} follows {seq}"
            output, seq = output + (event.chunk if isinstance(event, Delta) else ""), event.seq
    return output, seq


async def write(journal: Journal, steps: Sequence[tuple[int, str | None]]) -> None:
    """A run: chunks of output, None for other events, each some time after the one before.

    As the engine does it, the readers are told of the chunks before it waits for something.
    """
    journal.append(RunStarted, "id", "name")
    for after_s, chunk in steps:
        if after_s:
            journal.push()
            await trio.sleep(after_s)
        if chunk is None:
            journal.append(StepStarted, "step")
        else:
            if journal.held:
                journal.push()
                await journal.room()
            journal.delta_soon(chunk)
    journal.append(RunCancelled, "it is the end")


async def read(reader: Reader, pace: Pace, *, check: Callable[[int], None]) -> list[Event]:
    """All that a reader of this pace is given."""
    given: list[Event] = []
    seq, batches = pace.from_seq, 0
    reader.awaits_content = pace.awaits_content
    with reader:
        while pace.leaves_after is None or batches < pace.leaves_after:
            batch = await reader.after(seq)
            if not batch:
                break
            given += batch
            seq = batch[: pace.most][-1].seq
            await trio.sleep(pace.takes_s[batches % len(pace.takes_s)])
            check(seq)
            batches += 1
    return given


steps = st.lists(st.tuples(ticks, chunks | st.none()), max_size=14)


@settings(max_examples=400)
@given(steps, st.lists(paces, max_size=3), narrow, schedules())
def test_every_reader_folds_the_same_output(
    steps: list[tuple[int, str | None]], paces: list[Pace], limits: Limits, schedule: int
) -> None:
    """Attached at any time, acknowledging at any pace, one event or many at a time."""
    given: dict[int, list[Event]] = {}

    async def main() -> Journal:
        journal = made(limits)

        async def follow(index: int, pace: Pace) -> None:
            await trio.sleep(pace.comes_s)
            before = len(journal.output.chunks)
            reader = journal.attach()

            def check(acknowledged: int) -> None:
                deltas = [e for e in journal.kept if isinstance(e, Delta)]
                behind = [e for e in deltas if e.seq > max(acknowledged, attached_seq)]
                assert len(behind) <= limits.window_chunks
                assert sum(size_bytes(e.chunk) for e in behind[:-1]) < limits.window_bytes
                assert len(journal.output.chunks) >= before

            attached_seq = journal.seq
            given[index] = await read(reader, pace, check=check)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, journal, steps)
            for index, pace in enumerate(paces):
                nursery.start_soon(follow, index, pace)
        return journal

    journal = virtual(main, schedule=schedule)
    whole = "".join(chunk for _, chunk in steps if chunk is not None)
    assert journal.output.joined() == whole
    assert journal.ended
    for index, pace in enumerate(paces):
        output, seq = folded(given[index])
        assert whole.startswith(output)
        if pace.leaves_after is None:
            assert (output, seq) == (whole, journal.seq)
            assert isinstance(given[index][-1], RunCancelled)
        assert given[index] == sorted(given[index], key=lambda event: event.at_s) or pace.most


def test_who_awaits_content_is_woken_by_a_chunk_at_once_and_by_no_other_event() -> None:
    """Also by a chunk that nobody was told of before the next event; it is given what came before."""

    async def main() -> None:
        journal = made(Limits())
        woken: list[tuple[float, list[str]]] = []

        async def follow() -> None:
            with journal.attach() as reader:
                reader.awaits_content = True
                while batch := await reader.after(journal.seq if woken else 0):
                    woken.append((trio.current_time(), [each.type for each in batch]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            await write(journal, [(1, None), (1, "a"), (1, "b"), (0, None), (1, None), (1, "c")])
        kinds = ["run.started", "step.started", "delta"]
        assert woken == [
            (2, kinds),
            (3, ["delta", "step.started"]),
            (5, ["step.started", "delta", "run.cancelled"]),
        ]

    virtual(main)


@settings(max_examples=200)
@given(steps, st.integers(1, 5))
def test_only_the_last_events_are_kept_and_a_snapshot_stands_for_the_others(
    steps: list[tuple[int, str | None]], journal_events: int
) -> None:
    async def main() -> None:
        journal = made(Limits(journal_events=journal_events))
        everything: list[Event] = []

        class Listening(Reader):
            __slots__ = ()

            def wake(self) -> None:
                everything.append(journal.kept[-1])

        journal._readers.append(Listening(journal))
        journal.append(RunStarted, "id", "name")
        for _, chunk in steps:
            if chunk is None:
                journal.append(StepStarted, "step")
            else:
                add(journal, chunk)
        journal.append(RunCancelled, "it is the end")
        assert [event.seq for event in everything] == list(range(1, journal.seq + 1))
        bound = 2 * journal_events
        assert len(journal.kept) < bound
        assert journal.kept == tuple(everything[-len(journal.kept) :])
        for seq in range(-2, journal.seq + 3):
            newer = journal.newer(seq)
            first_kept = journal.kept[0].seq
            if max(seq, 0) >= first_kept - 1:
                assert newer == tuple(everything[max(seq, 0) :])
            else:
                snapshot, *rest = newer
                assert isinstance(snapshot, Snapshot)
                assert snapshot.seq == first_kept - 1
                assert snapshot.output == folded(everything[: snapshot.seq])[0]
                assert snapshot.at_s == everything[snapshot.seq - 1].at_s
                assert tuple(rest) == journal.kept

    virtual(main)


async def held(journal: Journal) -> bool:
    """Whether the next chunk of output has to wait."""
    with trio.move_on_after(1):
        await journal.room()
        return False
    return True


def test_the_output_waits_when_a_reader_is_the_window_behind_in_chunks() -> None:
    async def main() -> None:
        journal = made(Limits(window_chunks=2))
        with journal.attach() as reader:
            add(journal, "a")
            assert not await held(journal)
            add(journal, "b")
            assert await held(journal)
            assert len(await reader.after(0)) == 2
            assert await held(journal), "what is given is not yet written"
            journal.append(StepStarted, "another event")
            assert len(await reader.after(2)) == 1
            assert not await held(journal)

    virtual(main)


def test_the_output_waits_when_a_reader_is_the_window_behind_in_bytes() -> None:
    """A chunk goes through while there is less than the window, however big it is itself."""

    async def main() -> None:
        journal = made(Limits(window_bytes=4))
        with journal.attach() as reader:
            add(journal, "aé")  # three bytes
            assert not await held(journal)
            add(journal, "far more than four bytes")
            assert await held(journal)
            await reader.after(0)
            journal.append(StepStarted, "another event")
            await reader.after(1)
            assert await held(journal), "the big one is still unread"
            await reader.after(2)
            assert not await held(journal)

    virtual(main)


def test_the_slowest_reader_holds_the_run_and_no_other_does() -> None:
    async def main() -> None:
        journal = made(Limits(window_chunks=1))
        journal.append(RunStarted, "id", "name")
        with journal.attach() as quick, journal.attach() as slow:
            for chunk in "abc":
                add(journal, chunk)
                seq = journal.seq
                journal.append(StepStarted, "another event")
                await quick.after(seq)
                assert await held(journal)
                await slow.after(seq)
                assert not await held(journal)

    virtual(main)


def test_a_run_that_nobody_reads_is_not_held() -> None:
    async def main() -> None:
        journal = made(Limits(window_chunks=1, window_bytes=1))
        for chunk in "abc":
            add(journal, chunk)
            assert not await held(journal)
        journal.attach()  # one who comes late owes nothing for what was before
        assert not await held(journal)

    virtual(main)


def test_a_reader_that_leaves_holds_nothing_any_more() -> None:
    async def main() -> None:
        journal = made(Limits(window_chunks=1))
        with journal.attach():
            add(journal, "a")
            with trio.move_on_after(9) as scope:
                await journal.room()
            assert scope.cancelled_caught
        await journal.room()  # at once
        reader = journal.attach()
        add(journal, "b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.room)
            await trio.testing.wait_all_tasks_blocked()
            journal.detach(reader)
        journal.detach(reader)  # once is enough, twice is no harm

    virtual(main)


def test_a_reader_is_woken_by_the_first_event_and_gets_all_that_are_ready_when_it_runs() -> None:
    async def main() -> None:
        journal = made(Limits())
        given: list[tuple[Event, ...]] = []

        async def follow() -> None:
            with journal.attach() as reader:
                given.append(await reader.after(0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            journal.append(RunStarted, "id", "name")
            add(journal, "a")
            add(journal, "b")
        assert [event.seq for event in given[0]] == [1, 2, 3]

    virtual(main)


def test_a_number_that_no_event_has_yet_is_taken_for_the_newest() -> None:
    """Or a client could make itself wait for ever, and the run for the client."""

    async def main() -> None:
        journal = made(Limits(window_chunks=1))
        journal.append(RunStarted, "id", "name")
        with journal.attach() as reader:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write, journal, [(1, "a"), (0, "b")])
                (event,) = await reader.after(10**9)
                assert event.seq == 2
                assert [event.seq for event in await reader.after(2)] == [3]
                assert folded(await reader.after(-5)) == ("a", journal.seq)
                seq = journal.seq
                while batch := await reader.after(seq):
                    seq = batch[-1].seq

    virtual(main)


def test_asking_again_for_what_was_given_acknowledges_nothing_new() -> None:
    async def main() -> None:
        journal = made(Limits(window_chunks=2))
        with journal.attach() as reader:
            add(journal, "a")
            add(journal, "b")
            for _ in range(3):
                assert len(await reader.after(0)) == 2
                assert reader.lags(Limits(window_chunks=2))
            await reader.after(1)  # one of the two
            assert not reader.lags(Limits(window_chunks=2))
            assert reader.lags(Limits(window_chunks=1))
            await journal.room()

    virtual(main)


def test_a_cancelled_wait_loses_nothing() -> None:
    """A heartbeat cuts the wait; what comes next is still given."""

    async def main() -> None:
        journal = made(Limits())
        with journal.attach() as reader:
            with trio.move_on_after(5):
                await reader.after(0)
            journal.append(RunStarted, "id", "name")
            assert [event.seq for event in await reader.after(0)] == [1]

    virtual(main)


def test_after_the_end_there_is_the_rest_and_then_nothing() -> None:
    async def main() -> None:
        journal = made(Limits())
        await write(journal, [(0, "a")])
        with journal.attach() as reader:
            assert [event.seq for event in await reader.after(1)] == [2, 3]
            assert await reader.after(3) == ()
            assert await reader.after(99) == ()

    virtual(main)


def test_a_reader_has_one_task_and_knows_when_it_is_detached() -> None:
    async def main() -> None:
        journal = made(Limits())
        reader = journal.attach()

        async def closed() -> None:
            with pytest.raises(trio.ClosedResourceError, match="detached"):
                await reader.after(0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(closed)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="two tasks wait on one reader"):
                await reader.after(0)
            journal.detach(reader)
        await closed()

    virtual(main)


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5))
def test_when_the_first_chunk_came_is_known_whatever_is_kept(
    says: list[bool], journal_events: int
) -> None:
    async def law() -> None:
        limits = Limits(journal_events=journal_events)
        journal = Journal(limits, Output(str, limits), trio.current_time())
        first_s: float | None = None
        for chunk in says:
            await trio.sleep(1)
            if chunk:
                journal.delta_soon("a")
                first_s = journal.now_s() if first_s is None else first_s
            else:
                journal.append(StepStarted, "s")
            assert journal.first_chunk_s == first_s

    virtual(law)
