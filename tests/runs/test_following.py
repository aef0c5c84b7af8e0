"""Whoever follows a run, from whatever process, hears all of it once, in order, to its one end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.engine.run import Run
from orchestra.errors import RunLostError, StateError
from orchestra.events import Delta, Event, RunCancelled
from orchestra.graph.rules.policy import Limits
from orchestra.runs.local import CONTINUE
from orchestra.runs.record import LOST_SEQ, EventLine, last_of_lost
from orchestra.runs.registry import Registry, open_registry
from orchestra.runs.settings import RunsSettings
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.engine.steps import Panic
from tests.runs.processes import Cable, Process, heard, lines, memory, process, spied

PROCESSES = 3
OWNER = 0
LATEST_S = 30.0
"""When everybody has heard of a death, at the latest."""

delays = st.sampled_from([0.0, 0.03, 0.1, 0.5, 2.0])
scripts = st.lists(st.tuples(delays, st.sampled_from(["a", "bc", "é\n"])), max_size=12)
seeds = st.integers(0, 2**32)


@attrs.frozen
class Follower:
    """When one comes, which process they ask each time, and how many batches they stay for."""

    comes_s: float
    asks: tuple[int, ...]
    stays: tuple[int, ...]
    rests_s: float


followers = st.builds(
    Follower,
    comes_s=st.sampled_from([0.0, 0.2, 1.0, 3.0]),
    asks=st.lists(st.integers(0, PROCESSES - 1), min_size=1, max_size=4).map(tuple),
    stays=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    rests_s=st.sampled_from([0.0, 0.2, 1.5]),
)


async def follow(
    follower: Follower, registries: Sequence[Registry], run_id: str
) -> list[EventLine]:
    """All that a follower hears, who comes back wherever their line breaks."""
    events: list[EventLine] = []
    await trio.sleep(follower.comes_s)
    for number in range(10_000):
        registry = registries[follower.asks[number % len(follower.asks)]]
        stays = follower.stays[number % len(follower.stays)]
        try:
            if await hear(registry, run_id, events, stays):
                return events
        except StateError:
            await trio.sleep(0.1)
        await trio.sleep(follower.rests_s)
    raise AssertionError("it never ends")


async def hear(registry: Registry, run_id: str, events: list[EventLine], stays: int) -> bool:
    """Hear some batches behind those that are known; whether that was the end."""
    following = await registry.follow(run_id)
    if following is None:  # its record is on its way
        await trio.sleep(0.1)
        return False
    with following:
        for _ in range(stays):
            batch = await following.after(events[-1].seq if events else 0)
            if not batch:
                return True
            events += batch
    return False


def check(events: Sequence[EventLine], all_told: Sequence[EventLine]) -> None:
    """Every event once, in order, but where a snapshot stands for what came before it."""
    by_seq = {event.seq: event for event in all_told}
    before = 0
    for event in events:
        if event.type == "snapshot":
            assert event.seq > before
            chunks = [json.loads(each.data).get("chunk", "") for each in all_told[: event.seq]]
            assert json.loads(event.data)["output"] == "".join(chunks)
        else:
            assert event.seq == before + 1
            assert event == by_seq[event.seq]
        before = event.seq


@settings(max_examples=80)
@given(
    script=scripts,
    crowd=st.lists(followers, min_size=1, max_size=3),
    bounds=st.tuples(st.sampled_from([10_000, 900, 300]), st.sampled_from([2, 1000])),
    ways=st.tuples(st.sampled_from([0.0, 0.0, 0.05]), seeds),
    schedule=schedules(),
)
def test_all_followers_hear_the_same_run_wherever_they_are(
    script: list[tuple[float, str]],
    crowd: list[Follower],
    bounds: tuple[int, int],
    ways: tuple[float, int],
    schedule: int,
) -> None:
    """While it goes on and when it has ended; and where too little is kept, they are told so."""
    (kept, journal_events), (breaks, seed) = bounds, ways
    found: list[list[EventLine]] = []
    lost: list[RunLostError] = []
    all_told: list[list[EventLine]] = []

    async def main() -> None:
        state, random = memory(), Random(seed)
        cables = [Cable(state, random, breaks=breaks) for _ in range(PROCESSES)]
        keeps = RunsSettings(kept_bytes=kept)
        limits = Limits(journal_events=journal_events)
        async with AsyncExitStack() as stack:
            each = [
                await stack.enter_async_context(process(cable, keeps, limits=limits))
                for cable in cables
            ]
            owner = each[OWNER]
            run = owner.start(script)
            all_told.append(spied(run))
            owner.registry.adopt(run, linger_s=CONTINUE, readers=0)
            registries = [one.registry for one in each]

            async def one(follower: Follower) -> None:
                try:
                    found.append(await follow(follower, registries, run.id))
                except RunLostError as error:
                    lost.append(error)

            async with trio.open_nursery() as nursery:
                for follower in crowd:
                    nursery.start_soon(one, follower)

    virtual(main, schedule=schedule)
    for events in found:
        check(events, *all_told)
        assert events[-1] == all_told[0][-1]
    assert kept < 10_000 or not lost


@settings(max_examples=80)
@given(
    script=scripts,
    crowd=st.lists(followers, min_size=1, max_size=3),
    dies_s=st.sampled_from([0.06, 0.3, 1.0, 4.0]),
    seed=seeds,
    schedule=schedules(),
)
def test_a_run_whose_process_dies_has_failed_for_all_who_follow_it(
    script: list[tuple[float, str]],
    crowd: list[Follower],
    dies_s: float,
    seed: int,
    schedule: int,
) -> None:
    """Never lost, never running for ever: all hear one end, and the record says the same."""

    async def main() -> None:
        state, random = memory(), Random(seed)
        dying = Cable(state)
        async with (
            process(dying) as owner,
            process(Cable(state, random)) as second,
            process(Cable(state, random)) as third,
        ):
            run = owner.start([*script, (1000.0, "never said")])
            await owner.registry.adopt_durably(run, linger_s=CONTINUE, readers=0)
            registries = [second.registry, second.registry, third.registry]
            found: list[list[EventLine]] = []

            async def one(follower: Follower) -> None:
                found.append(await follow(follower, registries, run.id))

            with trio.fail_after(LATEST_S * 3):
                async with trio.open_nursery() as nursery:
                    for follower in crowd:
                        nursery.start_soon(one, follower)
                    await trio.sleep(dies_s)
                    dying.cut = True
            ends = {events[-1] for events in found}
            assert len(ends) == 1
            (end,) = ends
            assert (end.seq, end.type) == (LOST_SEQ, "run.failed")
            assert json.loads(end.data)["error"] == "RunLostError"
            for events in found:
                check(events[:-1], lines(run))
            for registry in registries:
                record = await registry.get(run.id)
                assert record is not None
                assert (record.status, last_of_lost(record)) == ("failed", (end,))
                assert await heard(registry, run.id, LOST_SEQ) == []

    virtual(main, schedule=schedule)


def test_the_log_says_once_of_a_run_that_it_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    found: list[str] = []

    async def main() -> None:
        state = memory()
        dying = Cable(state)
        async with (
            process(dying) as owner,
            process(Cable(state)) as second,
            process(Cable(state)) as third,
        ):
            run = owner.start([(1000.0, "never said")])
            await owner.registry.adopt_durably(run, linger_s=CONTINUE, readers=0)
            found.append(run.id)
            dying.cut = True
            await trio.sleep(LATEST_S)
            for each in (second, third, second):
                record = await each.registry.get(run.id)
                assert record is not None
                assert record.lost

    virtual(main)
    said = [each.getMessage() for each in caplog.records if "is lost" in each.getMessage()]
    (line,) = said
    assert found[0] in line


def test_a_number_that_no_event_has_is_taken_for_the_newest() -> None:
    async def main() -> None:
        state = memory()
        async with process(Cable(state)) as owner, process(Cable(state)) as other:
            run = owner.start([(0.0, "a"), (3.0, "b"), (3.0, "c")])
            await owner.registry.adopt_durably(run)
            await trio.sleep(1.0)
            for each in (owner, other):
                (first, *_) = await heard_some(each, run.id, 1_000)
                assert first.seq > 3

    virtual(main)


async def heard_some(one: Process, run_id: str, after: int) -> tuple[EventLine, ...]:
    following = await one.registry.follow(run_id)
    assert following is not None
    with following:
        return await following.after(after)


def test_one_who_knows_more_than_is_published_misses_nothing() -> None:
    """The starter's stream broke at an event that nobody elsewhere has heard of yet."""

    async def main() -> None:
        state = memory()
        slow = RunsSettings(publish_s=1.0, inbox_s=0.05)
        async with process(Cable(state), slow) as owner, process(Cable(state), slow) as other:
            run = owner.start([(0.1, str(number)) for number in range(40)])
            await owner.registry.adopt_durably(run)
            found: dict[int, list[EventLine]] = {}

            async def one(after: int) -> None:
                found[after] = await heard(other.registry, run.id, after)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(one, 0)
                await trio.sleep(2.55)
                nursery.start_soon(one, run.journal.seq)
            for after, events in found.items():
                assert events == lines(run)[after:]

    virtual(main)


