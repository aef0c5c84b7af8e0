"""Adaptive concurrency: within its bounds, down at once, up slowly, near what there is room for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import ModelError, OverloadedError, RateLimitError
from orchestra.policies.guard import GuardedModel
from orchestra.policies.limits.adaptive import Adaptive
from orchestra.policies.limits.limit import CallLimits, Load
from orchestra.protocols import Model, ModelReply
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel
from orchestra.values import ChatRequest, Stopped, StopReason
from tests.policies.test_guard import Fake

ASKED = ChatRequest(())


@given(st.integers(1, 50), st.lists(st.booleans(), max_size=200))
def test_the_bound_is_between_one_and_the_most(most: int, calls: list[bool]) -> None:
    adaptive = Adaptive(most)
    for at_s, served in enumerate(calls):
        before = adaptive.bound
        if served:
            adaptive.served()
            assert before <= adaptive.bound <= before + 1
        else:
            adaptive.refused(at_s, at_s)
            assert before // 2 - 1 <= adaptive.bound <= max(before // 2 + 1, 1)
        assert 1 <= adaptive.bound <= most


def test_calls_that_were_under_way_halve_it_once() -> None:
    adaptive = Adaptive(16)
    for _ in range(16):
        adaptive.refused(0.0, 1.0)
    assert adaptive.bound == 8
    adaptive.refused(1.0, 2.0)
    assert adaptive.bound == 4


@attrs.define(eq=False)
class Roomy(Model):
    """Has room for some calls at once, each a second long, and refuses the rest."""

    room: int
    error: type[ModelError]
    running: int = 0
    served: int = 0
    refused: int = 0

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        await trio.sleep(0.125)
        if self.running >= self.room:
            self.refused += 1
            raise self.error("no room")
        self.running += 1
        try:
            yield ScriptedModel(((0.875, Stopped(StopReason.END)),)).reply()
        finally:
            self.running -= 1
        self.served += 1


@pytest.mark.parametrize("error", [RateLimitError, OverloadedError])
@settings(max_examples=10)
@given(room=st.integers(2, 12), schedule=schedules())
def test_it_finds_what_there_is_room_for(error: type[ModelError], room: int, schedule: int) -> None:
    """With many more callers than room, most of the room is used, and few calls are refused."""

    async def main() -> Roomy:
        roomy = Roomy(room, error)
        limits = CallLimits(concurrency=20, adaptive=True, wait_max_s=None)
        model = GuardedModel(roomy, name="m", limits=limits)

        async def ask() -> None:
            while True:
                await trio.lowlevel.checkpoint()
                with suppress(ModelError):
                    await model.complete(ASKED)

        with trio.move_on_after(40):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask)
        assert model.state().load.running == 0
        return roomy

    roomy = virtual(main, schedule=schedule)
    assert roomy.served >= 0.7 * 40 * room
    assert roomy.refused <= 80, "without adapting, it would be thousands"


def test_an_answer_that_was_left_had_room() -> None:
    async def main() -> list[int | None]:
        fake = Fake(fault=lambda _: RateLimitError("too many"))
        limits = CallLimits(concurrency=8, adaptive=True)
        model = GuardedModel(fake, name="m", limits=limits)
        with pytest.raises(RateLimitError):
            await model.complete(ASKED)
        found = [model.state().load.at_once]
        fake.fault = lambda _: None
        for _ in range(100):
            async with model.stream(ASKED) as reply:
                await reply.receive()
        return [*found, model.state().load.at_once]

    assert virtual(main) == [4, 8]


def test_what_says_nothing_of_room_changes_nothing() -> None:
    async def main() -> Load:
        roomy = Roomy(0, ModelError)
        limits = CallLimits(concurrency=8, adaptive=True)
        model = GuardedModel(roomy, name="m", limits=limits)
        for _ in range(3):
            with pytest.raises(ModelError):
                await model.complete(ASKED)
        with trio.move_on_after(0.05):
            await model.complete(ASKED)
        return model.state().load

    assert virtual(main) == Load(0, 0, 8)
