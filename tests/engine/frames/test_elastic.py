"""Streams that part and meet again: the run ends as it would if its lanes had no bound."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import (
    Limits,
    Pipeline,
    Stream,
    each,
    fallback,
    open_engine,
    pipeline,
    race,
    route,
    step,
)
from orchestra.errors import LimitExceededError
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from tests.engine.steps import numbers


@step
async def upper(chunks: Stream[str], every_s: float = 0.0) -> AsyncIterator[str]:
    """Each chunk, marked."""
    async for chunk in chunks:
        await trio.sleep(every_s)
        yield f"<{chunk}>"


@step
async def in_turn(chunks: list[Stream[str]], order: list[int]) -> str:
    """All of one stream, and then all of the next."""
    found = dict.fromkeys(order, "")
    for number in order:
        async for chunk in chunks[number]:
            found[number] += chunk
    return "|".join(found[number] for number in sorted(order))


@step
async def together(one: Stream[str], other: Stream[str], every_s: float) -> str:
    """Both at once; the second slowly."""
    taken = ["", ""]

    async def read(number: int, chunks: Stream[str], every_s: float) -> None:
        async for chunk in chunks:
            await trio.sleep(every_s)
            taken[number] += chunk

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, 0, one, 0.0)
        nursery.start_soon(read, 1, other, every_s)
    return "|".join(taken)


@step
async def passed_on(one: Stream[str], other: Stream[str]) -> AsyncIterator[str]:
    """All of the second, and then all of the first: a producer that stands in a circle, too."""
    async for chunk in other:
        yield chunk
    async for chunk in one:
        yield chunk


@step
async def quiet(chunks: Stream[str]) -> AsyncIterator[str]:
    """As many empty chunks, none of which is committed to."""
    async for _ in chunks:
        yield ""


@step
async def marked(chunk: str) -> str:
    """The chunk, marked; even ones take longer."""
    await trio.sleep(2 - int(chunk) % 2)
    return f"<{chunk}>"


@step
async def later(n: int) -> int:
    """The same number, after a while."""
    await trio.sleep(5)
    return n


@pipeline
def parted(n: int, every_s: float, order: list[int]) -> str:
    """One producer, and ways of different lengths to the reader."""
    said = numbers(n, every_s)
    marked = upper(said)
    return in_turn([said, marked, upper(marked, every_s), upper(said, 0.5)], order)


READ: list[str] = []


@step
async def noted(one: Stream[str], other: Stream[str]) -> int:
    """All of one, and then all of the other, noted as it is read."""
    async for _ in one:
        pass
    async for chunk in other:
        READ.append(chunk)  # noqa: PERF401 - each when it is read
    return len(READ)


@pipeline
def kept_back(n: int) -> int:
    said = numbers(n)
    return noted(upper(said), said)


WRITTEN: list[int] = []


@step
async def burst(chunks: Stream[str], n: int) -> AsyncIterator[str]:
    """So many chunks for each, none of which it waits for."""
    async for chunk in chunks:
        for number in range(n):
            WRITTEN.append(number)
            yield chunk


@pipeline
def burst_back(n: int) -> int:
    said = numbers(3)
    return noted(upper(said), burst(said, n))


@pipeline
def twice(n: int, order: list[int]) -> str:
    """A circle behind a circle."""
    said = numbers(n)
    woven = passed_on(said, upper(said))
    return in_turn([woven, upper(woven), said], order)


@pipeline
def raced(n: int, order: list[int]) -> str:
    """A way through a race."""
    said = numbers(n)
    return in_turn([race(upper(said), numbers(9, 1e3)), said], order)


@pipeline
def fallen(n: int, order: list[int]) -> str:
    """A way through a fallback."""
    said = numbers(n)
    return in_turn([fallback(upper(said), numbers(9)), said], order)


@pipeline
def routed(n: int, order: list[int]) -> str:
    """A way through a route."""
    said = numbers(n)
    return in_turn([route("a", {"a": upper(said), "b": numbers(9)}), said], order)


@pipeline
def outrun(n: int, order: list[int]) -> str:
    """A way through an arm that says nothing, beside one that has not begun yet."""
    said = numbers(n)
    return in_turn([race(quiet(said), numbers(later(3))), said], order)


@pipeline
def one_by_one(n: int, order: list[int]) -> str:
    """A way through an `each`."""
    said = numbers(n)
    return in_turn([each(said, marked, at_once=1), said], order)


@pipeline
def some_at_once(n: int, order: list[int]) -> str:
    """A way through an `each` with several items in hand."""
    said = numbers(n)
    return in_turn([each(said, marked, at_once=3), said], order)


@pipeline
def all_at_once(n: int, order: list[int]) -> str:
    """An `each` that has all items in hand, and waits for one of its readers alone."""
    said = each(numbers(n), marked, at_once=100)
    return in_turn([upper(said), said], order)


@pipeline
def at_once(n: int, every_s: float) -> str:
    """A reader that reads both, as it should."""
    said = numbers(n)
    return together(upper(said), said, every_s)


def read_in_turn(shape: Pipeline[..., str], bound: int, schedule: int, **inputs: object) -> str:
    """What the run gives, whose lanes begin with so much room."""
    world = World(schedule=schedule, limits=Limits(lane_chunks=bound))
    run = simulate(shape, world, **inputs)
    check_laws(run)
    assert run.error is None
    return str(run.value)


@given(
    st.integers(0, 12),
    st.sampled_from([0.0, 1.0]),
    st.permutations(range(4)),
    st.integers(1, 3),
    schedules(),
)
def test_in_whatever_order_its_streams_are_read_the_run_goes_on(
    n: int, every_s: float, order: list[int], bound: int, schedule: int
) -> None:
    said = "".join(map(str, range(n)))
    marked = "".join(f"<{number}>" for number in range(n))
    again = "".join(f"<<{number}>>" for number in range(n))
    found = read_in_turn(parted, bound, schedule, n=n, every_s=every_s, order=order)
    assert found == f"{said}|{marked}|{again}|{marked}"


@given(st.integers(0, 9), st.permutations(range(3)), st.integers(1, 2), schedules())
def test_circles_may_lie_in_circles(n: int, order: list[int], bound: int, schedule: int) -> None:
    said = "".join(map(str, range(n)))
    marked = "".join(f"<{number}>" for number in range(n))
    again = "".join(f"<<{number}>>" for number in range(n)) + marked
    found = read_in_turn(twice, bound, schedule, n=n, order=order)
    assert found == "|".join([marked + said, again, said])


@given(
    st.sampled_from([raced, fallen, routed]),
    st.integers(1, 12),
    st.permutations(range(2)),
    st.integers(1, 3),
    schedules(),
)
def test_a_circle_may_lie_in_an_arm(
    shape: Pipeline[..., str], n: int, order: list[int], bound: int, schedule: int
) -> None:
    said = "".join(map(str, range(n)))
    marked = "".join(f"<{number}>" for number in range(n))
    assert read_in_turn(shape, bound, schedule, n=n, order=order) == f"{marked}|{said}"


@given(
    st.sampled_from([one_by_one, some_at_once, all_at_once]),
    st.integers(0, 12),
    st.permutations(range(2)),
    st.integers(1, 3),
    schedules(),
)
def test_a_circle_may_lie_in_an_each(
    shape: Pipeline[..., str], n: int, order: list[int], bound: int, schedule: int
) -> None:
    """Its items wait for their turn, however many may be in hand."""
    said = "".join(map(str, range(n)))
    once = "".join(f"<{number}>" for number in range(n))
    again = "".join(f"<<{number}>>" for number in range(n))
    found = read_in_turn(shape, bound, schedule, n=n, order=order)
    assert found == (f"{again}|{once}" if shape is all_at_once else f"{once}|{said}")


@given(st.integers(0, 12), st.integers(1, 3), st.sampled_from([0.0, 1.0]), schedules())
def test_who_reads_both_as_they_come_needs_no_more_room(
    n: int, bound: int, every_s: float, schedule: int
) -> None:
    """Nor where one of its tasks is slow: that holds the producer back, as ever."""
    world = World(schedule=schedule, limits=Limits(lane_chunks=bound))
    run = simulate(at_once, world, n=n, every_s=every_s)
    check_laws(run)
    marked = "".join(f"<{number}>" for number in range(n))
    assert run.value == marked + "|" + "".join(map(str, range(n)))
    assert run.lane_peak <= bound


@given(st.integers(1, 12), st.integers(1, 3), schedules())
def test_nobody_is_given_room_while_an_arm_may_still_speak(
    n: int, bound: int, schedule: int
) -> None:
    world = World(schedule=schedule, limits=Limits(lane_chunks=bound))
    run = simulate(outrun, world, n=n, order=[0, 1])
    check_laws(run)
    assert run.value == "012|" + "".join(map(str, range(n)))
    assert run.lane_peak <= bound


def too_much(limits: Limits) -> Simulation:
    """A run whose circle needs more than that."""
    return simulate(parted, World(limits=limits), n=50, every_s=0.0, order=[1, 0, 2, 3])


@given(st.integers(0, 60), st.integers(1, 4), schedules())
def test_who_reads_what_has_waited_lets_the_others_run(n: int, bound: int, schedule: int) -> None:
    """As often as on a lane that never grew: others' streams do not stand still meanwhile."""
    READ.clear()

    async def main() -> None:
        async with open_engine(limits=Limits(lane_chunks=bound)) as engine:
            run = engine.start(kept_back, {"n": n})
            read = 0
            while not run.ended:
                await trio.lowlevel.checkpoint()
                assert len(READ) - read <= 2 * bound
                read = len(READ)
            assert await run.result() == n

    virtual(main, schedule=schedule)


