"""The engine: what it takes, what it refuses, and that nothing outlives it."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import Limits, Stream, collect, open_engine, pipeline, step
from orchestra.engine.bindings import NoBindings
from orchestra.engine.current_run import CURRENT_RUN
from orchestra.engine.engine import Engine
from orchestra.engine.run import Run
from orchestra.errors import (
    BindingError,
    CheckError,
    DeadlineError,
    InputError,
    LimitExceededError,
    RunCancelledError,
    RunError,
)
from orchestra.events import RunCancelled, RunFailed, RunFinished, RunStarted, StepSkipped
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.engine.steps import both, fails, numbers, waits

ORDINARY = Limits()


@pipeline
def ask(question: str, times: int = 2, *, after_s: float = 1.0) -> str:
    return both(waits(question, for_s=after_s), times)


@pipeline
def streams(n: int, every_s: float = 1.0) -> Stream[str]:
    return numbers(n, every_s)


@pipeline
def broken(n: int) -> str:
    return fails(n, after_s=1)


@pipeline(deadline_s=3)
def hurries(after_s: float) -> str:
    return waits("in time", for_s=after_s)


def engine_of(
    use: Callable[[Engine], Awaitable[object]], *, limits: Limits = ORDINARY, schedule: int = 0
) -> object:
    """What comes of using an engine."""

    async def main() -> object:
        async with open_engine(limits=limits) as engine:
            return await use(engine)

    return virtual(main, schedule=schedule)


def asks(*args: object, **kwargs: object) -> object:
    async def use(engine: Engine) -> object:
        return await engine.run(ask, *args, **kwargs)  # type: ignore[arg-type]

    return engine_of(use)


# ------------------------------------------------------------------------------------------ inputs


def test_inputs_are_bound_as_a_call_would_bind_them() -> None:
    assert asks("why") == "why|2"
    assert asks("why", 3) == "why|3"
    assert asks(question="why", times=4) == "why|4"
    assert asks("why", times=5, after_s=0.0) == "why|5"


@pytest.mark.parametrize(
    ("args", "kwargs", "field", "says"),
    [
        ((), {}, "question", "pipeline 'ask' was not given 'question', str"),
        ((3,), {}, "question", "input 'question' of pipeline 'ask' takes str, and was given 3"),
        (("q", "x"), {}, "times", "input 'times' of pipeline 'ask' takes int, and was given 'x'"),
        (("q",), {"time": 1}, "time", "has no input 'time'; its inputs are: question, times, "),
        (
            ("q",),
            {"question": "r"},
            "question",
            "was given 'question' twice, by position and by name",
        ),
        (("q", 1, 2.0, 3), {}, None, "too many inputs by position, 4; its inputs are: question, "),
    ],
)
def test_a_wrong_input_is_refused_before_anything_runs_and_is_named(
    args: tuple[object, ...], kwargs: dict[str, object], field: str | None, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        asks(*args, **kwargs)
    assert says in str(caught.value)
    assert caught.value.field == field


@pipeline
def awkward(pipeline: str, self: str) -> str:
    return both(pipeline, self)


@pipeline
def nothing_asked() -> str:
    return waits("nothing", for_s=0)


def test_inputs_may_be_called_what_the_engines_own_parameters_are() -> None:
    async def use(engine: Engine) -> object:
        return await engine.run(awkward, pipeline="a", self="b")

    assert engine_of(use) == "a|b"

    async def refuse(engine: Engine) -> object:
        return engine.start(nothing_asked, {"n": 1})

    with pytest.raises(InputError, match="its inputs are: none"):
        engine_of(refuse)


# ------------------------------------------------------------------------------------------- plans


@pipeline
def problematic(n: int, unused: int) -> str:
    return waits(n, for_s=1)


def test_a_plan_is_run_as_its_pipeline_is() -> None:
    async def use(engine: Engine) -> None:
        plan = engine.plan(ask)
        assert await engine.run(plan, "why", times=3) == "why|3"
        assert await engine.start(plan, {"question": "why"}).result() == "why|2"
        with pytest.raises(InputError, match="'ask' was given too many inputs by position, 4"):
            await engine.run(plan, "q", 1, 2.0, 3)

    engine_of(use)


def test_a_pipeline_is_planned_once_and_one_with_problems_is_refused() -> None:
    async def use(engine: Engine) -> None:
        plan = engine.plan(ask)
        assert engine.plan(ask) is plan
        assert engine.plan(plan) is plan
        assert await engine.start(plan, {"question": "q"}).result() == "q|2"
        with pytest.raises(CheckError):
            engine.plan(problematic)
        with pytest.raises(CheckError):
            await engine.run(problematic, 1, 2)
        assert not engine.runs

    engine_of(use)


def test_only_so_many_plans_are_kept() -> None:
    """A script may define pipelines in a loop."""

    async def use(engine: Engine) -> None:
        first = engine.plan(ask)
        plans = [engine.plan(hurries.using(deadline_s=seconds + 1)) for seconds in range(1030)]
        assert len(engine.shared.plans.kept) == 1024
        assert engine.plan(plans[-1].pipeline) is plans[-1]
        assert engine.plan(ask) is not first

    engine_of(use)


def test_an_engine_without_bindings_says_so() -> None:
    bindings = NoBindings()
    assert bindings.names("model") == ()
    for find in (bindings.model, bindings.embedder, bindings.store):
        with pytest.raises(BindingError, match="'x': the engine was opened without bindings"):
            find("x")


# -------------------------------------------------------------------------------------------- runs


def test_one_run_more_than_the_limit_is_refused_until_one_has_ended() -> None:
    async def use(engine: Engine) -> None:
        runs = [engine.start(ask, {"question": "q", "after_s": s}) for s in (1.0, 9.0)]
        assert set(engine.runs) == {run.id for run in runs}
        with pytest.raises(LimitExceededError, match="2 runs are in flight") as caught:
            engine.start(ask, {"question": "q"})
        assert caught.value.limit == "runs"
        await runs[0].wait_ended()
        assert set(engine.runs) == {runs[1].id}
        assert await engine.run(ask, "again") == "again|2"

    engine_of(use, limits=Limits(runs=2))


@given(schedules(), st.lists(st.integers(0, 5), max_size=4), st.integers(1, 3))
def test_everybody_who_waits_for_the_engine_to_be_idle_hears_of_it(
    schedule: int, times: list[int], waiters: int
) -> None:
    async def use(engine: Engine) -> None:
        for after in times:
            engine.start(ask, {"question": "q", "after_s": float(after)})
        async with trio.open_nursery() as nursery:
            for _ in range(waiters):
                nursery.start_soon(engine.wait_idle)
        assert trio.current_time() == max(times, default=0)
        assert not engine.runs

    engine_of(use, schedule=schedule)


def test_cancel_all_cancels_every_run_and_says_why() -> None:
    async def use(engine: Engine) -> None:
        runs = [engine.start(streams, {"n": 9}) for _ in range(3)]
        await trio.sleep(2)
        engine.cancel_all("because")
        await engine.wait_idle()
        assert trio.current_time() == 2
        for run in runs:
            assert isinstance(run.journal.kept[-1], RunCancelled)
            with pytest.raises(RunCancelledError, match="the run was cancelled: because"):
                await run.result()

    engine_of(use)


# ----------------------------------------------------------------------------------------- closing


@step
async def tidies_up(n: int, for_s: float) -> str:
    try:
        await trio.sleep(9999)
    finally:
        with trio.move_on_after(for_s, shield=True):
            await trio.sleep(9999)
    return ""


@pipeline
def stays(n: int, for_s: float) -> str:
    return tidies_up(n, for_s)


@given(st.booleans(), st.sampled_from([0.0, 2.0, 20.0]), schedules())
def test_when_an_engine_is_closed_its_runs_have_ended_whoever_started_them(
    started: bool, for_s: float, schedule: int
) -> None:
    """A task of another nursery gets five seconds to tidy up; one of its own, all it takes."""
    runs: list[Run] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with open_engine() as engine:
                if started:
                    engine.start(stays, {"n": 1, "for_s": for_s})
                else:
                    nursery.start_soon(run, engine)  # noqa: ASYNC111 - it is what is tested
                await trio.sleep(1)
                runs.extend(engine.runs.values())
            assert trio.current_time() == 1 + (for_s if started else min(for_s, 5))
            assert runs[0].ended or for_s > 5

    async def run(engine: Engine) -> None:
        with pytest.raises(RunCancelledError, match="the engine was closed"):
            await engine.run(stays, 1, for_s)

    virtual(main, schedule=schedule)
    assert isinstance(runs[0].journal.kept[-1], RunCancelled)


def test_a_closed_engine_takes_no_run() -> None:
    async def main() -> None:
        async with open_engine() as engine:
            pass
        with pytest.raises(trio.ClosedResourceError, match="run pipelines in its context"):
            engine.start(ask, {"question": "q"})
        with pytest.raises(trio.ClosedResourceError):
            await engine.run(ask, "q")
        assert not engine.runs

    virtual(main)


def test_a_run_that_is_started_as_the_engine_closes_is_refused_or_cancelled() -> None:
    refused: list[bool] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery, open_engine() as engine:
            engine.start(stays, {"n": 1, "for_s": 2.0})
            nursery.start_soon(late, engine)  # noqa: ASYNC111 - it is what is tested
            await trio.sleep(1)

    async def late(engine: Engine) -> None:
        await trio.sleep(2)
        with pytest.raises(trio.ClosedResourceError):
            engine.start(ask, {"question": "q"})
        refused.append(True)

    virtual(main)
    assert refused


@pytest.mark.parametrize("error", [ValueError("x"), ExceptionGroup("mine", [ValueError("x")])])
def test_what_is_raised_in_the_context_of_an_engine_leaves_it_as_it_is(error: Exception) -> None:
    async def use(engine: Engine) -> None:
        engine.start(ask, {"question": "q"})
        raise error

    with pytest.raises(type(error)) as caught:
        engine_of(use)
    assert caught.value is error


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_is_raised_in_the_nursery_of_an_engine_leaves_it_in_no_group(cancelled: bool) -> None:
    error = ValueError("x")

    async def fails() -> None:
        try:
            await trio.sleep(9999 if cancelled else 1)
        finally:
            raise error

    async def use(engine: Engine) -> None:
        engine.shared.nursery.start_soon(fails)
        with trio.CancelScope(shield=cancelled):
            await trio.sleep(5)

    async def main() -> None:
        with trio.move_on_after(2 if cancelled else 9999):
            async with open_engine() as engine:
                await use(engine)

    with pytest.raises(ValueError, match="x") as raised:
        virtual(main)
    assert raised.value is error


def test_an_engine_that_is_cancelled_leaves_it_to_whoever_cancelled() -> None:
    async def main() -> None:
        with trio.move_on_after(2) as scope:
            async with open_engine() as engine:
                engine.shared.nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()
        assert scope.cancelled_caught

    virtual(main)


def test_an_error_of_a_run_leaves_an_engine_as_it_is() -> None:
    async def use(engine: Engine) -> object:
        return await engine.run(broken, 1)

    with pytest.raises(ValueError, match="told to fail"):
        engine_of(use)


def test_an_error_is_not_lost_where_the_engine_is_cancelled_while_it_closes() -> None:
    async def main() -> None:
        with trio.move_on_after(2):
            async with open_engine() as engine:
                engine.start(stays, {"n": 1, "for_s": 9.0})
                await trio.sleep(1)
                raise ValueError("of the user")

    with pytest.raises(ValueError, match="of the user"):
        virtual(main)


def test_an_engine_can_be_cancelled() -> None:
    async def main() -> None:
        with trio.move_on_after(2) as scope:
            async with open_engine() as engine:
                await engine.run(streams, 9)
        assert scope.cancelled_caught
        with trio.move_on_after(2) as scope:
            async with open_engine() as engine:
                run = engine.start(streams, {"n": 9})
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert isinstance(run.journal.kept[-1], RunCancelled)

    virtual(main)


# ------------------------------------------------------------------------------- cancelling a run


@settings(max_examples=150)
@given(
    st.integers(0, 8).map(lambda number: number / 2), st.booleans(), st.integers(0, 5), schedules()
)
def test_whoever_is_cancelled_while_it_runs_a_pipeline_leaves_nothing_behind(
    after_s: float, at_once: bool, ticks: int, schedule: int
) -> None:
    """Before it starts, in the middle, and in the moment of its end."""

    async def use(engine: Engine) -> None:
        before = trio.lowlevel.current_statistics().tasks_living
        with trio.CancelScope(deadline=trio.current_time() + after_s) as scope:
            if at_once:
                scope.cancel()
            value = await engine.run(streams, 3)
            assert value == "012"
        assert scope.cancelled_caught == (at_once or after_s < 3) or after_s == 3
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        assert not engine.runs
        assert trio.lowlevel.current_statistics().tasks_living == before

    engine_of(use, schedule=schedule)


@settings(max_examples=150)
@given(st.integers(0, 7).map(lambda number: number / 2), st.integers(0, 3), schedules())
def test_a_run_has_one_end_whenever_it_is_cancelled(
    after_s: float, ticks: int, schedule: int
) -> None:
    """Also before its task has run at all, in the moment of its end, and after it."""

    async def use(engine: Engine) -> None:
        run = engine.start(streams, {"n": 3})
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        if after_s:
            await trio.sleep(after_s)
        run.cancel("first")
        run.cancel("second")
        await run.wait_ended()
        run.cancel("third")
        await engine.wait_idle()
        first, *between, last = run.journal.kept
        assert isinstance(first, RunStarted)
        assert not any(isinstance(e, RunFinished | RunFailed | RunCancelled) for e in between)
        if after_s < 3:
            assert isinstance(last, RunCancelled)
            assert last.reason == "first"
        else:
            assert after_s == 3 or isinstance(last, RunFinished)
        if not after_s and not ticks:
            assert any(isinstance(event, StepSkipped) for event in between)

    engine_of(use, schedule=schedule)


def test_a_run_that_is_cancelled_before_it_begins_takes_no_step() -> None:
    """Plain steps, which wait for nothing, neither."""
    ran: list[str] = []

    @step
    def noted(text: str) -> str:
        ran.append(text)
        return text

    @pipeline
    def noting(text: str) -> str:
        return noted(text)

    async def main() -> list[str]:
        async with open_engine() as engine:
            run = engine.start(noting, {"text": "a"})
            run.cancel("at once")
            await run.wait_ended()
            return [event.type for event in run.journal.kept]

    assert virtual(main) == ["run.started", "step.skipped", "run.cancelled"]
    assert not ran


def test_a_result_can_be_waited_for_by_several_and_its_error_does_not_grow() -> None:
    async def use(engine: Engine) -> None:
        run = engine.start(broken, {"n": 1})
        lengths: list[int] = []

        async def wait() -> None:
            try:
                await run.result()
            except ValueError as error:
                length, trace = 0, error.__traceback__
                while trace is not None:
                    length, trace = length + 1, trace.tb_next
                lengths.append(length)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(wait)
        await wait()
        assert len(lengths) == 6
        assert len(set(lengths)) == 1

    engine_of(use)


def test_cancelling_the_wait_for_a_result_leaves_the_run_alone() -> None:
    async def use(engine: Engine) -> None:
        run = engine.start(streams, {"n": 3})
        with trio.move_on_after(1):
            await run.result()
        assert not run.ended
        assert await run.result() == "012"
        assert run.journal.ended
        assert run.pipeline == "streams"

    engine_of(use)


# --------------------------------------------------------------------------------------- deadlines


@pytest.mark.parametrize(
    ("given_s", "of_limits_s", "deadline_s"),
    [(None, None, 3), (2.0, None, 2), (9.0, 1.0, 9), (None, 1.0, 3), (0.0, None, 0)],
)
def test_the_deadline_of_a_run_is_the_nearest_that_was_given(
    given_s: float | None, of_limits_s: float | None, deadline_s: float
) -> None:
    async def use(engine: Engine) -> None:
        run = engine.start(hurries, {"after_s": 100.0}, deadline_s=given_s)
        with pytest.raises(DeadlineError, match=f"within deadline_s={deadline_s:g} s") as caught:
            await run.result()
        assert caught.value.limit == "deadline_s"
        assert trio.current_time() == deadline_s
        last = run.journal.kept[-1]
        assert isinstance(last, RunFailed)
        assert (last.error, last.step) == ("DeadlineError", None)

    engine_of(use, limits=Limits(deadline_s=of_limits_s))


DEADLINES_S: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.floats(), st.integers(), st.booleans(), st.text(), st.just(10**400)
)
"""The last is a number, and more than a float can hold."""


@given(schedules(), DEADLINES_S, st.sampled_from([None, "", "one", "another"]))
def test_whatever_one_run_is_started_with_the_others_go_on(
    schedule: int, deadline_s: Any, run_id: str | None
) -> None:
    async def use(engine: Engine) -> None:
        inputs = {"question": "q"}
        before = engine.start(ask, inputs, run_id="one")
        with suppress(InputError, RunError):
            run = engine.start(ask, inputs, deadline_s=deadline_s, run_id=run_id)
            await run.wait_ended()
            assert run.id not in engine.runs
        after = engine.start(ask, inputs)
        assert [await before.result(), await after.result()] == ["q|2", "q|2"]
        assert not engine.runs

    engine_of(use, schedule=schedule)


@pytest.mark.parametrize("deadline_s", ["5", True, float("nan"), pytest.param(10**400, id="huge")])
def test_a_deadline_that_is_no_number_is_refused_before_anything_runs(deadline_s: Any) -> None:
    async def use(engine: Engine) -> None:
        says = r"engine.start\(ask, ..., deadline_s=.*\): it must be the number"
        with pytest.raises(InputError, match=says):
            engine.start(ask, {"question": "q"}, deadline_s=deadline_s)
        assert not engine.runs

    engine_of(use)


def test_an_id_is_that_of_one_run_until_it_has_ended() -> None:
    async def use(engine: Engine) -> None:
        inputs = {"question": "q"}
        first = engine.start(ask, inputs, run_id="mine")
        says = r"engine.start\(ask, ..., run_id='mine'\): a run with this id is in flight; wait"
        with pytest.raises(RunError, match=says):
            engine.start(ask, inputs, run_id="mine")
        assert engine.runs["mine"] is first
        assert await first.result() == "q|2"
        assert await engine.start(ask, inputs, run_id="mine").result() == "q|2"

    engine_of(use)


def test_limits_have_a_deadline_for_runs_that_have_none() -> None:
    async def use(engine: Engine) -> None:
        with pytest.raises(
            DeadlineError, match="pipeline 'streams' was not done within deadline_s"
        ):
            await engine.run(streams, 9)
        assert await engine.run(hurries, 2.5) == "in time"

    engine_of(use, limits=Limits(deadline_s=2))


@given(schedules())
def test_what_comes_first_decides_whether_a_run_was_late_or_cancelled(schedule: int) -> None:
    async def use(engine: Engine) -> None:
        late = engine.start(hurries, {"after_s": 9.0})
        stopped = engine.start(hurries, {"after_s": 9.0})
        await trio.sleep(2)
        stopped.cancel("early")
        await trio.sleep(2)
        late.cancel("too late")
        with pytest.raises(DeadlineError):
            await late.result()
        with pytest.raises(RunCancelledError, match="early"):
            await stopped.result()

    engine_of(use, schedule=schedule)


@step
async def ends_badly(question: str) -> str:
    try:
        await trio.sleep(9.0)
    finally:
        raise ValueError(question)


@pipeline(deadline_s=3)
def badly(question: str) -> str:
    return ends_badly(question)


@pipeline(deadline_s=3)
def badly_twice(question: str) -> str:
    return both(ends_badly(question), 2)


@pytest.mark.parametrize("plan", [badly, badly_twice])
def test_what_a_step_raises_while_it_is_stopped_is_not_why_its_run_ended(plan: Any) -> None:
    """However many steps it has; the journal tells of the step's error."""

    async def use(engine: Engine) -> None:
        late, stopped = (engine.start(plan, {"question": "q"}) for _ in range(2))
        await trio.sleep(2)
        stopped.cancel("early")
        for run, kind in ((late, DeadlineError), (stopped, RunCancelledError)):
            with pytest.raises(kind):
                await run.result()
            with run.journal.attach() as reader:
                assert "StepFailed" in [type(each).__name__ for each in await reader.after(0)]

    engine_of(use)


