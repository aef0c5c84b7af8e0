"""An iterator is never empty, or cut, for the second who reads it: it is a list then, or refused."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from csv import DictReader
from typing import Any

import pytest
import trio

from orchestra import (
    Limits,
    Pipeline,
    Policy,
    Retry,
    best_of,
    each,
    fallback,
    open_engine,
    pipeline,
    race,
    route,
    step,
)
from orchestra.errors import EdgeTypeError, InputError, OrchestraError

NUMBERS = [1, 2, 3, 4]


@step
def gone(numbers: Iterable[int]) -> Iterator[int]:
    return iter(list(numbers))


@step
def add(numbers: Iterable[int]) -> int:
    return sum(numbers)


@step
def add_to(number: int, numbers: Iterable[int]) -> int:
    return number + sum(numbers)


@step
def pair(one: object, other: object) -> str:
    return f"{one} {other}"


@step
def last(parts: list[Iterable[int]]) -> list[int]:
    return list(parts[-1])


@step
def increase(number: int) -> int:
    return number + 1


@step
def refuse(numbers: Iterable[int]) -> Any:
    raise ValueError(sum(numbers))


@step
def size(number: int) -> str:
    return "few" if number < 3 else "many"


class Attempt:
    """How many there were."""

    made = 0


@step(policy=Policy(retry=Retry(attempts_max=2, on=(ValueError,))))
async def insist(numbers: Iterable[int]) -> int:
    total = sum(numbers)
    Attempt.made += 1
    await trio.lowlevel.checkpoint()
    if Attempt.made % 2:
        raise ValueError(total)
    return total


def longest(answers: list[Iterable[int]]) -> int:
    return max(range(len(answers)), key=lambda index: len(list(answers[index])))


def read_once(xs: Any) -> Any:
    return add(xs)


def gone_through_by_each(xs: Any) -> Any:
    return each(xs, increase, at_once=2)


def read_by_two(xs: Any) -> Any:
    return pair(each(xs, increase, at_once=2), add(xs))


def read_twice_by_one(xs: Any) -> Any:
    return last([xs, xs])


def read_by_two_arms(xs: Any) -> Any:
    return fallback(refuse(xs), add(xs))


def read_by_one_arm(xs: Any) -> Any:
    return fallback(add(xs), 0)


def read_by_one_of_two_ways(xs: Any) -> Any:
    return route(size(1), {"few": add(xs), "many": gone(xs)})


def read_behind_a_race(xs: Any) -> Any:
    chosen = race(xs, xs)
    return pair(add(chosen), add(chosen))


def read_behind_ways(xs: Any) -> Any:
    return add(route(size(5), {"few": gone(xs), "many": xs}))


def read_in_a_way_and_beside_it(xs: Any) -> Any:
    return pair(add(xs), route(size(5), {"few": 0, "many": add(xs)}))


def read_again(xs: Any) -> Any:
    return insist(xs)


def read_in_a_body(xs: Any) -> Any:
    return each([1, 2], lambda number: add_to(number, xs), at_once=1)


def looked_at_first(xs: Any) -> Any:
    return add(fallback(xs, refuse([]), validate=lambda numbers: sum(numbers) > 0))


def judged_first(xs: Any) -> Any:
    return add(best_of(xs, refuse([]), judge=longest))


ONCE = [
    read_once,
    gone_through_by_each,
    read_by_one_arm,
    read_by_one_of_two_ways,
    read_behind_ways,
]
MORE = [
    read_by_two,
    read_twice_by_one,
    read_by_two_arms,
    read_behind_a_race,
    read_in_a_way_and_beside_it,
    read_again,
    read_in_a_body,
    looked_at_first,
    judged_first,
]


def of_input(shape: Callable[[Any], Any], kind: object = Iterable[int]) -> Pipeline[..., Any]:
    def given(xs: Any) -> Any:
        return shape(xs)

    given.__annotations__ = {"xs": kind}
    return pipeline(given)


def of_step(shape: Callable[[Any], Any]) -> Pipeline[..., Any]:
    @pipeline
    def given(xs: list[int]) -> Any:
        return shape(gone(xs))

    return given


def run(asked: Pipeline[..., Any], xs: object, limits: Limits | None = None) -> Any:
    async def main() -> Any:
        async with open_engine(limits=limits, jitter=lambda: 0.0) as engine:
            return await engine.run(asked, xs)

    return trio.run(main)


@pytest.mark.parametrize("shape", [*ONCE, *MORE])
def test_an_iterator_gives_a_run_what_a_list_gives_it(shape: Callable[[Any], Any]) -> None:
    asked = of_input(shape)
    assert run(asked, iter(NUMBERS)) == run(asked, NUMBERS)


@pytest.mark.parametrize("shape", ONCE)
def test_what_is_read_once_is_passed_on_as_it_is(shape: Callable[[Any], Any]) -> None:
    assert run(of_step(shape), NUMBERS) == run(of_input(shape), NUMBERS)
    assert run(of_input(shape, Iterator[int]), iter(NUMBERS)) == run(of_input(shape), NUMBERS)


@pytest.mark.parametrize("shape", MORE)
def test_an_iterator_of_a_step_that_is_read_more_than_once_is_refused(
    shape: Callable[[Any], Any],
) -> None:
    with pytest.raises(OrchestraError, match="the step returned") as caught:
        run(of_step(shape), NUMBERS)
    assert "and has several readers: " in str(caught.value)


def test_the_step_that_returned_it_is_named_with_its_line() -> None:
    with pytest.raises(
        EdgeTypeError, match=r"each\(items\), add\(numbers=\.\.\.\); return a list"
    ) as e:
        run(of_step(read_by_two), NUMBERS)
    assert re.search(r"in step 'gone' .*, called at .*test_iterators\.py:\d", e.value.__notes__[0])


@pytest.mark.parametrize("shape", MORE)
def test_an_input_that_is_annotated_as_an_iterator_is_refused(shape: Callable[[Any], Any]) -> None:
    with pytest.raises(InputError, match=r"annotate it as a Sequence or list, not Iterator\[int\]"):
        run(of_input(shape, Iterator[int]), iter(NUMBERS))


def test_an_iterator_that_gives_too_much_is_refused_where_it_would_be_kept() -> None:
    with pytest.raises(InputError, match=r"more than the 5 items of Limits\(each_items=") as caught:
        run(of_input(read_by_two), iter(range(9)), Limits(each_items=5))
    assert caught.value.field == "xs"
    assert run(of_input(read_by_two), iter(range(5)), Limits(each_items=5)) == "[1, 2, 3, 4, 5] 10"


def test_what_an_iterator_gives_is_held_against_its_annotation_once_it_is_known() -> None:
    with pytest.raises(InputError, match=r"takes Iterable\[int\], and was given \[1, 'a'\]"):
        run(of_input(read_by_two), iter([1, "a"]))


def test_a_class_of_iterators_is_looked_at_too_and_a_file_is_not() -> None:
    @step
    def rows(text: str) -> DictReader:  # type: ignore[type-arg]  # the very class of the value
        return DictReader(io.StringIO(text))

    @step
    def opened(text: str) -> io.StringIO:
        return io.StringIO(text)

    @step
    def whole(file: io.StringIO) -> str:
        return file.getvalue()

    @pipeline
    def tabled(text: str) -> str:
        table = rows(text)
        return pair(table, table)

    @pipeline
    def filed(text: str) -> str:
        file = opened(text)
        return pair(whole(file), whole(file))

    assert run(filed, "a") == "a a"
    with pytest.raises(EdgeTypeError, match=r"pair\(one=\.\.\.\), pair\(other=\.\.\.\)"):
        run(tabled, "a\n1")
