"""Panics: what is raised past `except Exception` fails the run that raised it, and no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import pytest
import trio

from orchestra import (
    Pipeline,
    Policy,
    Retry,
    Step,
    Stream,
    best_of,
    each,
    fallback,
    open_engine,
    pipeline,
    quorum,
    route,
    step,
)
from orchestra.errors import NoQuorumError, RunError, StepFailedError
from orchestra.events import Event, RunFailed, StepFailed
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import simulate
from orchestra.testing.virtual import virtual
from tests.engine.steps import Panic, says, waits


def panics(*_: object, **__: object) -> NoReturn:
    raise Panic("slice index starts at 3 but ends at 1")


class Odd:
    """An object that panics wherever it is touched."""

    __eq__ = __hash__ = __iter__ = __getitem__ = __str__ = panics

    @property
    def part(self) -> object:
        return panics()


class OddError(Exception):
    """An error that panics when it is asked what to do about it."""

    __str__ = panics

    @property
    def retryable(self) -> bool:
        panics()


@step
async def odd(n: int) -> Any:
    return Odd()


@step
def at_once(n: int) -> str:
    return panics()


@step
async def awaits(n: int) -> str:
    await trio.lowlevel.checkpoint()
    return panics()


@step(thread=True)
def threads(n: int) -> str:
    return panics()


@step
async def streams(n: int) -> AsyncIterator[str]:
    yield "a"
    panics()


@step
async def cleans_up(n: int) -> AsyncIterator[str]:
    try:
        yield "a"
    finally:
        panics()


@step
async def nests(n: int) -> str:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(awaits.call, n)
        nursery.start_soon(awaits.call, n)
    return ""


@step(policy=Policy(retry=Retry(attempts_max=2)))
async def asks_again(n: int) -> str:
    raise OddError


@step
async def reads_all(chunks: Stream[str]) -> str:
    return "".join([chunk async for chunk in chunks])


BODIES: dict[str, Callable[[Any], object]] = {
    "a task": awaits,
    "the spot": at_once,
    "a thread": threads,
    "a stream": streams,
    "a generator's finally": lambda n: reads_all(cleans_up(n)),
    "a nursery": nests,
    "each": lambda n: each([1, 2], lambda _: awaits(n), at_once=2),
    "the items of each": lambda n: each(odd(n), says, at_once=2),
    "a part of an argument": lambda n: says(odd(n).part),
    "a part of the output": lambda n: odd(n).part,
    "an item of the output": lambda n: odd(n)[0],
    "the label of a route": lambda n: route(odd(n), {"a": says(n)}, default=says(n)),
    "a judge": lambda n: best_of(says(n), says(n), judge=panics),
    "agree": lambda n: quorum(2, says(n), says(n), agree=panics),
    "answers that are compared": lambda n: quorum(2, odd(n), odd(n)),
    "validate": lambda n: fallback(says(n), says(n), validate=panics),
    "retryable": asks_again,
}


def defined(body: Callable[[Any], object]) -> Pipeline[..., object]:
    @pipeline(name="panicking")
    def panicking(n: int) -> object:
        return body(n)

    return panicking


@pytest.mark.parametrize("place", BODIES)
def test_a_panic_fails_the_run_that_raised_it_and_no_other(place: str) -> None:
    panicking = defined(BODIES[place])

    @pipeline
    def beside(n: int) -> str:
        return waits(n, for_s=9)

    async def main() -> str:
        async with open_engine() as engine:
            other = engine.start(beside, {"n": 1})
            with pytest.raises(RunError, match="Panic") as raised:
                await engine.run(panicking, n=1)
            assert "Panic: slice index starts at 3" in str(raised.value)
            return str(await other.result())

    assert virtual(main) == "1"
    simulation = simulate(panicking, n=1)
    check_laws(simulation)
    assert isinstance(simulation.events[-1], RunFailed)


def test_a_panic_is_told_with_the_step_and_its_line() -> None:
    simulation = simulate(defined(awaits), n=1)
    error = simulation.error
    assert isinstance(error, StepFailedError)
    assert str(error) == (
        "it raised something that is not an Exception; raise an error that says what is wrong:\n"
        "  Panic: slice index starts at 3 but ends at 1"
    )
    assert isinstance(error.__cause__, Panic)
    (failed,) = [event for event in simulation.events if isinstance(event, StepFailed)]
    assert (failed.step, failed.error) == ("awaits", "StepFailedError")
    assert "in step 'awaits' of pipeline 'panicking'" in error.__notes__[0]


def test_an_arm_that_panics_is_an_arm_that_fails() -> None:
    assert simulate(defined(lambda n: fallback(awaits(n), says(n))), n=1).value == "1"
    assert isinstance(
        simulate(defined(lambda n: quorum(2, awaits(n), says(n))), n=1).error, NoQuorumError
    )


def test_an_error_without_words_fails_its_run_only() -> None:
    @step
    async def raises(n: int) -> str:
        raise OddError

    simulation = simulate(defined(raises), n=1)
    assert isinstance(simulation.error, OddError)
    last = simulation.events[-1]
    assert isinstance(last, RunFailed)
    assert last.message == "(Panic while it was asked for its message)"


def test_an_observer_that_panics_is_told_no_more() -> None:
    told: list[Event] = []

    def observer(event: Event) -> None:
        told.append(event)
        panics()

    async def main() -> object:
        async with open_engine(observe=lambda _: observer) as engine:
            return await engine.run(defined(says), n=1)

    assert virtual(main) == "1"
    assert len(told) == 1


@pytest.mark.parametrize("outcome", [pytest.skip.Exception, pytest.fail.Exception])
def test_what_a_test_says_in_a_step_reaches_the_test(outcome: type[BaseException]) -> None:
    """Also in an arm: `pytest.fail` is no failure that another arm could make good."""

    @step
    async def tells(n: int) -> str:
        raise outcome("said in a step")

    arms: Step[..., str] = tells
    for body in (arms, lambda n: fallback(arms(n), says(n))):
        with pytest.raises(outcome, match="said in a step"):
            simulate(defined(body), n=1)
