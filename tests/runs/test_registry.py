"""Runs in this process: kept when they have ended, left by their policy, late where need be."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import Context, injected, open_engine, pipeline, step
from orchestra.accounts import Usage
from orchestra.engine.run import Run
from orchestra.errors import RunLostError, StateError
from orchestra.events import Delta, Event
from orchestra.runs import recorder
from orchestra.runs.archive import Archive
from orchestra.runs.local import CANCEL, CONTINUE, LocalRun
from orchestra.runs.record import Record
from orchestra.runs.recorder import Recorder
from orchestra.runs.registry import open_registry
from orchestra.runs.settings import RunsSettings
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.engine.steps import Panic
from tests.runs.processes import Cable, heard, lines, memory, process, speech

LONG_S = 40.0
lingers = st.sampled_from([CANCEL, CONTINUE, 0.4, 3.0])
times = st.integers(0, 20).map(lambda ticks: ticks + 0.5)
visits = st.lists(st.tuples(times, times).map(sorted).map(tuple), max_size=4)


def ends_s(linger_s: float, visits: list[tuple[float, float]]) -> float:
    """When a run ends that is visited so, the starter's visit first: the model."""
    left_s = visits[0][1]
    for comes_s, goes_s in sorted(visits):
        if comes_s < left_s + linger_s:
            left_s = max(left_s, goes_s)
    return min(left_s + linger_s, LONG_S)


@settings(max_examples=70)
@given(lingers, times, visits, schedules())
def test_a_run_goes_on_for_its_linger_time_after_the_last_who_followed_it(
    linger_s: float, stays_s: float, others: list[tuple[float, float]], schedule: int
) -> None:
    """One who comes back in time keeps it alive, and nobody else does."""
    visits = [(0.0, stays_s), *((comes + 0.25, goes + 0.3) for comes, goes in others)]

    async def main() -> float:
        async with process(Cable(memory()), RunsSettings(inbox_s=5.0)) as one:
            run = one.start([(LONG_S, "x")])
            one.registry.adopt(run, linger_s=linger_s)

            async def visit(comes_s: float, goes_s: float) -> None:
                await trio.sleep(comes_s)
                following = await one.registry.follow(run.id)
                assert following is not None
                with following:
                    await trio.sleep(goes_s - comes_s)

            async with trio.open_nursery() as nursery:
                for each in visits[1:]:
                    nursery.start_soon(visit, *each)
                await trio.sleep(stays_s)
                one.registry.leave(run.id)
            await run.wait_ended()
            return run.journal.kept[-1].at_s

    assert virtual(main, schedule=schedule) == pytest.approx(ends_s(linger_s, visits))


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "60", None, True])
def test_a_bound_of_settings_is_a_number_over_0(wrong: Any) -> None:
    """Anything else, such as None for no bound, would be an error of the first request."""
    message = rf"RunsSettings\(kept_s={wrong!r}\): a bound must be a number greater than 0"
    with pytest.raises(ValueError, match=message):
        RunsSettings(kept_s=wrong)


def test_a_run_is_kept_in_memory_where_no_state_is_shared() -> None:
    async def main() -> None:
        async with (
            open_registry(memory(), shared=False, now_s=trio.current_time) as registry,
            process(Cable(memory())) as other,
        ):
            run = other.start([(0.0, "a"), (0.1, "b")], request_id="r1")
            registry.adopt(run)
            assert await heard(registry, run.id) == lines(run)
            for _ in range(2):  # on its way, and written
                record = await registry.get(run.id)
                assert record is not None
                assert (record.status, record.request_id) == ("finished", "r1")
                assert await heard(registry, run.id, 2) == lines(run)[2:]
                await trio.sleep(0.2)

    virtual(main)


