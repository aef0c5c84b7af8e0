"""Simulations: a run as it would be, in no time."""

from __future__ import annotations

import inspect
import re
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import FrameType

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import (
    Context,
    Limits,
    Pipeline,
    Stream,
    collect,
    each,
    injected,
    pipeline,
    prompt,
    step,
)
from orchestra.compiler.check import check
from orchestra.errors import CheckError, DefinitionError, InputError, RunCancelledError, RunError
from orchestra.events import RunCancelled, RunFinished, StepStarted
from orchestra.steps import generate
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import HangError, simulate
from orchestra.testing.strategies import schedules
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import ToolCall, ToolResult


@step
async def after(value: int, s: float) -> int:
    await trio.sleep(s)
    return value


@step
async def many(n: int) -> AsyncIterator[str]:
    for _ in range(n):
        yield "."


@step
async def adds(one: int, other: int) -> int:
    return one + other


@pipeline
def sums(n: int) -> int:
    return adds(after(n, 10), adds(after(n, 20), after(n, 30)))


@step
async def passed(chunks: Stream[str]) -> AsyncIterator[str]:
    async for chunk in chunks:
        yield chunk


@pipeline
def streams(n: int) -> Stream[str]:
    return passed(many(n))


def test_a_simulation_says_what_came_out_and_how_long_it_took() -> None:
    began_s = time.monotonic()
    simulation = simulate(sums, World(), n=2)
    assert time.monotonic() - began_s < 10
    assert (simulation.value, simulation.error, simulation.lasted_s) == (6, None, 30)
    assert simulation.tasks_left == 0
    assert isinstance(simulation.events[-1], RunFinished)
    assert simulate(streams, World(limits=Limits(lane_chunks=3)), n=9).lane_peak == 3


def test_who_has_a_world_of_no_interest_need_not_say_it() -> None:
    said, unsaid = simulate(sums, World(), n=2), simulate(sums, n=2)
    assert (unsaid.value, unsaid.lasted_s, unsaid.world) == (6, 30, World())
    assert unsaid.events == said.events


def test_a_world_that_is_passed_by_name_is_told_its_place() -> None:
    with pytest.raises(InputError, match=r"no input 'world'.* simulate\(sums, World\(...\), ...\)"):
        simulate(sums, n=2, world=World())  # type: ignore[call-overload]

    @pipeline
    def worlds_away(world: World) -> World:
        return world

    assert simulate(worlds_away, world=World(schedule=3)).value == World(schedule=3)


def starts(schedule: int) -> tuple[str, ...]:
    events = simulate(sums, World(schedule=schedule), n=1).events
    return tuple(event.step for event in events if isinstance(event, StepStarted))


@given(schedules())
def test_a_world_replays(schedule: int) -> None:
    assert starts(schedule) == starts(schedule)


def test_worlds_with_distinct_schedules_are_distinct() -> None:
    assert len({starts(schedule) for schedule in range(50)}) > 3


@given(st.floats(0, 40))
def test_a_world_cancels_at_its_moment(cancel_at_s: float) -> None:
    simulation = simulate(sums, World(cancel_at_s=cancel_at_s), n=2)
    check_laws(simulation)
    if cancel_at_s < 30:
        assert simulation.lasted_s == cancel_at_s
        assert isinstance(simulation.error, RunCancelledError)
        assert isinstance(simulation.events[-1], RunCancelled)
        assert simulation.events[-1].reason == "the world said so"
        assert simulation.value is None
    else:
        assert simulation.value == 6 or cancel_at_s == 30


@pipeline
def unused(n: int, never: int) -> int:
    return after(n, 1)


def test_what_cannot_run_is_refused_as_an_engine_would() -> None:
    with pytest.raises(CheckError, match="unused-input"):
        simulate(unused, World(), n=1, never=2)
    with pytest.raises(InputError, match="takes int"):
        simulate(sums, World(), n="x")  # type: ignore[call-overload]
    with pytest.raises(
        DefinitionError, match=r"test_simulate.py:\d+: step 'after' is not a pipeline"
    ):
        simulate(after, World(), n=1, by=1)  # type: ignore[call-overload]


def test_inputs_may_stand_behind_the_world() -> None:
    assert simulate(sums, World(), 2).value == simulate(sums, n=2).value == 6
    with pytest.raises(InputError, match="was given 'n' twice, by position and by name"):
        simulate(sums, World(), 2, n=2)  # type: ignore[arg-type, misc]


