"""Calls: deadlines limit exactly what they name, and a generator is always ended."""

from __future__ import annotations

import threading
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import (
    Context,
    Limits,
    Policy,
    Stream,
    collect,
    injected,
    open_engine,
    pipeline,
    race,
    step,
)
from orchestra.accounts import Caller, Usage
from orchestra.errors import BindingError, DeadlineError, EdgeTypeError, LimitExceededError
from orchestra.events import Delta, RunFinished, StepCancelled, StepFailed, StepFinished
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.steps import Step
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import schedules
from orchestra.testing.world import World
from tests.engine.steps import both, first, numbers, slowly, waits

NARROW = Limits(lane_chunks=1)
ORDINARY = World()


def lawful(
    pipeline: Pipeline[..., object], world: World = ORDINARY, **inputs: object
) -> Simulation:
    simulation = simulate(pipeline, world, **inputs)
    check_laws(simulation)
    return simulation


# ------------------------------------------------------------------------------------ deadlines


def busy_for_nine_seconds(said: Step[[str], Stream[str]], beside: list[trio.Nursery]) -> object:
    """The result of a run of `said`, or its error, in virtual time, beside tasks in `beside[0]`."""

    @pipeline
    def asked(question: str) -> Stream[str]:
        return said(question)

    async def main() -> object:
        async with trio.open_nursery() as nursery, open_engine() as engine:
            beside.append(nursery)
            run = engine.start(asked, {"question": "x"})
            await run.wait_ended()
            return run.error or await run.result()

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.0))


async def made_ready(ready: trio.Event) -> None:
    """Set the event in time; but nothing else runs before nine seconds have passed."""
    await trio.sleep(0.15)
    ready.set()
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    clock.jump(9.0)


@pytest.mark.parametrize("idle_s", [None, 5.0])
def test_a_chunk_that_is_there_in_time_counts_although_the_process_was_busy(
    idle_s: float | None,
) -> None:
    """It is ready before the deadline; that it is seen behind it is not its producer's fault."""
    beside: list[trio.Nursery] = []

    @step(policy=Policy(first_chunk_s=0.2, idle_s=idle_s))
    async def said(question: str) -> AsyncIterator[str]:
        for _ in range(3):
            ready = trio.Event()
            beside[0].start_soon(made_ready, ready)
            await ready.wait()
            yield question

    assert busy_for_nine_seconds(said, beside) == "xxx"


LATE = {"first_chunk_s": Policy(first_chunk_s=0.2), "idle_s": Policy(idle_s=0.2)}


async def a_cancel_scope(opened: AsyncExitStack) -> None:
    opened.enter_context(trio.CancelScope())


async def a_nursery(opened: AsyncExitStack) -> None:
    nursery = await opened.enter_async_context(trio.open_nursery())
    nursery.start_soon(trio.sleep_forever)


@pytest.mark.parametrize("limit", LATE)
@pytest.mark.parametrize("enter", [a_cancel_scope, a_nursery])
def test_a_generator_with_a_scope_open_at_its_yield_is_late_in_a_busy_process(
    limit: str, enter: Callable[[AsyncExitStack], Awaitable[object]]
) -> None:
    """Its own scope is inside that of the limit, so the chunk cannot leave without it."""
    beside: list[trio.Nursery] = []
    ended: list[str] = []

    @step(policy=LATE[limit])
    async def said(question: str) -> AsyncIterator[str]:
        async with AsyncExitStack() as opened:
            opened.callback(ended.append, question)
            await enter(opened)
            if limit == "idle_s":
                yield question
            ready = trio.Event()
            beside[0].start_soon(made_ready, ready)
            await ready.wait()
            yield question
            await trio.sleep(1)

    error = busy_for_nine_seconds(said, beside)
    assert str(error) == f"step 'said' {WORDS[limit]} within {limit}=0.2 s"
    assert isinstance(error, DeadlineError)
    assert ended == ["x"]


@pytest.mark.parametrize("limit", LATE)
@pytest.mark.parametrize("waits_s", [0, 1])
def test_no_chunk_of_a_generator_with_a_shielded_scope_open_at_its_yield_is_lost(
    limit: str, waits_s: float
) -> None:
    """The limit cannot stop it before it has left that scope; then it does, if it waits at all."""
    beside: list[trio.Nursery] = []

    @step(policy=LATE[limit])
    async def said(question: str) -> AsyncIterator[str]:
        with trio.CancelScope(shield=True):
            for _ in range(3):
                ready = trio.Event()
                beside[0].start_soon(made_ready, ready)
                await ready.wait()
                yield question
        if waits_s:
            await trio.sleep(waits_s)

    late = f"step 'said' {WORDS[limit]} within {limit}=0.2 s"
    assert str(busy_for_nine_seconds(said, beside)) == (late if waits_s else "xxx")


