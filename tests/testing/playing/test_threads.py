"""Threads in a simulated run: what works in an engine works here, and no schedule is left out."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

import pytest
import trio

import orchestra
from orchestra import Context, Pipeline, Stream, injected, pipeline, step
from orchestra.engine.engine import open_engine
from orchestra.steps import generate, tool
from orchestra.testing.laws import check_laws
from orchestra.testing.playing.threads import standing_still
from orchestra.testing.simulate import simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from orchestra.values import ToolCall

WHOSE: ContextVar[str] = ContextVar("whose", default="nobody's")


@step(thread=True)
def checks(text: str) -> str:
    trio.from_thread.check_cancelled()
    return text


@step(thread=True)
def asks_asyncio(text: str) -> str:
    async def main() -> str:
        await asyncio.sleep(0)
        return text

    return asyncio.run(main())


@step(thread=True)
def asks_trio(text: str) -> str:
    async def main() -> str:
        await trio.lowlevel.checkpoint()
        return text

    return trio.run(main)


@step(thread=True)
def simulates(text: str) -> str:
    """A simulation within one: it must not wait for the end of the outer one."""
    return simulate(checked, text=text).result()


@step(thread=True)
def knows_its_run(text: str, /, *, context: Context = injected) -> str:
    return f"{text}{context.run_id[:0]}"


@step(thread=True)
def calls_back(text: str) -> str:
    return trio.from_thread.run_sync(text.upper)


@step(thread=True)
def fails(text: str) -> str:
    raise ValueError(text)


@pipeline
def checked(text: str) -> str:
    return checks(text)


@pipeline
def with_asyncio(text: str) -> str:
    return asks_asyncio(text)


@pipeline
def with_trio(text: str) -> str:
    return asks_trio(text)


@pipeline
def within(text: str) -> str:
    return simulates(text)


@pipeline
def knowing(text: str) -> str:
    return knows_its_run(text)


@pipeline
def calling_back(text: str) -> str:
    return calls_back(text)


@pipeline
def failing(text: str) -> str:
    return fails(text)


@pytest.mark.parametrize("whole", [checked, with_asyncio, with_trio, within, knowing])
def test_what_works_in_a_thread_of_an_engine_works_in_a_simulation(
    whole: Pipeline[[str], str],
) -> None:
    assert orchestra.run(whole, "q") == "q"
    simulation = simulate(whole, World(), "q")
    check_laws(simulation)
    assert simulation.result() == "q"
    assert simulation.lasted_s == 0


def test_calling_back_into_the_run_is_refused_in_words() -> None:
    error = simulate(calling_back, text="q").error
    assert isinstance(error, RuntimeError)
    assert "cannot call back into a simulated run" in str(error)


def test_what_a_thread_raises_is_the_steps_error() -> None:
    simulation = simulate(failing, text="why")
    check_laws(simulation)
    assert isinstance(simulation.error, ValueError)


@tool(thread=True)
def look(text: str) -> str:
    """Looks something up."""
    trio.from_thread.check_cancelled()
    return f"{text} {threading.current_thread() is threading.main_thread()}"


@pipeline
def with_tool(text: str) -> Stream[str]:
    return generate(text, model="m", tools=[look])


def test_a_tool_in_a_thread_runs_in_one() -> None:
    model = ScriptedTurns.saying(ToolCall("1", "look", '{"text": "V"}'), "ok")
    assert simulate(with_tool, World(models={"m": model}), text="q").result() == "ok"
    (result,) = model.asked[1].messages[-1].parts
    assert getattr(result, "content", None) == "V False"


def test_a_thread_sees_its_callers_variables_and_nothing_else_works_meanwhile() -> None:
    worked: list[str] = []

    async def beside() -> None:
        worked.append("beside")

    def works() -> str:
        worked.append("thread")
        return WHOSE.get()

    async def main() -> str:
        WHOSE.set("mine")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beside)
            whose = standing_still(works)()
        return str(whose)

    assert virtual(main) == "mine"
    assert worked == ["thread", "beside"]


def test_a_thread_is_left_as_it_was() -> None:
    """Trio keeps its threads for the next who needs one."""

    left: SimpleQueue[Any] = SimpleQueue()

    async def main() -> None:
        standing_still(int)()
        trio.lowlevel.start_thread_soon(
            lambda: dict(vars(trio._threads.PARENT_TASK_DATA)), left.put
        )
        async with open_engine() as engine:
            assert await engine.run(calling_back, "q") == "Q"

    virtual(main)
    assert left.get().unwrap() == {}