def test_what_is_no_world_and_where_trio_runs_is_told_how_to_write_it() -> None:
    with pytest.raises(InputError, match=r"write simulate\(sums, World\(\), 2, ...\)"):
        simulate(sums, 2)  # type: ignore[call-overload]

    async def main() -> None:
        simulate(sums, n=2)

    with pytest.raises(RunError, match="Trio is already running here; call it in a plain `def"):
        trio.run(main)


@step
async def leaks(n: int) -> int:
    trio.lowlevel.spawn_system_task(left_over)
    return n


async def left_over() -> None:
    await trio.sleep(999)


@pipeline
def leaking(n: int) -> int:
    return leaks(n)


def test_a_task_that_is_left_is_told_by_its_name_and_line() -> None:
    simulation = simulate(leaking, n=1)
    assert simulation.tasks_left == 1
    assert re.fullmatch(r"\S*left_over at \S*test_simulate.py:\d+", simulation.left[0])


def test_the_result_of_one_that_failed_is_its_error() -> None:
    assert simulate(sums, n=2).result() == 6
    failed = simulate(sums, World(cancel_at_s=1), n=2)
    assert failed.value is None
    with pytest.raises(RunCancelledError) as caught:
        failed.result()
    assert caught.value is failed.error


# ------------------------------------------------------------------------------------------ hangs


@step
async def hangs(n: int, shielded: bool) -> int:
    with trio.CancelScope(shield=shielded):
        await trio.sleep(1e9)  # noqa: ASYNC116 - it returns, as far as mypy knows
    return n


@step
async def never_read(n: int) -> AsyncIterator[str]:
    if n:
        await trio.sleep_forever()
    yield ""


@pipeline
def hanging(n: int) -> int:
    return hangs(n, shielded=False)


@pipeline
def hanging_shielded(n: int) -> int:
    return hangs(n, shielded=True)


@pipeline
def hanging_stream(n: int) -> str:
    return collect(never_read(n))


@pytest.mark.parametrize("hangs_for_ever", [hanging, hanging_shielded, hanging_stream])
def test_a_run_that_never_ends_is_found_at_once_and_says_what_it_did_last(
    hangs_for_ever: Pipeline[..., object],
) -> None:
    began_s = time.monotonic()
    with pytest.raises(HangError, match="still waits in the far future") as caught:
        simulate(hangs_for_ever, World(), n=1)
    assert time.monotonic() - began_s < 10
    told = str(caught.value)
    assert "step.started" in told
    name = "never_read" if hangs_for_ever is hanging_stream else "hangs"
    assert re.search(rf"these steps go on:(\n  .*)*\n  {name} at \S*test_simulate.py:\d+\n", told)


@step
async def passes(n: int) -> int:
    return n


@step
async def hangs_at(n: int) -> int:
    return await hangs.call(n, shielded=False) if n == 29 else n


@step
async def adds_up(ones: list[int], others: list[int]) -> list[int]:
    return ones + others


@pipeline
def hanging_behind_many(ns: list[int]) -> list[int]:
    return adds_up(each(ns, passes, at_once=1), each(ns, hangs_at, at_once=2))


def test_of_a_run_that_hangs_its_steps_are_told_that_go_on_however_long_ago_they_began() -> None:
    with pytest.raises(HangError) as caught:
        simulate(hanging_behind_many, ns=[29, *range(28)])
    goes_on = str(caught.value).split("its last events")[0]
    assert "each#2[0]/hangs_at at " in goes_on
    assert "passes" not in goes_on
    assert "hangs_at" not in str(caught.value).split("its last events")[1]


@step
async def polls(n: int) -> int:
    while n:  # noqa: ASYNC110 - it is what users write
        await trio.sleep(0.01)
    return n


@pipeline
def polling(n: int) -> int:
    return polls(n)