def test_a_follower_elsewhere_holds_nothing_back() -> None:
    async def main() -> None:
        state, limits = memory(), Limits(window_chunks=1)
        async with (
            process(Cable(state), limits=limits) as owner,
            process(Cable(state)) as other,
        ):
            run = owner.start([(0.0, "x")] * 50)
            await owner.registry.adopt_durably(run, linger_s=CONTINUE, readers=0)
            assert await heard_some(other, run.id, 0)  # and never asks again
            with trio.fail_after(5):
                await run.wait_ended()

    virtual(main)


def test_a_follower_who_has_left_holds_nothing_back() -> None:
    async def main() -> None:
        async with process(Cable(memory()), limits=Limits(window_chunks=1)) as owner:
            run = owner.start([(0.0, "x")] * 50)
            owner.registry.adopt(run, linger_s=CONTINUE, readers=0)
            assert await heard_some(owner, run.id, 0)
            with trio.fail_after(5):
                await run.wait_ended()

    virtual(main)


def test_who_follows_from_elsewhere_keeps_a_run_alive_until_they_have_gone() -> None:
    async def main() -> None:
        state = memory()
        async with process(Cable(state)) as owner, process(Cable(state)) as other:
            run = owner.start([(1.0, "x")] * 500)
            await owner.registry.adopt_durably(run)
            following = await other.registry.follow(run.id)
            assert following is not None
            seq = (await following.after(0))[-1].seq
            owner.registry.leave(run.id)  # the starter; the other one stays
            for _ in range(20):
                seq = (await following.after(seq))[-1].seq
            assert not run.ended
            with trio.fail_after(6):
                await run.wait_ended()
            assert isinstance(run.journal.kept[-1], RunCancelled)

    virtual(main)


