"""What a step tells of its work: in order, as it was, from wherever it is told, and bounded."""

from __future__ import annotations

from collections import Counter

import attrs
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, Stream, injected, open_engine, pipeline, step
from orchestra.engine.calls.context import TOLD_BYTES
from orchestra.engine.journal import Journal
from orchestra.engine.lanes.output import Output
from orchestra.errors import LimitExceededError
from orchestra.events import (
    ArmRestarted,
    Event,
    StepFinished,
    StepStarted,
    StepTold,
    ToolFinished,
    ToolStarted,
)
from orchestra.graph.rules.policy import Limits
from orchestra.steps import generate, tool
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import World
from orchestra.values import ToolCall

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@step
async def telling(all_of: list[object], *, context: Context = injected) -> int:
    for each in all_of:
        context.tell("one", each)
        if isinstance(each, list):
            each.append("later")
    return len(all_of)


@step(thread=True)
def telling_in_a_thread(all_of: list[object], *, context: Context = injected) -> int:
    for each in all_of:
        context.tell("two", each)
    return len(all_of)


@pipeline
def both(all_of: list[object], again: list[object]) -> tuple[int, int]:
    return telling(all_of), telling_in_a_thread(again)


def told(events: tuple[Event, ...], what: str) -> list[object]:
    return [each.data for each in events if isinstance(each, StepTold) and each.what == what]


def within(events: tuple[Event, ...]) -> bool:
    """Whether each step tells only while it goes on."""
    going: set[str] = set()
    for each in events:
        if isinstance(each, StepStarted):
            going.add(each.step)
        elif isinstance(each, StepFinished):
            going.remove(each.step)
        elif isinstance(each, StepTold) and each.step not in going:
            return False
    return True


@given(worlds(), st.lists(plain, max_size=4), st.lists(plain, max_size=4))
def test_all_is_told_in_order_as_it_was_while_the_step_goes_on(
    world: World, one: list[object], two: list[object]
) -> None:
    was = msgspec.json.decode(msgspec.json.encode(one))
    run = simulate(both, world, all_of=one, again=two)
    check_laws(run)
    assert run.value == (len(one), len(two))
    assert told(run.events, "one") == was
    assert told(run.events, "two") == two
    assert within(run.events)


@pytest.mark.parametrize("half", ["\ud83d", "file\udcff.txt", "\ude00\ud83d", {"\ud83d": 1}])
def test_half_a_character_is_told_as_it_is(half: object) -> None:
    """A lone surrogate is in file names that are not UTF-8, and at the end of texts that were cut."""
    run = simulate(both, all_of=[half], again=[half])
    assert told(run.events, "one") == told(run.events, "two") == [half]


def test_a_thread_beside_the_others_is_heard_in_order_and_before_its_step_ends() -> None:
    async def main() -> tuple[Event, ...]:
        async with open_engine(World().bound()) as engine:
            run = engine.start(both, {"all_of": [], "again": list(range(50))})
            await run.result()
            return run.journal.kept

    events = trio.run(main)
    assert told(events, "two") == list(range(50))
    assert within(events)


@pytest.mark.parametrize("more", [0, 1])
def test_what_is_too_long_is_refused_with_the_bound(more: int) -> None:
    data = "x" * (TOLD_BYTES - len("one") - 2 + more)
    run = simulate(both, all_of=[data], again=[])
    if not more:
        assert told(run.events, "one") == [data]
        return
    assert isinstance(run.error, LimitExceededError)
    assert run.error.limit == "told_bytes"
    assert "tell('one', ...): its data has 16385 bytes of JSON, over 16384" in str(run.error)


def test_once_the_run_has_ended_nobody_is_told() -> None:
    async def main() -> None:
        kept: list[Context] = []

        @step
        async def keeping(*, context: Context = injected) -> int:
            kept.append(context)
            await trio.lowlevel.checkpoint()
            return 1

        @pipeline
        def kept_too_long() -> int:
            return keeping()

        async with open_engine(World().bound()) as engine:
            run = engine.start(kept_too_long, {})
            await run.result()
            kept[0].tell("late")
            await trio.to_thread.run_sync(kept[0].tell, "late")
            assert not told(run.journal.kept, "late")

    trio.run(main)


@tool(thread=True)
def count(context: Context = injected) -> int:
    """Count."""
    context.tell("told", "count")
    return 3


@tool
async def weigh(context: Context = injected) -> int:
    """Weigh."""
    context.tell("told", "weigh")
    await trio.sleep(1)
    context.tell("told", "weigh")
    return 3


@step
async def asked_for(question: str, *, context: Context = injected) -> str:
    context.tell("told")
    return question


@pipeline
def counts(question: str) -> Stream[str]:
    return generate(asked_for(question), tools=[count, weigh])


@given(worlds(), st.lists(st.sampled_from(["count", "weigh"]), min_size=1, max_size=3))
def test_what_a_tool_tells_is_told_with_its_call_under_the_step_that_called_it(
    world: World, names: list[str]
) -> None:
    """However many are called at once, and whichever of them works in a thread."""
    calls = [ToolCall(f"{name}-{i}", name, "{}") for i, name in enumerate(names)]
    model = ScriptedTurns.saying(calls, "Three.")
    run = simulate(counts, attrs.evolve(world, models={"default": model}), question="How many?")
    tells = [each for each in run.events if isinstance(each, StepTold)]
    assert [(each.tool, each.call) for each in tells if each.step != "generate"] == [(None, None)]
    going = set[str]()
    heard = Counter[str]()
    for each in run.events:
        if isinstance(each, ToolStarted):
            going.add(each.call)
        elif isinstance(each, ToolFinished):
            going.remove(each.call)
        elif isinstance(each, StepTold) and each.step == "generate":
            assert each.call in going
            assert each.tool == each.data == str(each.call).partition("-")[0]
            heard[each.call] += 1
    assert heard == {each.id: 1 if each.name == "count" else 2 for each in calls}


def test_an_output_that_begins_anew_does_so_behind_what_was_posted() -> None:
    async def main() -> None:
        limits = Limits()
        journal = Journal(limits, Output(str, limits), trio.current_time())
        journal.post(StepTold, "a", "before")
        journal.restart("f", "b")
        await trio.lowlevel.checkpoint()
        assert [type(each) for each in journal.kept] == [StepTold, ArmRestarted]
        assert journal._restarted == journal.kept[-1].seq

    trio.run(main)
