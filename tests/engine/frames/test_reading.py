"""Reading: a step is given exactly the part that is asked for, of the type that is asked for."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from orchestra import Pipeline, Stream, pipeline, step
from orchestra.errors import EdgeTypeError
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import simulate
from orchestra.testing.world import World
from tests.engine.steps import numbers


@attrs.frozen
class Thing:
    name: str
    parts: dict[str, list[int]]


@step
async def thing(n: int) -> Thing:
    return Thing("a thing", {"x": [n, n + 1]})


@step
async def anything(n: int) -> Any:
    return {"name": n, "list": [n]}


@step
async def takes(value: int, name: str = "") -> str:
    return f"{value} {name}"


@step
async def may_be_none(n: int) -> int | None:
    return n or None


@pipeline
def parts(n: int) -> str:
    whole = thing(n)
    return takes(whole.parts["x"][1], name=whole.name)


def test_a_part_is_read_through_attributes_and_items() -> None:
    assert simulate(parts, World(), n=4).value == "5 a thing"


@pipeline
def no_attribute(n: int) -> str:
    return takes(anything(n).nowhere)


@pipeline
def no_item(n: int) -> str:
    return takes(anything(n)["list"][3])


@pipeline
def no_parts(n: int) -> str:
    return takes(anything(n)["name"]["more"])


@pipeline
def none(n: int) -> str:
    return takes(may_be_none(n))  # type: ignore[arg-type]


@pipeline
def wrong_result(n: int) -> str:
    return anything(n)["name"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("reads", "says"),
    [
        (
            no_attribute,
            "takes(value=...) reads anything(...).nowhere, but {'name': 0, 'list': [0]}",
        ),
        (
            no_item,
            "takes(value=...) reads anything(...)['list'][3], but [0] has no `[3]`: IndexError",
        ),
        (no_parts, "takes(value=...) reads anything(...)['name']['more'], but 0 has no `['more']`"),
        (none, "may_be_none(...) is None, an instance of NoneType, but takes(value=...) takes int"),
        (wrong_result, "anything(...)['name'] is 0, an instance of int, but the result takes str"),
    ],
)
def test_what_a_value_does_not_have_is_an_error_that_names_both_ends(
    reads: Pipeline[..., object], says: str
) -> None:
    simulation = simulate(reads, World(), n=0)
    check_laws(simulation)
    assert isinstance(simulation.error, EdgeTypeError)
    assert says in str(simulation.error)


@step
async def first_and_rest(chunks: Stream[str]) -> dict[str, Any]:
    """The first chunk, and a stream that is no other step's to read."""
    return {"first": await anext(aiter(chunks)), "rest": chunks}


@step
async def read_on(given: dict[str, Any]) -> str:
    return str(given["first"]) + "".join([chunk async for chunk in given["rest"]])


@step
async def read_in_one(chunks: Stream[str]) -> str:
    """As the advice says: it is read where it was passed to."""
    return await anext(aiter(chunks)) + "".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("every_s", [0.0, 1.0])
def test_a_stream_is_read_no_longer_than_the_step_it_was_passed_to_lasts(every_s: float) -> None:
    @pipeline
    def leaks(n: int) -> str:
        return read_on(first_and_rest(numbers(n, every_s)))

    @pipeline
    def keeps(n: int) -> str:
        return read_in_one(numbers(n, every_s))

    error = simulate(leaks, n=3).error
    assert str(error) == (
        "this stream was passed to 'first_and_rest', which has ended, and all chunks not read by "
        "then are gone; read it there, or pass it in the pipeline to the step that reads it"
    )
    assert "in step 'read_on' of pipeline 'leaks'" in getattr(error, "__notes__", [""])[0]
    assert simulate(keeps, n=3).value == "012"
