"""A state that takes its time: nothing is undone by what is late, and nobody is lost who is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import TypeVar

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import StateError
from orchestra.protocols import Change, State
from orchestra.runs import inbox
from orchestra.runs.idempotency import NewClaim
from orchestra.runs.registry import open_registry
from orchestra.testing.strategies import moments, schedules
from orchestra.testing.virtual import virtual
from tests.runs.processes import ACME, SOON, Cable, heard, lines, memory, process

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


class Late(Cable):
    """A way on which some changes are given up, and arrive so much later, or never (`inf`)."""

    def __init__(self, inner: State, nursery: trio.Nursery, late_s: Sequence[float | None]) -> None:
        super().__init__(inner)
        self._nursery = nursery
        self._late_s = list(late_s)

    async def change(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        late_s = self._late_s.pop(0) if self._late_s else None
        if late_s is not None:
            self._nursery.start_soon(self._arrive, late_s, keys, decide)
            raise self.error
        return await super().change(keys, decide)

    async def _arrive(
        self,
        late_s: float,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[object]],
    ) -> None:
        await trio.sleep(late_s)
        await self._inner.change(keys, decide)


LATE_S = st.lists(st.none() | st.floats(0.0, 4.0) | st.just(inf), max_size=6)


@given(LATE_S, moments(1), st.booleans(), schedules())
def test_what_was_given_up_and_arrives_late_undoes_nothing_and_counts_once(
    late_s: list[float | None], lasts_s: float, durably: bool, schedule: int
) -> None:
    async def main() -> None:
        state = memory()
        async with trio.open_nursery() as nursery, process(Cable(state)) as other:
            async with process(Late(state, nursery, late_s)) as one:
                run = one.start([(lasts_s, "x")])
                if durably:
                    with suppress(StateError):
                        await one.registry.adopt_durably(run)
                else:
                    one.registry.adopt(run)
                await trio.sleep(10.0)
                for registry in (one.registry, other.registry):
                    record = await registry.get(run.id)
                    assert record is not None
                    assert record.status == "finished"
                    page = await registry.page(ACME, limit=9)
                    assert [each.id for each in page.records] == [run.id]
            nursery.cancel_scope.cancel()

    virtual(main, schedule=schedule)


def test_a_claim_that_was_given_back_before_it_arrives_holds_its_key_for_nobody() -> None:
    async def main() -> None:
        state = memory()
        async with (
            trio.open_nursery() as nursery,
            process(Cable(state)) as other,
            process(Late(state, nursery, [None, 2.0])) as one,
        ):
            await trio.sleep(0.01)  # its publisher has looked once
            with pytest.raises(StateError):
                await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            await trio.sleep(3.0)
            claimed = await other.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(claimed, NewClaim)
            await other.registry.unclaim(claimed)

    virtual(main)


@given(moments(1), schedules())
def test_a_run_that_is_cancelled_while_its_start_is_written_has_ended(
    slow_s: float, schedule: int
) -> None:
    async def main() -> None:
        async with process(Slow(memory(), 0.0, slow_s)) as one, trio.open_nursery() as nursery:
            await trio.sleep(0.01)  # its publisher has looked once
            run = one.start([(LONG_S, "x")])
            nursery.start_soon(one.registry.adopt_durably, run)
            await trio.sleep(0.01)
            record = await one.registry.cancel(run.id, "enough")
            assert record is not None
            assert record.status == "cancelled"
            assert await one.registry.get(run.id) == record

    virtual(main, schedule=schedule)


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
            await trio.sleep(0.01)  # its publisher has looked once
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
                gone = Change(None, {inbox.process_key(owner.registry.process): None})
                await state.change([], lambda *_: gone)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(miss)
                events = await heard(other.registry, run.id)
            record = await other.registry.get(run.id)
            assert record is not None
            assert record.lost or events == lines(run)

    virtual(main, schedule=schedule)