def test_a_step_that_looks_for_ever_with_sleeps_between_is_found_after_so_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not after the 25 million looks that there are until the far future."""
    monkeypatch.setattr("orchestra.testing.simulate.JUMPS", 1000)  # or it would take seconds
    with pytest.raises(HangError, match=r"these steps go on:\n  polls at \S*.py:\d+\n"):
        simulate(polling, n=1)
    assert simulate(polling, n=0).value == 0


@step
async def locks_itself_out(n: int) -> int:
    one, other = trio.Lock(), trio.Lock()

    async def takes(first: trio.Lock, second: trio.Lock) -> None:
        async with first:
            await trio.sleep(n)
            async with second:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(takes, one, other, name="takes one")
        nursery.start_soon(takes, other, one, name="takes other")
    return n


@pipeline
def locked_out(n: int) -> int:
    return locks_itself_out(n)


def test_of_a_step_that_hangs_its_own_tasks_are_told_with_the_line_of_each() -> None:
    """Of a deadlock, who waits and where, and not only the nursery around them."""
    with pytest.raises(HangError) as caught:
        simulate(locked_out, n=1)
    goes_on = str(caught.value).split("its last events")[0]
    line = inspect.getsourcelines(locks_itself_out.call)[1] + 7
    for name in ("takes one", "takes other"):
        assert re.search(rf"\n    {name} at \S*test_simulate.py:{line}\n", goes_on)


def test_a_run_that_never_ends_after_it_was_cancelled_is_found_too() -> None:
    with pytest.raises(HangError):
        simulate(hanging_shielded, World(cancel_at_s=5), n=1)
    assert isinstance(simulate(hanging, World(cancel_at_s=5), n=1).error, RunCancelledError)


# ----------------------------------------------------------------------- what is not simulated so


@step(thread=True)
def in_a_thread(n: int, /, *, more: int = 1) -> bool:
    time.sleep(0.01)  # noqa: ASYNC251 - it stands for work, which takes no virtual time
    return threading.current_thread() is threading.main_thread()


@pipeline
def threaded(n: int) -> bool:
    return in_a_thread(n, more=2)


def test_a_thread_of_a_step_takes_no_time() -> None:
    """Or the clock would jump into the far future while the thread is at work."""
    simulation = simulate(threaded, World(), n=1)
    check_laws(simulation)
    assert simulation.value is False
    assert simulation.lasted_s == 0


def shop() -> AbstractAsyncContextManager[Callable[[], str]]:
    raise ConnectionError("there is no shop in a test")


async def ordered(*, context: Context = injected) -> str:
    """What the shop has."""
    return (await context.kept(shop))()


@step
async def ordered_twice(*, context: Context = injected) -> str:
    return await ordered(context=context) + await ordered(context=context)


@pipeline
def shopping(question: str) -> str:
    return prompt(
        "{bought} {said}",
        bought=ordered_twice(),
        said=collect(generate(question, model="gpt", tools=[ordered])),
    )


def test_a_client_is_replaced_for_steps_and_tools_alike() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def fake_shop() -> AsyncGenerator[Callable[[], str]]:
        seen.append("opened")
        yield lambda: "tea"
        seen.append("closed")

    model = ScriptedTurns.saying(ToolCall("1", "ordered"), "milk")
    world = World(models={"gpt": model}, kept={shop: fake_shop})
    simulation = simulate(shopping, world, question="?")
    check_laws(simulation)
    assert simulation.value == "teatea milk"
    assert seen == ["opened", "closed"]
    assert model.asked[1].messages[-1].content == (ToolResult("1", "ordered", "tea"),)
    assert isinstance(simulate(shopping, attrs.evolve(world, kept={}), question="?").error, OSError)


def test_every_event_is_kept_for_the_laws() -> None:
    simulation = simulate(streams, World(limits=Limits(journal_events=5)), n=100)
    check_laws(simulation)
    assert len(simulation.events) == 106


def test_a_plan_is_kept_for_worlds_of_the_same_names_only() -> None:
    @pipeline
    def ask(question: str) -> Stream[str]:
        return generate(question, model="gpt")

    known = World(models={"gpt": ScriptedModel.saying("a")})
    other = World(models={"gpt": ScriptedModel.saying("b")})
    first, second = simulate(ask, known, question="?"), simulate(ask, other, question="?")
    assert (first.value, second.value) == ("a", "b")
    assert first.plan.regions is second.plan.regions, "most of a simulated run would be planning"
    with pytest.raises(CheckError, match="there is no model 'gpt'"):
        simulate(ask, World(), question="?")


def test_a_pipeline_with_problems_is_checked_once() -> None:
    """Hypothesis repeats an example that fails some hundred times."""
    checked: list[object] = []

    @pipeline
    def unbound(question: str) -> Stream[str]:
        return generate(question, model="gpt")

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is check.__code__:
            checked.append(frame.f_locals["pipeline"])

    was = sys.getprofile()
    sys.setprofile(profile)
    try:
        for _ in range(2):
            with pytest.raises(CheckError, match="there is no model 'gpt'"):
                simulate(unbound, question="Why?")
    finally:
        sys.setprofile(was)
    assert checked == [unbound]