# ----------------------------------------------------------------------------------------- reading


@step
async def letters(n: int, every_s: float) -> AsyncIterator[str]:
    for number in range(n):
        await trio.sleep(every_s)
        yield chr(ord("a") + number)


@pipeline
def spelled(n: int, every_s: float) -> Stream[str]:
    return letters(n, every_s)


@settings(max_examples=150)
@given(
    st.integers(0, 8),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 0.5, 3.0]),
    st.integers(1, 3),
    st.none() | st.integers(0, 6),
    schedules(),
)
def test_a_slow_reader_slows_the_run_and_one_who_leaves_frees_it(  # noqa: PLR0917
    n: int, every_s: float, read_s: float, window: int, leaves_after: int | None, schedule: int
) -> None:
    async def use(engine: Engine) -> None:
        run = engine.start(spelled, {"n": n, "every_s": every_s})
        seq = batches = 0
        with run.journal.attach() as reader:
            while leaves_after is None or batches < leaves_after:
                batch = await reader.after(seq)
                if not batch:
                    break
                deltas = sum(event.type == "delta" for event in batch)
                assert deltas <= window
                seq, batches = batch[-1].seq, batches + 1
                await trio.sleep(read_s)
        assert await run.result() == "abcdefgh"[:n]
        if leaves_after is None:
            assert seq == run.journal.seq

    limits = Limits(window_chunks=window, lane_chunks=1)
    engine_of(use, limits=limits, schedule=schedule)


