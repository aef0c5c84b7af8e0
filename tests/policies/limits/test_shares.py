"""Of places that are taken for long, one tenant never has all."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.policies.limits.shares import Shares
from orchestra.testing.virtual import virtual

tasks = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 9),
        st.integers(1, 9),
        st.one_of(st.none(), st.integers(1, 12)),
    ),
    max_size=20,
)
"""Whose a task is, when it begins, how long it works, and when it is cancelled, if ever."""


@given(tasks, st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_nobody_has_more_than_a_share_and_nothing_is_kept(
    tasks: list[tuple[str, int, int, int | None]], most: int, each: int, schedule: int
) -> None:
    working: list[str] = []

    async def work(shares: Shares, tenant: str, begin: int, length: int, until: int | None) -> None:
        await trio.sleep(begin)
        with trio.move_on_after(trio.current_time() if until is None else until) as scope:
            scope.deadline = scope.deadline if until is not None else float("inf")
            async with shares.share(tenant) as places, places:
                working.append(tenant)
                assert len(working) <= most
                assert working.count(tenant) <= each
                try:
                    await trio.sleep(length)
                finally:
                    working.remove(tenant)

    async def main() -> tuple[int, int]:
        shares = Shares(most, each)
        async with trio.open_nursery() as nursery:
            for told in tasks:
                nursery.start_soon(work, shares, *told)
        return len(shares), shares.places.borrowed_tokens

    assert virtual(main, schedule=schedule) == (0, 0)


def test_another_tenant_does_not_wait_for_one_that_has_its_share() -> None:
    async def main() -> float:
        shares = Shares(2, 1)

        async def read(tenant: str) -> None:
            async with shares.share(tenant) as places, places:
                await trio.sleep(30 if tenant == "greedy" else 1)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(read, "greedy")
            await trio.testing.wait_all_tasks_blocked()
            began_s = trio.current_time()
            await read("other")
            took_s = trio.current_time() - began_s
            nursery.cancel_scope.cancel()
        return took_s

    assert virtual(main) == pytest.approx(1)