@pytest.mark.parametrize("limit", LATE)
def test_a_generator_that_blocks_the_process_itself_may_have_a_scope_open_at_its_yield(
    limit: str,
) -> None:
    """Nothing has looked at the clock before its chunk came."""

    @step(policy=LATE[limit])
    async def said(question: str) -> AsyncIterator[str]:
        with trio.CancelScope():
            for _ in range(2):
                await trio.lowlevel.checkpoint()
                clock = trio.lowlevel.current_clock()
                assert isinstance(clock, trio.testing.MockClock)
                clock.jump(9.0)
                yield question

    assert busy_for_nine_seconds(said, []) == "xx"


@step
async def chunks(delays_s: list[float], end_s: float) -> AsyncIterator[str]:
    for delay_s in delays_s:
        await trio.sleep(delay_s)
        yield "."
    await trio.sleep(end_s)


def read_slowly(policy: Policy, read_s: float) -> Pipeline[..., object]:
    timed = chunks.using(policy)

    @pipeline(name="read_slowly")
    def defined(delays_s: list[float], end_s: float) -> str:
        return slowly(timed(delays_s, end_s), each_s=read_s)

    return defined


halves = st.integers(0, 8).map(lambda number: number / 2)
limits_s = st.none() | st.integers(1, 6).map(lambda number: number - 0.25)


def foreseen(
    delays_s: list[float], end_s: float, read_s: float, policy: Policy
) -> tuple[str, float] | None:
    """Which limit is reached, and when: the producer, one place between, and a reader."""
    total_s = policy.timeout_s or inf
    now_s, taken_s = 0.0, -inf  # when the last chunk was put, and when it was taken
    for number, delay_s in enumerate([*delays_s, end_s]):
        limit = "idle_s" if number else "first_chunk_s"
        limit_s: float = getattr(policy, limit) or inf
        now_s += min(delay_s, limit_s)
        if now_s >= total_s:
            return "timeout_s", total_s
        if limit_s < delay_s:
            return limit, now_s
        if number < len(delays_s):
            now_s = max(now_s, taken_s)
            taken_s = max(taken_s + read_s, now_s)
            if now_s > total_s:
                return "timeout_s", total_s
    return None


@settings(max_examples=300)
@given(
    st.lists(halves, max_size=5),
    halves,
    st.sampled_from([0.0, 3.0]),
    st.builds(Policy, timeout_s=limits_s, first_chunk_s=limits_s, idle_s=limits_s),
    schedules(),
)
def test_a_stream_is_stopped_by_the_limit_that_it_reaches_and_at_that_moment(
    delays_s: list[float], end_s: float, read_s: float, policy: Policy, schedule: int
) -> None:
    """`first_chunk_s` and `idle_s` wait for the producer alone, whatever its reader does."""
    world = World(limits=NARROW, schedule=schedule)
    simulation = lawful(read_slowly(policy, read_s), world, delays_s=delays_s, end_s=end_s)
    limit = foreseen(delays_s, end_s, read_s, policy)
    if limit is None:
        assert simulation.error is None, simulation.error
        return
    assert isinstance(simulation.error, DeadlineError)
    assert (simulation.error.limit, simulation.lasted_s) == limit
    value_s = getattr(policy, limit[0])
    assert f"step 'chunks' {WORDS[limit[0]]} within {limit[0]}={value_s:g} s" in str(
        simulation.error
    )


WORDS = {
    "timeout_s": "was not done",
    "first_chunk_s": "gave no chunk",
    "idle_s": "gave no further chunk",
}


@given(halves, limits_s)
def test_a_value_is_stopped_by_its_timeout(after_s: float, timeout_s: float | None) -> None:
    timed = waits.using(Policy(timeout_s=timeout_s))

    @pipeline
    def defined(after_s: float) -> str:
        return timed("value", after_s)

    simulation = lawful(defined, after_s=after_s)
    if timeout_s is None or after_s < timeout_s:
        assert simulation.value == "value"
    else:
        assert isinstance(simulation.error, DeadlineError)
        assert simulation.error.limit == "timeout_s"
        assert simulation.lasted_s == timeout_s


# ------------------------------------------------------------------------------------- generators

ENDED: list[str] = []