def test_a_stream_collects_to_what_its_type_says() -> None:
    @pipeline
    def whole(n: int) -> str:
        return collect(letters(n, 0.0))

    async def use(engine: Engine) -> object:
        return await engine.run(whole, 3), await engine.run(spelled, 3, 0.0)

    assert engine_of(use) == ("abc", "abc")


def test_a_run_that_failed_is_freed_by_the_garbage_collector() -> None:
    async def use(engine: Engine) -> None:
        run = engine.start(broken, {"n": 1})
        await run.wait_ended()
        await engine.wait_idle()
        kept = weakref.ref(run)
        del run
        gc.collect()
        assert kept() is None

    engine_of(use)


def test_a_run_has_no_dict() -> None:
    """It would take 1.3 kB of each open stream: instances share the keys of 30 attributes only."""

    async def use(engine: Engine) -> None:
        run = engine.start(whole, {"n": 1})
        assert not hasattr(run, "__dict__")
        await run.result()

    @pipeline
    def whole(n: int) -> str:
        return collect(letters(n, 0.0))

    engine_of(use)


def test_an_engine_without_trio_says_how_it_is_reached() -> None:
    async def main() -> None:
        async with open_engine():
            raise AssertionError("it is not opened")

    with pytest.raises(RunError, match=r"await portal\.arun\(pipeline"):
        asyncio.run(main())


