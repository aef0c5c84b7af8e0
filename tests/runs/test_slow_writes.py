"""A state that takes its time: nothing is undone by what is late, and nobody is lost who is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import trio
from hypothesis import given, settings

from orchestra.protocols import Change, State
from orchestra.runs import mail
from orchestra.runs.registry import open_registry
from orchestra.testing.strategies import moments, schedules
from orchestra.testing.virtual import virtual
from tests.runs.processes import SOON, Cable, heard, lines, memory, process

T = TypeVar("T")

LONG_S = 100.0


class Slow(Cable):
    """A way on which the first changes take so long to arrive; those behind them pass them."""

    def __init__(self, inner: State, *delays_s: float) -> None:
        super().__init__(inner)
        self._delays_s = list(delays_s)

    async def change(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        await trio.sleep(self._delays_s.pop(0) if self._delays_s else 0.0)
        return await super().change(keys, decide)


@given(moments(1), moments(1), schedules())
def test_a_run_is_told_to_others_whenever_they_came(
    slow_s: float, shared_s: float, schedule: int
) -> None:
    """Also where its start was just being written, for this process alone."""

    async def main() -> None:
        state = memory()
        async with (
            process(Cable(state)) as other,
            open_registry(Slow(state, slow_s), shared=False, now_s=trio.current_time) as registry,
        ):
            run = other.start([(LONG_S, "x")])
            registry.adopt(run)
            await trio.sleep(shared_s)
            registry.share()
            await trio.sleep(2.0)
            record = await other.registry.get(run.id)
            assert record is not None
            assert record.status == "running"

    virtual(main, schedule=schedule)


@given(moments(1), moments(1), schedules())
def test_a_run_that_has_ended_does_not_go_on_again(
    slow_s: float, lasts_s: float, schedule: int
) -> None:
    """Also where the record of its start arrives behind that of its end."""

    async def main() -> None:
        state = memory()
        async with process(Slow(state, 0.0, slow_s)) as one, process(Cable(state)) as other:
            await trio.sleep(0.01)  # its post office has looked once
            run = one.start([(lasts_s, "x")])
            await one.registry.adopt_durably(run)
            await trio.sleep(2.0)
            for registry in (one.registry, other.registry):
                record = await registry.get(run.id)
                assert record is not None
                assert record.status == "finished"

    virtual(main, schedule=schedule)


@settings(max_examples=30)
@given(moments(2), schedules())
def test_a_heartbeat_that_comes_late_ends_nobodys_following(late_s: float, schedule: int) -> None:
    """Who has missed one heartbeat, and then finds the next, follows on; or the run is lost."""

    async def main() -> None:
        state = memory()
        async with (
            process(Cable(state), SOON) as owner,
            process(Slow(state, *[0.3] * 50), SOON) as other,
        ):
            run = owner.start([(0.1, str(number)) for number in range(30)])
            await owner.registry.adopt_durably(run)

            async def miss() -> None:
                await trio.sleep(late_s)
                gone = Change(None, {mail.process_key(owner.registry.process): None})
                await state.change([], lambda *_: gone)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(miss)
                events = await heard(other.registry, run.id)
            record = await other.registry.get(run.id)
            assert record is not None
            assert record.lost or events == lines(run)

    virtual(main, schedule=schedule)
