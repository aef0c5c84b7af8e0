"""Batches: no text is lost, and none goes with more than one call may have."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.policies.batches import BatchSize, in_order
from orchestra.policies.requests.tokens import text_tokens
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual

sizes = st.builds(BatchSize, st.integers(1, 5), st.none() | st.integers(1, 12))


@given(sizes, st.lists(st.text(max_size=30), max_size=20))
def test_texts_are_cut_in_their_order_into_as_few_batches_as_it_takes(
    size: BatchSize, texts: list[str]
) -> None:
    batches = size.batches(texts)
    assert [text for batch in batches for text in batch] == texts

    def fits(batch: tuple[str, ...]) -> bool:
        tokens = sum(map(text_tokens, batch))
        return len(batch) <= size.texts_max and (
            size.tokens_max is None or tokens <= size.tokens_max
        )

    for batch in batches:
        assert fits(batch) or len(batch) == 1, "what is too long alone goes alone"
    for batch, following in pairwise(batches):
        assert not fits((*batch, following[0])), "there was no room for one more"


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=9),
    st.integers(1, 4),
    schedules(),
)
def test_what_is_done_at_once_comes_in_order_or_fails_as_the_first_that_failed(
    items: list[tuple[int, bool]], at_once: int, schedule: int
) -> None:
    running, most, failed = set[int](), 0, list[Exception]()

    async def act(at: int) -> int:
        nonlocal most
        running.add(at)
        most = max(most, len(running))
        try:
            lasts_s, fails = items[at]
            await trio.sleep(lasts_s)
            if fails:
                failed.append(ValueError(at))
                raise failed[-1]
            return at
        finally:
            running.remove(at)

    async def main() -> None:
        places = range(len(items))
        if any(fails for _, fails in items):
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - it is compared below
                await in_order(act, places, at_once)
            assert caught.value is failed[0]
        else:
            assert await in_order(act, places, at_once) == list(places)
        assert not running
        assert most <= at_once

    virtual(main, schedule=schedule)


def test_all_are_cancelled_together() -> None:
    begun: list[int] = []

    async def act(at: int) -> None:
        begun.append(at)
        await trio.sleep_forever()

    async def main() -> None:
        with trio.move_on_after(1) as patience:
            await in_order(act, range(5), 2)
        assert patience.cancelled_caught
        assert sorted(begun) == [0, 1]

    virtual(main)