@step
async def naps(n: int) -> int:
    await asyncio.sleep(0.1)
    return n


@pipeline
def napping(n: int) -> int:
    return naps(n)


def test_a_step_of_asyncios_is_told_what_to_write() -> None:
    async def main() -> RunFailed:
        async with open_engine() as engine:
            run = engine.start(napping, {"n": 1})
            with pytest.raises(RuntimeError) as caught:
                await run.result()
            place, advice = caught.value.__notes__  # where a script looks
            assert place.startswith("in step 'naps' of pipeline 'napping'")
            assert "write trio.sleep for asyncio.sleep" in advice
            last = run.journal.last
            assert isinstance(last, RunFailed)
            return last

    assert "write trio.sleep for asyncio.sleep" in trio.run(main).message


def test_a_run_has_its_tags_in_its_first_event_and_in_the_context_of_its_steps() -> None:
    """They are a copy, and another run started from there has its own."""
    seen: list[object] = []

    @step
    async def look() -> None:
        seen.append(dict(CURRENT_RUN.get()[1]))

    @pipeline
    def looked() -> None:
        return look()

    async def use(engine: Engine) -> list[object]:
        given = {"team": "search"}
        run = engine.start(looked, {}, tags=given)
        given.clear()
        await run.result()
        other = engine.start(looked, {})
        await other.result()
        assert other.tags == {}
        first = run.journal.kept[0]
        assert isinstance(first, RunStarted)
        return [run.tags, first.tags, *seen]

    tags = {"team": "search"}
    assert engine_of(use) == [tags, tags, tags, {}]


def test_tags_that_exceed_a_bound_are_refused_before_anything_starts() -> None:
    async def use(engine: Engine) -> None:
        with pytest.raises(InputError, match=r"start\(ask, ..., tags=...\): the value of 'n' is 5"):
            engine.start(ask, {"question": "?"}, tags={"n": cast("str", 5)})
        for none in cast("tuple[dict[str, str], ...]", (None, [], "")):
            with pytest.raises(InputError, match=rf"{re.escape(repr(none))} is not a mapping"):
                engine.start(ask, {"question": "?"}, tags=none)
        assert not engine.runs

    engine_of(use)