@step
async def tidy(n: int, how: str) -> AsyncIterator[str]:
    """Chunks, with something to tidy up afterwards, in one of the ways that people write."""
    ENDED.append("began")
    try:
        if how == "scope":
            with trio.move_on_after(1000):
                for number in range(n):
                    yield str(number)  # noqa: ASYNC101, ASYNC119 - as people write
        elif how == "nursery":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                for number in range(n):
                    yield str(number)  # noqa: ASYNC101, ASYNC119 - as people write
                nursery.cancel_scope.cancel()
        elif how == "nested":
            async with aclosing(tidy.call(n, "plain")) as chunks:
                async for chunk in chunks:
                    yield chunk  # noqa: ASYNC119 - as people write
        else:
            for number in range(n):
                await trio.sleep(0.5)
                yield str(number)
    finally:
        try:
            if how == "shielded":
                with trio.move_on_after(2, shield=True):
                    await trio.sleep(1)
            elif how == "awaits":
                await trio.lowlevel.checkpoint()  # noqa: ASYNC102 - as people write
        finally:
            ENDED.append("ended")


WAYS = ["plain", "scope", "nursery", "nested", "shielded", "awaits"]


@pipeline
def reads_some(n: int, how: str, most: int) -> str:
    return waits(first(tidy(n, how), most), for_s=5)


@pipeline
def reads_slowly(n: int, how: str) -> str:
    return slowly(tidy(n, how), each_s=1)


@pipeline
def loses(n: int, how: str) -> Stream[str]:
    return race(tidy(n, how), numbers(n))


timed_tidy = tidy.using(Policy(timeout_s=500, idle_s=400))


@pipeline
def reads_slowly_in_time(n: int, how: str) -> str:
    return slowly(timed_tidy(n, how), each_s=1)


@settings(max_examples=200)
@given(
    st.sampled_from([reads_slowly, reads_slowly_in_time]),
    st.sampled_from(WAYS),
    st.integers(0, 5),
    st.none() | st.integers(0, 20).map(lambda number: number / 4 + 0.1),
    schedules(),
)
def test_a_generator_has_ended_when_its_step_has_wherever_it_was_stopped(
    reads: Pipeline[..., object], how: str, n: int, cancel_at_s: float | None, schedule: int
) -> None:
    """Between two chunks or in the middle of one; in a scope or a nursery of its own."""
    ENDED.clear()
    world = World(limits=NARROW, schedule=schedule, cancel_at_s=cancel_at_s)
    simulation = simulate(reads, world, n=n, how=how)
    assert ENDED.count("began") == ENDED.count("ended")
    assert simulation.tasks_left == 0
    if simulation.error is None:
        assert simulation.value == "".join(map(str, range(n)))
    else:
        assert type(simulation.error).__name__ == "RunCancelledError", simulation.error


@settings(max_examples=100)
@given(st.sampled_from(WAYS), st.integers(1, 3), schedules())
def test_a_generator_has_ended_when_its_reader_has_left(how: str, most: int, schedule: int) -> None:
    ENDED.clear()
    world = World(limits=NARROW, schedule=schedule)
    simulation = simulate(reads_some, world, n=9, how=how, most=most)
    assert simulation.value == "012"[:most]
    assert ENDED.count("began") == ENDED.count("ended")
    (cancelled,) = [e for e in simulation.events if isinstance(e, StepCancelled)]
    assert cancelled.step == "tidy"


@given(st.sampled_from(WAYS), schedules())
def test_a_generator_has_ended_when_it_has_lost_a_race(how: str, schedule: int) -> None:
    ENDED.clear()
    simulate(loses, World(limits=NARROW, schedule=schedule), n=3, how=how)
    assert ENDED.count("began") == ENDED.count("ended")


@step
async def gives_up(n: int) -> AsyncIterator[str]:
    """It stops waiting for its reader after a second and a half, and says so."""
    with trio.move_on_after(1.5) as scope:
        for number in range(n):
            yield str(number)  # noqa: ASYNC101, ASYNC119 - as people write
    if scope.cancelled_caught:
        yield "!"


@pipeline
def reader_is_given_up(n: int) -> str:
    return slowly(gives_up(n), each_s=1)


def test_a_scope_around_a_yield_covers_the_wait_for_the_reader_and_no_more() -> None:
    """A `yield` is a place where a generator waits, like any other."""
    simulation = lawful(reader_is_given_up, World(limits=NARROW), n=9)
    assert simulation.error is None
    value = str(simulation.value)
    assert value.endswith("!")
    assert value[:-1] == "0123"[: len(value) - 1]


# -------------------------------------------------------------------------------------- arguments