@given(st.integers(0, 60), st.integers(1, 4), schedules())
def test_who_writes_what_has_to_wait_lets_the_others_run(n: int, bound: int, schedule: int) -> None:
    """As often as into a lane that never grew."""
    READ.clear()
    WRITTEN.clear()

    async def main() -> None:
        async with open_engine(limits=Limits(lane_chunks=bound)) as engine:
            run = engine.start(burst_back, {"n": n})
            written = 0
            while not run.ended:
                await trio.lowlevel.checkpoint()
                assert len(WRITTEN) - written <= 2 * bound
                written = len(WRITTEN)
            assert await run.result() == 3 * n

    virtual(main, schedule=schedule)


def test_what_waits_is_bounded_and_the_error_says_who_does_not_read_it() -> None:
    for limits in (Limits(lane_chunks=2, output_chunks=20), Limits(lane_chunks=2, output_bytes=9)):
        run = too_much(limits)
        with pytest.raises(
            LimitExceededError,
            match=(
                r"in_turn\(chunks=\.\.\.\) has read nothing from (numbers|upper)\(\.\.\.\) for over "
                r"(20 chunks|9 bytes): .* read both at the same time, or raise Limits\(output_"
            ),
        ):
            raise run.error or AssertionError("it went on")
        assert run.lane_peak <= 20
    assert too_much(Limits(lane_chunks=2, output_chunks=60)).error is None