def test_the_recorder_is_woken_once_for_all_that_a_batch_has() -> None:
    """By the time of its batch, and by no start or end: it must not work before a request does."""
    woken: list[float] = []

    class Watching(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task.name == "the recorder of runs":
                woken.append(trio.current_time())

    async def main() -> float:
        async with process(Cable(memory()), RunsSettings(batch_s=1.0)) as one:
            await trio.sleep(5.0)
            trio.lowlevel.add_instrument(watching := Watching())
            began_s = trio.current_time()
            for _ in range(3):
                one.registry.adopt(one.start([(0.1, "a")]))
                await trio.sleep(0.2)
            await trio.sleep(0.5)
            trio.lowlevel.remove_instrument(watching)
            return began_s + 1.0

    due_s = virtual(main)
    assert woken
    assert set(woken) == {due_s}


def test_a_run_that_has_ended_is_found_at_every_moment() -> None:
    """Between its end and its record, too, by those who ask elsewhere: it goes on, or it ended."""

    async def main() -> None:
        state = memory()
        async with process(Cable(state)) as one, process(Cable(state)) as other:
            run = one.start([(0.5, "x")])
            await one.registry.adopt_durably(run)
            seen: list[str] = []
            while not seen or seen[-1] == "running":
                record = await other.registry.get(run.id)
                assert record is not None
                seen.append(record.status)
                await trio.sleep(0.003)
            assert seen[-1] == "finished"

    virtual(main)


@pytest.mark.parametrize("error", [StateError("gone"), RuntimeError("can't start new thread")])
def test_a_run_goes_on_without_its_state_and_is_written_when_that_is_back(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def main() -> None:
        state = memory()
        cable = Cable(state)
        async with process(cable) as one, process(Cable(state)) as other:
            cable.cut, cable.error = True, error
            run = one.start([(0.1, "a"), (0.1, "b")])
            one.registry.adopt(run)
            assert await heard(one.registry, run.id) == lines(run)
            await trio.sleep(3.0)
            assert await heard(one.registry, run.id) == lines(run)
            assert await other.registry.get(run.id) is None
            cable.cut = False
            await trio.sleep(2.0)
            assert await heard(other.registry, run.id) == lines(run)

    virtual(main)
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each.partition(":")[0] for each in sorted(said)] == [
        "records of runs are written again",
        "runs cannot be recorded now; they go on, and are recorded when possible",
        "runs of this process can be followed elsewhere again",
        "runs of this process cannot be followed elsewhere",
    ]


@pytest.mark.parametrize("cut", [True, False])
def test_what_was_not_written_before_the_end_is_told(
    caplog: pytest.LogCaptureFixture, cut: bool
) -> None:
    """Nobody writes it later, and other processes take these runs for lost."""

    async def main() -> None:
        cable = Cable(memory())
        async with process(cable) as one:
            cable.cut = cut
            for _ in range(3):
                one.registry.adopt(one.start([(0.1, "a")]))
            await trio.sleep(1.0)

    virtual(main)
    told = "runs that were not recorded: 3; clients find them lost, or not at all"
    assert (told in caplog.messages) == cut


def test_what_waits_when_a_driver_panics_is_written_afterwards() -> None:
    """A driver in Rust raises what is no `Exception`."""

    async def main() -> None:
        state = memory()
        cable = Cable(state)
        async with process(cable) as one, process(Cable(state)) as other:
            cable.cut, cable.error = True, Panic("index out of bounds")
            run = one.start([(0.1, "a")])
            one.registry.adopt(run)
            await trio.sleep(1.0)
            cable.cut = False
            await trio.sleep(2.0)
            assert await heard(other.registry, run.id) == lines(run)

    virtual(main)


@pytest.mark.parametrize("error", [RuntimeError, Panic])
def test_a_run_that_cannot_be_written_down_keeps_no_other_from_it(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fit(event: Event) -> Event:
        if isinstance(event, Delta) and event.chunk == "b":
            raise error("it does not fit")
        return event

    async def main() -> None:
        state = memory()
        async with open_engine() as engine, open_registry(state, shared=True, fit=fit) as registry:
            runs = [engine.start(speech, {"script": [(0.1, word)]}) for word in ("a", "b", "c")]
            for run in runs:
                registry.adopt(run)
            await trio.sleep(2.0)
            for run in runs:
                record = await registry.get(run.id)
                assert record is not None
                assert record.lost == (run is runs[1])

    virtual(main)
    (said,) = (each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING)
    assert said.endswith("cannot be recorded")


@step
async def costly(tokens: int, context: Context = injected) -> str:
    context.used(Usage(input_tokens=tokens))
    await trio.sleep(0.1)
    return "done"


@pipeline
def costing(tokens: int) -> str:
    return costly(tokens)


def test_a_record_that_cannot_be_encoded_keeps_no_other_from_being_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        state = memory()
        async with open_engine() as engine, open_registry(state, shared=True) as registry:
            runs = [engine.start(costing, {"tokens": each}) for each in (1, 2**64, 3)]
            for run in runs:
                registry.adopt(run)
            await trio.sleep(2.0)
            records = [await registry.get(run.id) for run in runs]
            assert [each is not None and each.lost for each in records] == [False, True, False]

    virtual(main)
    (said,) = (each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING)
    assert said.endswith("cannot be recorded")


def test_what_a_task_of_a_registry_raises_leaves_it_in_no_group() -> None:
    error = ValueError("x")

    async def fails() -> None:
        await trio.sleep(1)
        raise error

    async def main() -> None:
        async with open_registry(memory(), shared=False) as registry:
            registry._nursery.start_soon(fails)
            await trio.sleep(2)

    with pytest.raises(ValueError, match="x") as raised:
        virtual(main)
    assert raised.value is error


def test_who_must_know_that_a_start_is_written_is_told_where_it_is_not() -> None:
    async def main() -> None:
        state = memory()
        cable = Cable(state)
        async with process(cable) as one, process(Cable(state)) as other:
            cable.cut = True
            run = one.start([(1.0, "a")])
            with pytest.raises(StateError):
                await one.registry.adopt_durably(run)
            assert not run.ended
            cable.cut = False
            again = one.start([(1.0, "a")])
            await one.registry.adopt_durably(again)
            record = await other.registry.get(again.id)
            assert record is not None
            assert record.status == "running"

    virtual(main)


def losses(caplog: pytest.LogCaptureFixture) -> int:
    """How often it was said that records are lost."""
    return sum("are lost from now on" in each for each in caplog.messages)


def test_what_waits_for_a_state_that_is_away_has_a_bound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once an outage it is said that records are lost."""
    monkeypatch.setattr(recorder, "LATE_MAX", 3)

    async def main() -> None:
        state = memory()
        cable = Cable(state)
        async with process(cable) as one:
            for outage in range(2):
                cable.cut = True
                ids = []
                for count in range(5):
                    run = one.start([(0.0, "a")])
                    one.registry.adopt(run)
                    ids.append(run.id)
                    await trio.sleep(2.0)
                    assert losses(caplog) == outage + (count >= 3)
                cable.cut = False
                await trio.sleep(2.0)
                found = [await one.registry.get(run_id) is not None for run_id in ids]
                assert found == [False, False, True, True, True]

    virtual(main)


def test_ends_that_are_too_large_to_wait_are_lost_which_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder, "LATE_BYTES", 1)

    async def main() -> None:
        cable = Cable(memory())
        async with process(cable) as one:
            cable.cut = True
            one.registry.adopt(one.start([(0.0, "a")]))
            await trio.sleep(2.0)
            assert losses(caplog) == 1

    virtual(main)


def test_an_id_that_is_used_again_takes_the_room_of_one_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder, "LATE_BYTES", 10_000)

    async def main() -> None:
        cable = Cable(memory())
        async with process(cable) as one:
            cable.cut = True
            for _ in range(40):
                one.registry.adopt(one.start([(0.0, "a")], run_id="0" * 32))
                await trio.sleep(2.0)
            cable.cut = False
            await trio.sleep(2.0)
            record = await one.registry.get("0" * 32)
            assert record is not None
            assert record.status == "finished"

    virtual(main)
    assert losses(caplog) == 0


@pytest.mark.parametrize("what", ["starts", "changes that are to be undone"])
def test_whatever_is_lost_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    monkeypatch.setattr(recorder, "LATE_MAX", 3)
    archive = Archive(memory(), RunsSettings(), shared=False)
    late = Recorder(archive)

    async def undo() -> None:
        """Nothing."""

    async def main() -> None:
        for count in range(5):
            if what == "starts":
                late.started(Record(id=str(count), pipeline="x", process="p", created_s=0.0))
            else:
                late.undo(undo)
            assert losses(caplog) == (count >= 3)

    virtual(main)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_a_change_that_is_to_be_undone_is_lost_only_to_a_full_line(at_s: list[int]) -> None:
    """What comes while another is undone takes the place of the oldest, and of no other."""
    done = list[int]()

    async def undo(number: int) -> None:
        await trio.sleep(1)
        done.append(number)

    async def main() -> None:
        archive = Archive(memory(), RunsSettings(), shared=False)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(recorder, "LATE_MAX", 3)
            late = Recorder(archive)
        for number in range(3):
            late.undo(partial(undo, number))

        async def come() -> None:
            for number, each_s in enumerate(sorted(at_s), 3):
                await trio.sleep_until(each_s + 0.5)
                late.undo(partial(undo, number))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come)
            await late.flush()
        await late.flush()

    virtual(main)
    assert len(done) == len(set(done)), "each once"
    latest = range(3 + len(at_s))[-3:]
    assert {0, *latest} <= {*done}


def test_stopping_writes_everything_and_takes_no_longer_than_is_said() -> None:
    async def main() -> None:
        state = memory()
        async with process(Cable(state)) as other:
            async with process(Cable(state)) as one:
                run = one.start([(LONG_S, "x")])
                one.registry.adopt(run)
            record = await other.registry.get(run.id)
            assert record is not None
            assert record.status == "cancelled"
            assert await heard(other.registry, run.id) == lines(run)

        class Stuck(MemoryState):
            at_once = False

            async def change(self, *_: object) -> Any:
                await trio.sleep_forever()

        began_s = trio.current_time()
        async with process(Cable(Stuck()), RunsSettings(flush_s=2.0)) as one:
            one.registry.adopt(one.start([(0.0, "x")]))
            await trio.sleep(1.0)
        assert trio.current_time() - began_s == pytest.approx(3.0)

    virtual(main)


def test_many_runs_that_end_together_are_all_written() -> None:
    """More than go into one batch."""

    async def main() -> None:
        state = memory(1 << 24)
        async with process(Cable(state)) as one, process(Cable(state)) as other:
            runs = [one.start([(0.1, "x")]) for _ in range(700)]
            for run in runs:
                one.registry.adopt(run)
            await trio.sleep(3.0)
            for run in runs:
                record = await other.registry.get(run.id)
                assert record is not None
                assert record.status == "finished"

    virtual(main)


def test_who_writes_down_many_events_lets_others_run_between_them() -> None:
    """However many runs they are of."""
    turns: list[int] = []

    def fit(event: Event) -> Event:
        turns[-1] += 1
        return event

    async def turning() -> None:
        while True:
            turns.append(0)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        archive = Archive(memory(1 << 24), RunsSettings(), shared=False)
        async with process(Cable(memory())) as one, trio.open_nursery() as nursery:
            late = Recorder(archive, fit)
            runs = [one.start([(0.0, "x")] * 20) for _ in range(50)]
            for run in runs:
                await run.wait_ended()
                record = Record(id=run.id, pipeline="speech", process="p", created_s=0.0)
                late.ended(LocalRun(run, record, CANCEL, 0))
            nursery.start_soon(turning)
            await trio.lowlevel.checkpoint()
            await late.flush()
            nursery.cancel_scope.cancel()

    virtual(main)
    assert sum(turns) > 1_000
    assert max(turns) < 600


def test_a_run_whose_record_is_lost_here_is_not_said_to_go_on() -> None:
    """Its process is alive, and knows nothing of it any more."""

    async def main() -> None:
        state = memory()
        async with process(Cable(state)) as one:
            run = one.start([(0.3, "x")])
            await one.registry.adopt_durably(run)
            del one.registry._local.runs[run.id]
            record = await one.registry.get(run.id)
            assert record is not None
            assert record.lost

    virtual(main)


def test_a_process_that_was_taken_for_dead_does_not_contradict() -> None:
    async def main() -> None:
        state = memory()
        cable = Cable(state)
        async with process(cable) as one, process(Cable(state)) as other:
            run = one.start([(20.0, "x")])
            await one.registry.adopt_durably(run)
            cable.cut = True
            await trio.sleep(10.0)
            before = await heard(other.registry, run.id)
            cable.cut = False
            await run.wait_ended()
            await trio.sleep(1.0)
            assert await heard(other.registry, run.id) == before
            record = await other.registry.get(run.id)
            assert record is not None
            assert record.lost

    virtual(main)


def test_a_run_that_was_lost_is_known_as_long_as_one_that_has_ended() -> None:
    async def main() -> None:
        settings, state = RunsSettings(kept_s=100.0), memory()
        cable = Cable(state)
        async with process(cable, settings) as one, process(Cable(state), settings) as other:
            run = one.start([(1000.0, "never said")])
            await one.registry.adopt_durably(run)
            cable.cut = True
            await trio.sleep(50.0)
            record = await other.registry.get(run.id)
            assert record is not None
            assert record.lost
            await trio.sleep(99.0)
            assert await other.registry.get(run.id) == record
            await trio.sleep(2.0)
            assert await other.registry.get(run.id) is None

    virtual(main)


def test_what_is_kept_no_longer_is_said_to_be_gone() -> None:
    async def main() -> None:
        async with process(Cable(memory()), RunsSettings(kept_bytes=10)) as one:
            run = one.start([(0.0, "x")])
            one.registry.adopt(run)
            await trio.sleep(1.0)
            record = await one.registry.get(run.id)
            assert record is not None
            assert record.status == "finished"
            with pytest.raises(RunLostError, match="no longer kept"):
                await heard(one.registry, run.id)

    virtual(main)


def test_a_run_that_ends_before_the_others_are_written_has_ended() -> None:
    """It is the last of more starts than go into one batch, and the first to end."""

    async def main() -> None:
        state = memory(1 << 24)
        async with process(Cable(state)) as one, process(Cable(state)) as other:
            for _ in range(2 * recorder.STARTS_AT_ONCE):
                one.registry.adopt(one.start([(9.0, "x")]))
            run = one.start([(0.0, "x")])
            one.registry.adopt(run)
            await trio.sleep(2.0)
            record = await other.registry.get(run.id)
            assert record is not None
            assert record.status == "finished"

    virtual(main)


def test_one_who_comes_and_goes_leaves_no_tasks_behind() -> None:
    async def main() -> None:
        async with process(Cable(memory())) as one:
            run = one.start([(LONG_S, "x")])
            one.registry.adopt(run, linger_s=20.0, readers=0)
            await trio.sleep(0.1)
            before = trio.lowlevel.current_statistics().tasks_living
            for _ in range(10):
                following = await one.registry.follow(run.id)
                assert following is not None
                following.close()
                following.close()  # again changes nothing
                await trio.sleep(0.1)
            assert trio.lowlevel.current_statistics().tasks_living <= before + 1

    virtual(main)


def test_who_fails_to_hear_of_an_end_ends_no_other_run(caplog: pytest.LogCaptureFixture) -> None:
    """A handler of the usage log that raises is its own fault, and no run's."""
    told: list[str] = []

    def tell(run: Run) -> None:
        told.append(run.id)
        raise ConnectionError("nobody takes the line")

    async def main() -> None:
        async with (
            open_registry(memory(), shared=False, tell_end=tell) as registry,
            open_engine() as engine,
        ):
            runs = [engine.start(speech, {"script": [(float(at), "x")]}) for at in (1, 2)]
            for run in runs:
                registry.adopt(run)
            assert [await run.result() for run in runs] == ["x", "x"]
            assert told == [run.id for run in runs]
            for run in runs:
                record = await registry.get(run.id)
                assert record is not None
                assert record.status == "finished"

    virtual(main)
    assert [each.exc_info is not None for each in caplog.records] == [True, True]
    assert "a callback for its end failed" in caplog.text


def test_a_run_that_lingers_and_has_ended_is_held_by_no_task() -> None:
    """An hour's patience with whoever left is not an hour's hold on all that the run has said."""

    async def main() -> None:
        async with process(Cable(memory())) as one:
            before = trio.lowlevel.current_statistics().tasks_living
            for _ in range(10):
                run = one.start([(1.0, "x")])
                one.registry.adopt(run, linger_s=3600.0)
                one.registry.leave(run.id)
            await trio.sleep(5.0)
            assert trio.lowlevel.current_statistics().tasks_living == before

    virtual(main)


def test_a_run_that_was_lost_is_not_begun_again_by_a_late_record() -> None:
    async def main() -> None:
        state = memory()
        async with process(Cable(state)) as one, process(Cable(state)) as other:
            run = one.start([(LONG_S, "x")])
            await one.registry.adopt_durably(run)
            lost = await other.registry._archive.lose(run.id, one.registry.process)
            assert lost is not None
            one.registry.adopt(run)
            await trio.sleep(1.0)
            record = await other.registry.get(run.id)
            assert record == lost

    virtual(main)