@step
async def shapes(one: int, two: int = 2, /, *rest: int, named: int = 4, **others: int) -> str:
    return f"{one} {two} {rest} {named} {sorted(others.items())}"


@step
def only_places(one: int, two: str, /) -> str:
    return f"{one} {two}"


@step(thread=True)
def in_a_thread(one: int, /, *, named: str) -> str:
    return f"{one} {named} {threading.current_thread() is threading.main_thread()}"


@step
async def nested_arguments(value: dict[str, list[tuple[object, int]]]) -> str:
    return str(value)


@pipeline
def all_shapes(n: int, text: str) -> str:
    one = shapes(n, n, n, 7, named=n, other=n)
    other = both(only_places(n, text), in_a_thread(n, named=text))
    nested = nested_arguments({"a": [(text, n), (n, 2)], "b": []})
    return both(both(one, shapes(n)), both(other, nested))


def test_arguments_arrive_as_they_were_passed() -> None:
    simulation = lawful(all_shapes, n=5, text="t")
    assert simulation.value == (
        "5 5 (5, 7) 5 [('other', 5)]|5 2 () 4 []|5 t|5 t False|{'a': [('t', 5), (5, 2)], 'b': []}"
    )


def test_a_step_in_a_thread_runs_in_one() -> None:
    async def main() -> object:
        async with open_engine() as engine:
            return await engine.run(threaded, 3)

    assert trio.run(main) == "3 x False"


@pipeline
def threaded(n: int) -> str:
    return in_a_thread(n, named="x")


# ---------------------------------------------------------------------------------------- context


@step
async def spends(n: int, context: Context = injected) -> str:
    context.used(Usage(n, 1))
    context.used(Usage(0, n))
    context.used(None)  # as of a model that tells nothing
    return f"{context.step} {len(context.run_id)}"


@step
async def spends_and_streams(n: int, *, context: Context = injected) -> AsyncIterator[str]:
    try:
        for number in range(n):
            await trio.sleep(1)
            yield str(number)
    finally:
        context.used(Usage(100, 0))


@step
async def spends_and_fails(n: int, context: Context = injected) -> AsyncIterator[str]:
    context.used(Usage(1000, 0))
    if n:
        raise ValueError("after it has spent")
    yield ""


@pipeline
def spending(n: int) -> str:
    winner = race(numbers(n, every_s=0.5), spends_and_streams(n), spends_and_fails(n))
    return both(spends(n), collect(winner))


@given(schedules())
def test_the_account_of_a_run_has_what_every_step_has_used_also_of_those_that_lost(
    schedule: int,
) -> None:
    simulation = lawful(spending, World(schedule=schedule), n=3)
    assert str(simulation.value).startswith("spends 32|")
    (last,) = simulation.events[-1:]
    assert isinstance(last, RunFinished)
    assert last.usage == Usage(3 + 100 + 1000, 1 + 3)
    (spent,) = [
        event.usage
        for event in simulation.events
        if isinstance(event, StepFinished) and event.step == "spends"
    ]
    assert spent == Usage(3, 4)


def test_a_run_in_which_nobody_reports_has_no_usage() -> None:
    simulation = lawful(reads_slowly, n=1, how="plain")
    assert isinstance(simulation.events[-1], RunFinished)
    assert simulation.events[-1].usage is None


@step
async def looks_around(n: int, context: Context = injected) -> list[str]:
    missing: list[str] = []
    for find in (context.model, context.embedder, context.store):
        try:
            find(str(n))
        except BindingError as error:
            missing.append(str(error).partition(";")[0])
    return missing


@pipeline
def looking_around(n: int) -> list[str]:
    return looks_around(n)


def test_a_step_finds_what_the_deployment_has_and_hears_of_what_it_has_not() -> None:
    says = "this world has no {} '1'"
    seams = ("model", "embedder", "store")
    assert lawful(looking_around, n=1).value == [says.format(seam) for seam in seams]


# ----------------------------------------------------------------------------------------- output


@step
async def numbers_for_text(n: int) -> AsyncIterator[str]:
    yield n  # type: ignore[misc]  # as careless steps do


@pipeline
def not_text(n: int) -> Stream[str]:
    return numbers_for_text(n)


@pipeline
def not_text_collected(n: int) -> str:
    return collect(numbers_for_text(n))


@step
async def read_as_text(pieces: Stream[str]) -> list[str]:
    return [piece async for piece in pieces]


@pipeline
def not_text_read(n: int) -> list[str]:
    return read_as_text(numbers_for_text(n))