def test_an_event_that_is_too_large_to_be_published_is_had_when_the_run_has_ended() -> None:
    large = "x" * (5 * 1024 * 1024)

    async def main() -> None:
        state = memory(1 << 26)
        bounds = RunsSettings(kept_bytes=1 << 25)
        async with process(Cable(state), bounds) as owner, process(Cable(state), bounds) as other:
            run = owner.start([(1.0, "small"), (1.0, large), (1.0, "small")])
            await owner.registry.adopt_durably(run)
            assert await heard(other.registry, run.id) == lines(run)

    virtual(main)


@pytest.mark.parametrize("error", [RuntimeError, Panic])
def test_a_run_that_cannot_be_written_keeps_no_other_from_being_followed(
    error: type[BaseException],
) -> None:
    """What a step gives may raise where it is made fit for clients, or is written."""

    def fit(event: Event) -> Event:
        if isinstance(event, Delta) and event.chunk == "bad":
            raise error("it does not fit")
        return event

    async def main() -> None:
        state = memory()
        async with (
            process(Cable(state)) as other,
            open_registry(state, shared=True, fit=fit, now_s=trio.current_time) as registry,
        ):
            bad, good = (other.start([(0.2, word)] * 40) for word in ("bad", "good"))
            ends: dict[str, int] = {}
            late_s: dict[str, float] = {bad.id: 0.0, good.id: 0.0}

            async def follow(run: Run) -> None:
                following = await other.registry.follow(run.id)
                assert following is not None
                seq = 0
                while batch := await following.after(seq):
                    ends[run.id] = seq = batch[-1].seq
                    told = json.loads(batch[0].data)["at_s"]
                    late_s[run.id] = max(late_s[run.id], trio.current_time() - told)

            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    for run in (bad, good):
                        await registry.adopt_durably(run)
                        nursery.start_soon(follow, run)
            assert ends == {bad.id: LOST_SEQ, good.id: good.journal.seq}
            assert late_s[good.id] < 1.0, "and nothing of it comes late"

    virtual(main)


