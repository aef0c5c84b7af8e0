"""A look at a run outlasts a moment in which the state says nothing."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import StateError
from orchestra.runs.retrying import WAITS_S, ask_with_retries
from orchestra.testing.virtual import virtual
from tests.runs.processes import ACME, Cable, heard, memory, process

TRIES = len(WAITS_S) + 1


@given(st.lists(st.booleans(), max_size=TRIES + 2))
def test_the_first_answer_counts_and_tries_have_a_bound(answered: list[bool]) -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        if not (answered + [False] * TRIES)[asked - 1]:
            raise StateError(f"away for the {asked}. time; look for it")
        return asked

    async def main() -> None:
        began_s = trio.current_time()
        first = answered.index(True) + 1 if True in answered else TRIES + 1
        if first <= TRIES:
            assert await ask_with_retries(ask) == first
        else:
            with pytest.raises(StateError, match=f"away for the {TRIES}. time"):
                await ask_with_retries(ask)
        assert asked == min(first, TRIES)
        assert trio.current_time() - began_s == pytest.approx(sum(WAITS_S[: asked - 1]))

    virtual(main)


def test_what_is_no_fault_of_the_state_is_not_tried_again() -> None:
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        raise ValueError

    async def main() -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - its own
            await ask_with_retries(ask)
        assert asked == 1

    virtual(main)


def test_a_run_elsewhere_is_found_listed_and_cancelled_over_a_short_break() -> None:
    async def main() -> None:
        state = memory()
        cable = Cable(state)
        async with process(Cable(state)) as one, process(cable) as other:
            run = one.start([(0.0, "a"), (60.0, "b")])
            await one.registry.adopt_durably(run)

            async def mend() -> None:
                await trio.sleep(0.3)
                cable.cut = False

            async def found() -> None:
                record = await other.registry.get(run.id)
                assert record is not None
                assert record.status == "running"

            async def listed() -> None:
                page = await other.registry.page(ACME, limit=10)
                assert [each.id for each in page.records] == [run.id]

            async def cancelled() -> None:
                record = await other.registry.cancel(run.id, "enough")
                assert record is not None
                assert record.status == "cancelled"

            for ask in (found, listed, cancelled):
                async with trio.open_nursery() as nursery:
                    cable.cut = True
                    nursery.start_soon(mend)
                    await ask()

    virtual(main)


def test_who_follows_from_elsewhere_hears_all_over_short_breaks() -> None:
    async def main() -> None:
        state = memory()
        cable = Cable(state)
        async with process(Cable(state)) as one, process(cable) as other:
            run = one.start([(0.5, each) for each in "abcdef"])
            await one.registry.adopt_durably(run)

            async def flicker() -> None:
                while True:
                    await trio.sleep(0.4)
                    cable.cut = not cable.cut

            async with trio.open_nursery() as nursery:
                nursery.start_soon(flicker)
                events = await heard(other.registry, run.id)
                nursery.cancel_scope.cancel()
            assert [each.type for each in events].count("delta") == len("abcdef")
            assert [each.seq for each in events] == [*range(1, len(events) + 1)]
            assert events[-1].type == "run.finished"

    virtual(main)