@pytest.mark.parametrize("careless", [not_text, not_text_collected, not_text_read])
def test_a_chunk_of_another_class_than_annotated_is_an_error_of_the_step_that_yields_it(
    careless: Pipeline[..., object],
) -> None:
    simulation = lawful(careless, n=3)
    error = simulation.error
    assert isinstance(error, EdgeTypeError)
    assert "annotated to yield str and yielded 3, an instance of int" in str(error)
    assert "in step 'numbers_for_text'" in error.__notes__[0]
    (failed,) = [event for event in simulation.events if isinstance(event, StepFailed)]
    assert failed.step == "numbers_for_text"


@pytest.mark.parametrize("policy", [None, Policy(idle_s=5)], ids=["no policy", "idle_s"])
@pytest.mark.parametrize("enter", [a_cancel_scope, a_nursery])
def test_a_chunk_of_another_class_is_refused_at_the_yield(
    policy: Policy | None, enter: Callable[[AsyncExitStack], Awaitable[object]]
) -> None:
    """So scopes and nurseries around it end as with any error; and one may be dropped."""
    heard: list[EdgeTypeError] = []

    @step(policy=policy)
    async def said(n: int) -> AsyncIterator[str]:
        async with AsyncExitStack() as opened:
            await enter(opened)
            try:
                yield n  # type: ignore[misc]
            except EdgeTypeError as error:
                heard.append(error)
            yield "text"
            yield n  # type: ignore[misc]

    @pipeline
    def asked(n: int) -> Stream[str]:
        return said(n)

    simulation = lawful(asked, n=3)
    assert isinstance(simulation.error, EdgeTypeError)
    assert [event.chunk for event in simulation.events if isinstance(event, Delta)] == ["text"]
    assert len(heard) == 1


def test_a_step_that_drops_every_error_about_its_chunks_is_stopped() -> None:
    @step
    async def said(n: int) -> AsyncIterator[str]:
        while True:
            with suppress(EdgeTypeError):
                yield n  # type: ignore[misc]

    @pipeline
    def asked(n: int) -> Stream[str]:
        return said(n)

    assert isinstance(lawful(asked, n=3).error, EdgeTypeError)


@given(st.sampled_from([(float, 1), (int, True), (str | None, None), (Any, object()), (int, 1)]))
def test_a_chunk_of_a_class_that_the_annotation_accepts_is_a_chunk(kind: tuple[Any, Any]) -> None:
    annotation, chunk = kind

    async def said() -> AsyncIterator[object]:
        yield chunk

    said.__annotations__["return"] = types.GenericAlias(AsyncIterator, (annotation,))
    saying = step(said)

    @pipeline
    def asked() -> Stream[object]:
        return saying()

    assert lawful(asked).value == [chunk]


@pipeline
def collected(n: int) -> str:
    return collect(numbers(n))


@pipeline
def streamed(n: int) -> Stream[str]:
    return numbers(n)


@pytest.mark.parametrize("whole", [collected, streamed])
@pytest.mark.parametrize("limits", [Limits(output_chunks=3), Limits(output_bytes=3)])
def test_what_is_kept_whole_has_a_bound(whole: Pipeline[..., object], limits: Limits) -> None:
    assert lawful(whole, World(limits=limits), n=3).value == "012"
    simulation = lawful(whole, World(limits=limits), n=4)
    assert isinstance(simulation.error, LimitExceededError)
    failed = [event.step for event in simulation.events if isinstance(event, StepFailed)]
    assert failed == (["collect"] if whole is collected else [])


def test_threads_of_one_tenant_that_are_stuck_leave_some_for_the_others() -> None:
    """Nothing can stop a thread: so many are stuck, and the next waits in their own line."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    @step(thread=True)
    def sticks(n: int) -> int:
        begun.release()
        go_on.wait()
        return n

    @step(thread=True)
    def returns(n: int) -> int:
        return n

    @pipeline
    def stuck(n: int) -> int:
        return sticks(n)

    @pipeline
    def free(n: int) -> int:
        return returns(n)

    async def main() -> list[int]:
        try:
            with trio.fail_after(60):
                async with open_engine() as engine:
                    ours = (Caller("acme"), Caller("acme", "ann", end_user=True))
                    other = Caller("other")
                    runs = [engine.start(stuck, {"n": n}, caller=ours[n % 2]) for n in range(50)]
                    for _ in range(30):
                        await trio.to_thread.run_sync(begun.acquire)
                    assert await engine.start(free, {"n": 7}, caller=other).result() == 7
                    assert not begun.acquire(blocking=False)
                    go_on.set()
                    return [await run.result() for run in runs]
        finally:
            go_on.set()

    assert trio.run(main) == list(range(50))
