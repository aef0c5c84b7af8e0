"""Two processes over one file or one Redis, in real time: what the laws say of memory holds there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from orchestra.errors import StateError
from orchestra.protocols import State
from orchestra.runs.idempotency import ExistingClaim, NewClaim
from tests.runs.processes import ACME, REAL, Cable, heard, lines, process
from tests.stores.states import at_place, opened, place

SHARED = ["sqlite", "redis"]


@contextmanager
def two(how: str) -> Iterator[tuple[State, State]]:
    """One state, opened twice."""
    with opened(how, limit_bytes=1 << 20) as one:
        other = at_place(place(one))
        try:
            yield one, other
        finally:
            other.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", SHARED)
def test_runs_are_followed_cancelled_listed_and_claimed_through_either(how: str) -> None:
    async def main(first: State, second: State) -> None:
        async with (
            process(Cable(first), REAL) as one,
            process(Cable(second), REAL) as other,
        ):
            run = one.start([(0.05, str(number)) for number in range(5)])
            await one.registry.adopt_durably(run)
            assert await heard(other.registry, run.id) == lines(run)
            mine = await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(mine, NewClaim)
            second_run = one.start([(60.0, "x")], run_id=mine.run_id)
            one.registry.adopt(second_run)
            again = await other.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert again == ExistingClaim(mine.run_id)
            record = await other.registry.cancel(mine.run_id, "somebody said so")
            assert record is not None
            assert record.status == "cancelled"
            page = await other.registry.page(ACME, limit=10)
            assert [each.id for each in page.records] == [second_run.id, run.id]
            assert await heard(other.registry, run.id) == lines(run)

    with two(how) as (first, second):
        trio.run(main, first, second)


@pytest.mark.parametrize("how", SHARED)
def test_a_killed_process_is_noticed(how: str) -> None:
    async def main(first: State, second: State) -> None:
        dying = Cable(first)
        async with process(dying, REAL) as one, process(Cable(second), REAL) as other:
            run = one.start([(60.0, "x")])
            await one.registry.adopt_durably(run)
            async with trio.open_nursery() as nursery:

                async def follow() -> None:
                    (*_, end) = await heard(other.registry, run.id)
                    assert end.type == "run.failed"

                nursery.start_soon(follow)
                dying.cut = True
                with pytest.raises(StateError):
                    await one.registry.get("0" * 32)

    with two(how) as (first, second):
        trio.run(main, first, second)
