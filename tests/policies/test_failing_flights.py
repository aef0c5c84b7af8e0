"""A flight that fails ends with those who wait for it, and with nothing else."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import ModelConnectionError, StepFailedError
from orchestra.policies.account import PRESENT
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.protocols import Model, ModelReply
from orchestra.testing.strategies import moments, schedules
from orchestra.testing.virtual import virtual
from orchestra.values import Capabilities, ChatRequest
from tests.policies.waiters import ASKED, Fake, Payer, ask, read

CUT = ModelConnectionError("cut", code="cut")


async def exits() -> None:
    raise SystemExit(3)


async def of_another_loop() -> None:
    raise CancelledError


async def leaves_a_generator() -> None:
    raise GeneratorExit


async def in_a_group() -> None:
    async with trio.open_nursery():
        raise CUT


async def several() -> None:
    raise ExceptionGroup("two", [CUT, ValueError("closing")])


async def stray() -> None:
    """Raises a `Cancelled` outside of the scope that it came from."""
    kept: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            kept.append(cancelled)
            raise
    raise kept[0]


TOLD: dict[Callable[[], Awaitable[None]], type[Exception]] = {
    exits: StepFailedError,
    of_another_loop: StepFailedError,
    leaves_a_generator: StepFailedError,
    in_a_group: ModelConnectionError,
    several: StepFailedError,
    stray: StepFailedError,
}
"""How calls fail, and what is told of it to whoever waits."""


@attrs.define(eq=False)
class Failing(Model):
    """Fails after a second, on entry or on receive; `at_end` in a task of its own, too."""

    fails: Callable[[], Awaitable[None]]
    on_entry: bool = False
    at_end: bool = False
    capabilities: Capabilities = Capabilities()

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        if self.on_entry:
            await self._fail()
        if not self.at_end:
            yield FailingReply(self)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._close)
            yield FailingReply(self)

    async def _fail(self) -> None:
        await trio.sleep(1)
        await self.fails()

    async def _close(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while it was closed")


@attrs.define(eq=False)
class FailingReply:
    model: Failing

    async def receive(self) -> tuple[()]:
        await self.model._fail()
        return ()


@given(
    schedules(),
    st.sampled_from([*TOLD]),
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(moments(1.5), moments()), min_size=1, max_size=4),
)
def test_however_a_flight_fails_its_waiters_are_told_and_others_go_on(
    schedule: int,
    fails: Callable[[], Awaitable[None]],
    on_entry: bool,
    at_end: bool,
    visits: list[tuple[float, float]],
) -> None:
    shared = CoalescedModel(Failing(fails, on_entry=on_entry, at_end=at_end), name="m")
    beside = CoalescedModel(Fake(), name="n")
    told = list[Exception]()
    heard = list[object]()

    async def asks(number: int, at_s: float, for_s: float, engine: trio.Nursery) -> None:
        PRESENT.set(Payer(engine, f"r{number}"))
        await trio.sleep(at_s)
        with trio.move_on_after(for_s):
            try:
                await read(shared)
            except Exception as error:
                told.append(error)

    async def goes_on(engine: trio.Nursery) -> None:
        PRESENT.set(Payer(engine, "beside"))
        heard.extend(await read(beside, ask("something else")))

    async def main() -> None:
        async with trio.open_nursery() as engine, trio.open_nursery() as nursery:
            nursery.start_soon(goes_on, engine)
            for number, (at_s, for_s) in enumerate(visits):
                nursery.start_soon(asks, number, at_s, for_s, engine)

    virtual(main, schedule=schedule)
    assert len(heard) == len(Fake().events)
    assert shared.flights == 0
    assert not any(isinstance(error, BaseExceptionGroup) for error in told)
    assert at_end or all(type(error) is TOLD[fails] for error in told)
    assert len(told) >= sum(for_s > 2 for _, for_s in visits)


def test_what_stops_the_process_goes_on_from_a_flight() -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        async with trio.open_nursery() as engine:
            PRESENT.set(Payer(engine, "r"))
            with pytest.raises(ModelConnectionError):
                await read(CoalescedModel(Failing(interrupted), name="m"), ASKED)

    with pytest.raises(BaseExceptionGroup) as raised:
        virtual(main)
    assert raised.group_contains(KeyboardInterrupt)
