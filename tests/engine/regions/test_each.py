"""Each: every item once, so many in hand and no more, in order or as they are done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import Limits, Pipeline, Stream, each, pipeline, step
from orchestra.errors import EdgeTypeError, LimitExceededError
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import narrow_limits, schedules, worlds
from orchestra.testing.world import World
from tests.engine.steps import both, says, slowly, waits


@attrs.frozen
class Item:
    """How long its body takes, and whether it fails then."""

    number: int
    lasts_s: float
    fails: bool = False


class Hand:
    """Who is in hand, counted by the bodies themselves."""

    now = 0
    most = 0


@step
async def listed(items: tuple[Item, ...]) -> list[Item]:
    return list(items)


@step
async def arriving(items: tuple[Item, ...], every_s: float) -> AsyncIterator[Item]:
    for item in items:
        await trio.sleep(every_s)
        yield item


@step
async def done(item: Item) -> str:
    Hand.now += 1
    Hand.most = max(Hand.most, Hand.now)
    try:
        await trio.sleep(item.lasts_s)
    finally:
        Hand.now -= 1
    if item.fails:
        raise ValueError(f"item {item.number}")
    return chr(ord("a") + item.number)


def of_list(at_once: int, *, ordered: bool) -> Pipeline[..., object]:
    @pipeline(name="of_list")
    def defined(items: tuple[Item, ...]) -> list[str]:
        return each(listed(items), done, at_once=at_once, ordered=ordered)

    return defined


def of_stream(at_once: int, every_s: float, *, ordered: bool) -> Pipeline[..., object]:
    @pipeline(name="of_stream")
    def defined(items: tuple[Item, ...]) -> Stream[str]:
        return each(arriving(items, every_s), done, at_once=at_once, ordered=ordered)

    return defined


def passed(items: tuple[Item, ...], at_once: int, every_s: float, *, ordered: bool) -> list[float]:
    """When each item's value is passed on: it is in hand until then."""
    free_s = [0.0] * at_once
    times: list[float] = []
    for number, item in enumerate(items):
        start_s = max(every_s * (number + 1), min(free_s))
        end_s = start_s + item.lasts_s
        if ordered and times:
            end_s = max(end_s, times[-1])
        free_s.remove(min(free_s))
        free_s.append(end_s)
        times.append(end_s)
    return times


numbers = st.integers(1, 5).map(float)
# no two sums of these are equal, so that an unordered result is decided by time
odd_times = st.permutations([2.0**power for power in range(-1, 6)])
items = odd_times.flatmap(
    lambda times: st.integers(0, 6).map(
        lambda n: tuple(Item(number, times[number]) for number in range(n))
    )
)


@settings(max_examples=300)
@given(
    items, st.integers(1, 4), st.sampled_from([0.0, 1 / 64, 4 + 1 / 64]), st.booleans(), worlds()
)
def test_items_are_taken_and_passed_on_as_by_hand(
    items: tuple[Item, ...], at_once: int, every_s: float, ordered: bool, world: World
) -> None:
    Hand.now = Hand.most = 0
    streams = every_s > 0
    each_of = (
        of_stream(at_once, every_s, ordered=ordered)
        if streams
        else of_list(at_once, ordered=ordered)
    )
    simulation = simulate(each_of, world, items=items)
    check_laws(simulation)
    times = passed(items, at_once, every_s, ordered=ordered)
    letters = [letter for _, letter in sorted(zip(times, "abcdefg", strict=False))]
    if ordered:
        letters.sort()
    assert simulation.value == ("".join(letters) if streams else letters)
    assert simulation.lasted_s == max(times, default=0)
    assert Hand.most <= at_once
    assert Hand.now == 0


@settings(max_examples=200)
@given(
    items,
    st.data(),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    worlds(limits=narrow_limits()),
)
def test_the_first_item_that_fails_fails_the_whole_at_that_moment(  # noqa: PLR0917
    items: tuple[Item, ...],
    data: st.DataObject,
    at_once: int,
    ordered: bool,
    streams: bool,
    world: World,
) -> None:
    Hand.now = Hand.most = 0
    items = tuple(attrs.evolve(item, fails=data.draw(st.booleans())) for item in items)
    each_of = (
        of_stream(at_once, 0.125, ordered=ordered) if streams else of_list(at_once, ordered=ordered)
    )
    simulation = simulate(each_of, world, items=items)
    check_laws(simulation)
    failing = [item.number for item in items if item.fails]
    assert (simulation.error is not None) == bool(failing)
    if failing:
        assert isinstance(simulation.error, ValueError)
        assert int(str(simulation.error).split()[1]) in failing
    assert Hand.most <= at_once
    assert Hand.now == 0


