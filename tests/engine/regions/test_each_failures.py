"""An `each` that goes on: who failed is told in its place, up to a bound, and nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestra import Failed, Pipeline, Policy, Stream, each, pipeline, step
from orchestra.compiler.check import check
from orchestra.errors import (
    AuthenticationError,
    BudgetExceededError,
    BudgetHeldError,
    LimitExceededError,
    ModelError,
    OverloadedError,
    RunCancelledError,
)
from orchestra.events import ItemFailed, RunFailed, StepFailed, StepStarted
from orchestra.failed import ModelFacts
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import narrow_limits, schedules, worlds
from orchestra.testing.world import World


@attrs.frozen
class Item:
    """How long its body takes, and whether it fails then."""

    number: int
    lasts_s: float
    fails: bool


@step
async def listed(items: tuple[Item, ...]) -> list[Item]:
    return list(items)


@step
async def arriving(items: tuple[Item, ...]) -> AsyncIterator[Item]:
    for item in items:
        await trio.sleep(1 / 64)
        yield item


@step
async def done(item: Item) -> int:
    await trio.sleep(item.lasts_s)
    if item.fails:
        raise ValueError(f"item {item.number}")
    return item.number


def borne(
    failures_max: int, at_once: int, *, ordered: bool, streams: bool
) -> Pipeline[..., object]:
    if streams:

        @pipeline(name="of_stream")
        def of_stream(items: tuple[Item, ...]) -> Stream[int | Failed[Item]]:
            return each(
                arriving(items),
                done,
                at_once=at_once,
                ordered=ordered,
                failures_max=failures_max,
            )

        return of_stream

    @pipeline(name="of_list")
    def of_list(items: tuple[Item, ...]) -> list[int | Failed[Item]]:
        return each(
            listed(items), done, at_once=at_once, ordered=ordered, failures_max=failures_max
        )

    return of_list


# no two sums of these are equal, so that who fails last is decided by time
items = st.permutations([2.0**power for power in range(-1, 6)]).flatmap(
    lambda times: st.lists(st.booleans(), max_size=6).map(
        lambda fails: tuple(Item(n, times[n], fail) for n, fail in enumerate(fails))
    )
)
bounds = st.integers(1, 4)


def failed_of(simulation: Simulation) -> list[ItemFailed]:
    return [event for event in simulation.events if isinstance(event, ItemFailed)]


def expected(item: Item) -> int | Failed[Item]:
    if not item.fails:
        return item.number
    where = f"each[{item.number}]/done"
    return Failed(item.number, item, "ValueError", f"item {item.number}", where)


@settings(max_examples=300)
@given(items, bounds, bounds, st.booleans(), st.booleans(), worlds(limits=narrow_limits()))
def test_exactly_the_items_that_fail_are_failed_in_their_places(  # noqa: PLR0917
    items: tuple[Item, ...],
    failures_max: int,
    at_once: int,
    ordered: bool,
    streams: bool,
    world: World,
) -> None:
    each_of = borne(failures_max, at_once, ordered=ordered, streams=streams)
    simulation = simulate(each_of, world, items=items)
    check_laws(simulation)
    failing = [item.number for item in items if item.fails]
    told = failed_of(simulation)
    if len(failing) <= failures_max:
        assert sorted(event.index for event in told) == failing
        value: list[int | Failed[Item]] = list(simulation.value or [])  # type: ignore[call-overload]
        if not ordered:
            value.sort(key=lambda each: each if isinstance(each, int) else each.index)
        assert value == [expected(item) for item in items]
    else:
        error = simulation.error
        assert isinstance(error, LimitExceededError)
        assert error.limit == "failures_max"
        assert len(told) == failures_max + 1
        assert simulation.lasted_s == told[-1].at_s, "it ends at the moment of one too many"
        assert f"item {told[-1].index} with ValueError;" in str(error)
        assert isinstance(error.__cause__, ValueError)


AT_ONCE = World(schedule=1, cancel_at_s=2.0)


@settings(max_examples=200)
@given(items, bounds, st.booleans(), st.booleans(), worlds(limits=narrow_limits(), cancels=True))
@example(items=(Item(0, 2.0, fails=True),), at_once=1, ordered=False, streams=False, world=AT_ONCE)
def test_a_cancelled_item_has_not_failed(
    items: tuple[Item, ...], at_once: int, ordered: bool, streams: bool, world: World
) -> None:
    """Nor has one whose step fails in the very moment in which the run is cancelled."""
    simulation = simulate(borne(9, at_once, ordered=ordered, streams=streams), world, items=items)
    check_laws(simulation)
    raised = [e for e in simulation.events if isinstance(e, StepFailed)]
    told = [f"each[{e.index}]/done" for e in failed_of(simulation)]
    assert told == [e.step for e in raised][: len(told)]
    if simulation.error is None:
        assert len(told) == len(raised)
    assert all(e.at_s == simulation.lasted_s for e in raised[len(told) :])
    assert isinstance(simulation.error, RunCancelledError | None)


@step
def numbers(n: int) -> list[int]:
    return list(range(n))


@step
async def untidy(n: int) -> int:
    try:
        await trio.sleep(n)
    finally:
        if n > 2:
            raise ValueError("as it was stopped")
    raise KeyError(n)


@pipeline
def untidily(n: int) -> list[int | Failed[int]]:
    return each(numbers(n), untidy, at_once=9, failures_max=2)


@pytest.mark.parametrize("world", [World(), World(cancel_at_s=1.5)])
def test_what_an_item_raises_as_it_is_stopped_is_no_failure_of_it(world: World) -> None:
    simulation = simulate(untidily, world, n=6)
    before = 3 if world.cancel_at_s is None else 2
    assert [event.index for event in failed_of(simulation)] == list(range(before))


# ------------------------------------------------------------------------- an outage, a budget


@step
async def asked(n: int) -> str:
    await trio.sleep(1)
    if n:
        raise OverloadedError("no room", status=529, provider="acme", model="fast", code="busy")
    return "said"


@pipeline
def asks(n: int) -> list[str | Failed[int]]:
    return each(numbers(n), asked, at_once=4, failures_max=5)


def test_an_outage_does_not_ask_for_every_item() -> None:
    simulation = simulate(asks, World(), n=1000)
    check_laws(simulation)
    assert isinstance(simulation.error, LimitExceededError)
    begun = [e for e in simulation.events if isinstance(e, StepStarted) and "asked" in e.step]
    assert len(begun) <= 5 + 1 + 4  # as many as may fail, one more, and who was in hand then
    last = simulation.events[-1]
    assert isinstance(last, RunFailed)
    assert last.step == "each"


def test_what_a_model_error_tells_is_kept() -> None:
    said, failed = simulate(asks, World(), n=2).value  # type: ignore[misc]
    facts = ModelFacts("", "acme", "fast", 529, "busy", "", None)
    message = "acme fast: HTTP 529: no room"
    assert said == "said"
    assert failed == Failed(1, 1, "OverloadedError", message, "each[1]/asked", True, facts)


def spends(error: ModelError) -> Pipeline[..., object]:
    @step
    async def paid(n: int) -> int:
        if n:
            raise error
        return n

    @pipeline(name="spends")
    def defined(n: int) -> list[int | Failed[int]]:
        return each(numbers(n), paid, at_once=1, failures_max=50)

    return defined


@pytest.mark.parametrize(
    "error",
    [BudgetExceededError("it is used up", budget="a run"), AuthenticationError("a wrong key")],
)
def test_what_every_item_would_meet_ends_the_whole_as_it_does_elsewhere(error: ModelError) -> None:
    """A budget that is used up; and a wrong key is not shown to a provider fifty times."""
    simulation = simulate(spends(error), World(), n=9)
    check_laws(simulation)
    assert type(simulation.error) is type(error)
    assert not failed_of(simulation)


@step
async def napped(n: int) -> int:
    await asyncio.sleep(0.1)
    return n


@pipeline
def naps(n: int) -> list[int | Failed[int]]:
    return each(numbers(n), napped, at_once=1, failures_max=50)


def test_a_mistake_in_the_code_is_no_failure_of_an_item() -> None:
    """Otherwise every item of `naps` would fail, and the run would end well."""
    simulation = simulate(naps, World(), n=3)
    check_laws(simulation)
    assert str(simulation.error) == "no running event loop"
    assert not failed_of(simulation)


def test_an_item_whose_budget_is_only_held_by_others_has_failed() -> None:
    simulation = simulate(spends(BudgetHeldError("it is held", budget="a run")), World(), n=3)
    check_laws(simulation)
    assert [event.index for event in failed_of(simulation)] == [1, 2]


# --------------------------------------------------------------------------- parts and timeouts


@step(policy=Policy(timeout_s=1))
async def timed(n: int) -> dict[str, int]:
    await trio.sleep(n * 2)
    return {}


@pipeline
def parted(n: int) -> list[int | Failed[int]]:
    return each(numbers(n), lambda number: timed(number)["part"], at_once=2, failures_max=2)


def test_a_late_item_has_failed_and_so_has_one_without_the_part_that_is_named() -> None:
    simulation = simulate(parted, World(), n=2)
    check_laws(simulation)
    assert simulation.error is None
    without, late = cast("list[Failed[int]]", simulation.value)
    assert (without.error, without.step) == ("EdgeTypeError", "each[0]")
    assert (late.error, late.step) == ("DeadlineError", "each[1]/timed")


@step
async def empty(n: int) -> dict[str, int]:
    await trio.sleep(1)
    return {}


@pipeline
def all_without(n: int) -> list[int | Failed[int]]:
    return each(numbers(n), lambda number: empty(number)["part"], at_once=9, failures_max=1)


@given(schedules())
def test_of_items_that_fail_in_one_moment_none_is_told_past_the_bound(schedule: int) -> None:
    simulation = simulate(all_without, World(schedule=schedule), n=6)
    check_laws(simulation)
    assert len(failed_of(simulation)) == 2
    assert isinstance(simulation.error, LimitExceededError)


# ---------------------------------------------------------------------------------------- check


@step
def total(numbers: list[int]) -> int:
    return sum(numbers)


@step
def tolerant(numbers: list[int | Failed[int]]) -> int:
    return sum(n for n in numbers if not isinstance(n, Failed))


@step
async def doubled(n: int) -> int:
    return 2 * n


@step
async def whole(numbers: Stream[int]) -> int:
    return sum([n async for n in numbers])


@step
async def counted(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


def test_a_reader_without_a_place_for_a_failure_is_refused() -> None:
    @pipeline
    def refused(n: int) -> int:
        return total(each(numbers(n), doubled, at_once=2, failures_max=1))  # type: ignore[arg-type]

    @pipeline
    def refused_stream(n: int) -> int:
        return whole(each(counted(n), doubled, at_once=2, failures_max=1))  # type: ignore[arg-type]

    @pipeline
    def refused_item(n: int) -> list[int]:
        borne = each(numbers(n), doubled, at_once=2, failures_max=1)
        return each(borne, doubled, at_once=2)  # type: ignore[arg-type]

    @pipeline
    def refused_result(n: int) -> list[int]:
        return each(numbers(n), doubled, at_once=2, failures_max=1)  # type: ignore[return-value]

    for defined in (refused, refused_stream, refused_item, refused_result):
        (problem,) = check(defined)
        assert problem.code == "type-clash"
        assert "Failed" in problem.fix
        assert "leave out failures_max" in problem.fix


def test_a_reader_with_a_place_for_it_is_given_it() -> None:
    @pipeline
    def accepted(n: int) -> int:
        return tolerant(each(numbers(n), doubled, at_once=2, failures_max=1))

    assert not check(accepted)
    assert simulate(accepted, World(), n=3).value == 6


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_a_bound_that_is_none_is_refused(wrong: int) -> None:
    @pipeline
    def unbounded(n: int) -> list[int | Failed[int]]:
        return each(numbers(n), doubled, at_once=2, failures_max=wrong)

    (problem,) = check(unbounded)
    assert problem.code == "bad-bound"
    assert f"failures_max={wrong!r}" in problem.message