def test_the_end_is_heard_elsewhere_before_the_run_is_written_down() -> None:
    """It is published too; who had to wait for the record would wait for a state that is slow."""

    async def main() -> None:
        state, late = memory(), RunsSettings(batch_s=60.0)
        async with process(Cable(state), late) as owner, process(Cable(state), late) as other:
            run = owner.start([(1.0, "a"), (1.0, "b")])
            await owner.registry.adopt_durably(run)
            following = await other.registry.follow(run.id)
            assert following is not None
            events: list[EventLine] = []
            with trio.fail_after(5), following:
                while not run.ended or events != lines(run):
                    events += await following.after(events[-1].seq if events else 0)

    virtual(main)


def test_a_run_that_nobody_knows_is_followed_by_nobody() -> None:
    async def main() -> None:
        async with process(Cable(memory())) as one:
            assert await one.registry.follow("0" * 32) is None
            assert await one.registry.get("0" * 32) is None
            assert await one.registry.cancel("0" * 32, "no reason") is None

    virtual(main)


@pytest.mark.parametrize("here", [True, False])
def test_a_run_is_cancelled_through_any_process(*, here: bool) -> None:
    async def main() -> None:
        state = memory()
        async with process(Cable(state)) as owner, process(Cable(state)) as other:
            run = owner.start([(1.0, "x")] * 100)
            await owner.registry.adopt_durably(run)
            registry = owner.registry if here else other.registry
            for _ in range(2):  # again changes nothing
                record = await registry.cancel(run.id, "somebody said so")
                assert record is not None
                assert record.status == "cancelled"
            assert run.journal.kept[-1].type == "run.cancelled"
            assert json.loads(lines(run)[-1].data)["reason"] == "somebody said so"

    virtual(main)


@settings(max_examples=30)
@given(deaf_at_s=st.floats(0.0, 1.0), deaf_s=st.floats(0.0, 4.0), schedule=schedules())
def test_a_run_is_cancelled_elsewhere_whichever_answers_its_process_did_not_hear(
    deaf_at_s: float, deaf_s: float, schedule: int
) -> None:
    """Also where a request was taken out of the inbox, and nobody was told what it was."""

    async def main() -> None:
        state = memory()
        async with process(Cable(state)) as owner, process(Cable(state)) as other:
            run = owner.start([(1000.0, "x")])
            await owner.registry.adopt_durably(run)

            async def break_() -> None:
                await trio.sleep(deaf_at_s)
                owner.cable.deaf = True
                await trio.sleep(deaf_s)
                owner.cable.deaf = False

            async with trio.open_nursery() as nursery:
                nursery.start_soon(break_)
                await trio.sleep(0.5)
                assert await other.registry.cancel(run.id, "somebody said so") is not None
            with trio.fail_after(1.0):
                await run.wait_ended()
            assert isinstance(run.journal.last, RunCancelled)

    virtual(main, schedule=schedule)


def test_what_is_said_is_heard_elsewhere_in_a_moment() -> None:
    """Each event is there by the next look after the next publication."""

    async def main() -> None:
        state, times = memory(), RunsSettings()
        async with process(Cable(state)) as owner, process(Cable(state)) as other:
            run = owner.start([(0.07, "x")] * 40)
            began_s = trio.current_time()
            await owner.registry.adopt_durably(run)
            following = await other.registry.follow(run.id)
            assert following is not None
            seq, late_s = 0, []
            while batch := await following.after(seq):
                seq = batch[-1].seq
                at_s = json.loads(batch[0].data)["at_s"]
                late_s.append(trio.current_time() - began_s - at_s)
            assert late_s[0] <= times.inbox_s + 2 * times.publish_s
            assert max(late_s[1:]) <= 2 * times.publish_s + 0.01

    virtual(main)