@settings(max_examples=200)
@given(items, st.integers(1, 4), st.booleans(), worlds(limits=narrow_limits(), cancels=True))
def test_an_each_can_be_cancelled_at_any_moment(
    items: tuple[Item, ...], at_once: int, ordered: bool, world: World
) -> None:
    Hand.now = Hand.most = 0
    check_laws(simulate(of_stream(at_once, 0.125, ordered=ordered), world, items=items))
    check_laws(simulate(of_list(at_once, ordered=ordered), world, items=items))
    assert Hand.now == 0


def slow_reader(at_once: int, *, ordered: bool) -> Pipeline[..., object]:
    @pipeline(name="slow_reader")
    def defined(items: tuple[Item, ...]) -> str:
        return slowly(each(arriving(items, 0.0), done, at_once=at_once, ordered=ordered), each_s=2)

    return defined


quick_items = st.lists(st.sampled_from([0.0, 0.5]), max_size=7).map(
    lambda times: tuple(Item(number, lasts_s) for number, lasts_s in enumerate(times))
)


@settings(max_examples=100)
@given(quick_items, st.integers(1, 4), st.booleans(), worlds(limits=narrow_limits()))
def test_a_slow_reader_holds_the_items_back_and_loses_none(
    items: tuple[Item, ...], at_once: int, ordered: bool, world: World
) -> None:
    """Several bodies that are done wait for it at once: a lane has one writer."""
    Hand.now = Hand.most = 0
    simulation = simulate(slow_reader(at_once, ordered=ordered), world, items=items)
    check_laws(simulation)
    assert simulation.error is None
    value = str(simulation.value)
    whole = "abcdefg"[: len(items)]
    assert (value if ordered else "".join(sorted(value))) == whole


# --------------------------------------------------------------------------------------- bounds


@step
async def some(n: int) -> list[int]:
    return list(range(n))


class EndlessList(list[int]):
    """A list without an end."""

    def __iter__(self) -> Iterator[int]:
        return count()


@step
async def endless(n: int) -> list[int]:
    return EndlessList()


@pipeline
def of_some(n: int) -> list[str]:
    return each(some(n), says, at_once=2)


@pipeline
def of_endless(n: int) -> list[str]:
    return each(endless(n), says, at_once=2)


def test_a_list_has_a_bound_even_if_it_has_no_end() -> None:
    world = World(limits=Limits(each_items=3))
    assert simulate(of_some, world, n=3).value == ["0", "1", "2"]
    for each_of in (of_some, of_endless):
        error = simulate(each_of, world, n=4).error
        assert isinstance(error, LimitExceededError)
        assert error.limit == "each_items"
        assert "'each' was given more than 3 items" in str(error)


class FalsyError(Exception):
    """An error that is not true."""

    def __bool__(self) -> bool:
        return False


@step
async def fails_falsely(item: int) -> str:
    raise FalsyError


@step
async def without_parts(item: int) -> Any:
    await trio.sleep(1)


@pipeline
def two_fail(n: int) -> list[str]:
    return each(some(n), lambda item: without_parts(item)["part"], at_once=2)


def test_of_two_items_that_fail_in_one_moment_the_first_to_say_so_counts() -> None:
    simulation = simulate(two_fail, World(), n=2)
    check_laws(simulation)
    assert isinstance(simulation.error, EdgeTypeError)
    assert simulation.lasted_s == 1


@pipeline
def all_fail(n: int) -> list[str]:
    return each(some(n), fails_falsely, at_once=2)


def test_an_error_is_an_error_whatever_it_says_of_itself() -> None:
    simulation = simulate(all_fail, World(), n=3)
    check_laws(simulation)
    assert isinstance(simulation.error, FalsyError)


# --------------------------------------------------------------------------------------- nested


@pipeline
def nested(n: int) -> list[list[str]]:
    def outer(item: int) -> list[str]:
        return each(some(item), lambda inner: both(inner, waits(item, for_s=1)), at_once=2)

    return each(some(n), outer, at_once=2, ordered=False)


def lawful(world: World, n: int) -> Simulation:
    simulation = simulate(nested, world, n=n)
    check_laws(simulation)
    return simulation


@given(schedules(), st.integers(0, 4))
def test_an_each_in_an_each_computes_what_a_loop_in_a_loop_does(schedule: int, n: int) -> None:
    simulation = lawful(World(schedule=schedule), n)
    rows = [[f"{inner}|{item}" for inner in range(item)] for item in range(n)]
    assert sorted(simulation.value) == sorted(rows)  # type: ignore[call-overload]


@given(worlds(cancels=True))
def test_an_each_in_an_each_can_be_cancelled(world: World) -> None:
    lawful(world, 4)
