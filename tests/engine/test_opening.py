"""An engine that is not open, or is given what it cannot use, says what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import Stream, open_engine, pipeline, step
from orchestra.engine.bindings import NoBindings
from orchestra.errors import InputError, RunError
from orchestra.graph.rules.policy import Limits
from orchestra.testing.simulate import simulate
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World


@step
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def summed(numbers: list[int]) -> int:
    return total(numbers)


def test_an_engine_that_is_not_open_says_how_to_open_it() -> None:
    async def main() -> None:
        unopened: Any = open_engine()
        with pytest.raises(RunError, match=r"`\.run` is not there yet: write `async with open_eng"):
            await unopened.run(summed, numbers=[1])
        with pytest.raises(RunError, match="it cannot be awaited: write `async with open_engine"):
            await unopened
        with pytest.raises(RunError, match="`with` cannot open it: write `async with"), unopened:
            raise AssertionError("it was opened")
        with pytest.raises(AttributeError, match="'runn'"):
            unopened.runn  # noqa: B018 - to see what it says
        async with unopened as engine:
            assert await engine.run(summed, numbers=[1, 2]) == 3

    virtual(main)


@pytest.mark.parametrize("bindings", [{"models": {}}, summed, World, Limits(), 0, "", []])
def test_what_is_no_bindings_is_refused_before_anything_runs(bindings: Any) -> None:
    async def main() -> None:
        with pytest.raises(RunError, match=r"and this does not; write open_engine\(World"):
            async with open_engine(bindings):
                raise AssertionError("it was opened")

    virtual(main)


@pytest.mark.parametrize("limits", [{"runs": 3}, 3, Limits])
def test_what_is_no_limits_is_refused_before_anything_runs(limits: Any) -> None:
    async def main() -> None:
        with pytest.raises(RunError, match=r"write limits=Limits\(\.\.\.\)"):
            async with open_engine(NoBindings(), limits=limits):
                raise AssertionError("it was opened")

    virtual(main)


def test_an_input_is_told_the_item_that_does_not_fit() -> None:
    numbers: Any = [1, *[2] * 200, "3"]
    word: Any = "abc"
    with pytest.raises(InputError, match=r": numbers\[201\] is '3', and has to be int$") as caught:
        simulate(summed, numbers=numbers)
    assert caught.value.field == "numbers"
    with pytest.raises(InputError, match=r"takes list\[int\], and was given 'abc'$"):
        simulate(summed, numbers=word)


def test_a_run_that_has_begun_is_not_awaited_and_says_how_it_is_followed() -> None:
    async def main() -> None:
        async with open_engine(NoBindings()) as engine:
            run: Any = engine.start(summed, {"numbers": [1, 2]})
            with pytest.raises(RunError, match=r"a run that has begun.*`await run\.result\(\)`"):
                await run
            with pytest.raises(RunError, match=r"`with run\.journal\.attach\(\) as reader:`"):
                aiter(run)
            assert await run.result() == 3

    virtual(main)


@step
def named(name: str, numbers: dict[str, int]) -> str:
    return name * numbers[name]


@pipeline
def both(name: str, numbers: dict[str, int]) -> str:
    return named(name, numbers)


@pipeline
def looked_up(numbers: dict[str, int]) -> str:
    return named("name", numbers)


def test_inputs_in_one_dict_are_told_how_to_write_them() -> None:
    inputs: Any = {"name": "name", "numbers": {"name": 2}}
    with pytest.raises(
        InputError, match=r"as one dict, .*; pass each by name, `name=\.\.\., numbers="
    ):
        simulate(both, World(), inputs)  # type: ignore[call-overload]
    assert simulate(both, World(), **inputs).value == "namename"
    assert simulate(looked_up, World(), {"name": 1}).value == "name"
    assert simulate(looked_up, World(), {"numbers": 1, "name": 1}).value == "name", "it fits"


@pytest.mark.parametrize("inputs", ["hello", ["a"], None, 3])
def test_inputs_that_are_no_dict_are_told_how_to_write_them(inputs: Any) -> None:
    async def main() -> None:
        async with open_engine(NoBindings()) as engine:
            with pytest.raises(
                InputError, match=r"must be a dict .*; write \{\"name\": \.\.\., \"numbers\":"
            ):
                engine.start(both, inputs)

    virtual(main)


@step
async def joined(chunks: Stream[str]) -> str:
    return "".join([chunk async for chunk in chunks])


@pipeline
def of_a_stream(chunks: Stream[str]) -> str:
    return joined(chunks)


def test_a_run_that_is_given_a_stream_is_told_where_that_belongs() -> None:
    chunks: Any = ["a", "b"]
    with pytest.raises(InputError, match="call this pipeline in one whose step gives the stream"):
        simulate(of_a_stream, World(), chunks)
