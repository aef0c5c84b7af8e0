"""The state of a cache, where many entries are asked for at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import attrs
import pytest
import trio

from orchestra.policies.caching.store import AT_ONCE, MISSED_MAX, STATE_WAIT_S, CacheStore
from orchestra.protocols import Change, State
from orchestra.testing.virtual import virtual
from orchestra.values import EmbedRequest
from tests.policies.caching.test_cached import Away, Says, cached, memory

T = TypeVar("T")


@attrs.define(eq=False)
class Distant(State):
    """A state that takes a while for each call, whatever else it is asked."""

    inner: State
    takes_s: float
    late: int = 0
    """Of its next calls, so many do not come back."""

    async def change(
        self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
    ) -> T:
        raise NotImplementedError("the cache does not change entries")

    async def recall(self, key: str) -> bytes | None:
        await self._come()
        return await self.inner.recall(key)

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        await self._come()
        await self.inner.remember(key, data, ttl_s=ttl_s)

    async def _come(self) -> None:
        if self.late:
            self.late -= 1
            await trio.sleep_forever()
        await trio.sleep(self.takes_s)


@pytest.mark.parametrize("late", [False, True])
def test_many_texts_are_found_in_a_state_that_is_some_way_off(late: bool) -> None:
    """Each is paid for once, however many there are; but for those whose answer was lost."""
    texts = EmbedRequest(tuple(f"text {at}" for at in range(500)))

    async def main() -> None:
        fake, state = Says(()), Distant(memory(), STATE_WAIT_S / 2)
        model = cached(fake, state)
        made = await model.embed(texts)
        state.late = AT_ONCE if late else 0
        assert (await model.embed(texts)).vectors == made.vectors
        asked = [len(each.texts) for each in fake.asked if isinstance(each, EmbedRequest)]
        assert asked == ([500, AT_ONCE] if late else [500])

    virtual(main)


@pytest.mark.parametrize("count", [1, 500])
def test_a_state_with_a_longer_timeout_is_waited_for(count: int) -> None:
    """As on a busy machine: `timeout_s` of `[state]` holds for caches, too."""
    texts = EmbedRequest(tuple(f"text {at}" for at in range(count)))

    async def main() -> None:
        fake, state = Says(()), Distant(memory(), 1.0)
        state.timeout_s = 2.0
        model = cached(fake, state)
        made = await model.embed(texts)
        assert (await model.embed(texts)).vectors == made.vectors
        assert len(fake.asked) == 1

    virtual(main)


@pytest.mark.parametrize("hangs", [True, False])
def test_a_state_that_is_away_is_not_asked_for_all_texts(
    hangs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        fake, state = Says(()), Away(hangs)
        found = await cached(fake, state).embed(EmbedRequest(tuple(f"{at}" for at in range(500))))
        assert len(found.vectors) == 500
        lost_s = 2 * MISSED_MAX * STATE_WAIT_S if hangs else 0.0
        assert trio.current_time() == pytest.approx(1 + lost_s)
        assert state.asked <= 2 * MISSED_MAX * AT_ONCE

    with caplog.at_level(logging.WARNING, "orchestra.cache"):
        virtual(main)
    (told,) = caplog.messages
    assert ("did not answer within 0.05 s" if hangs else "the store is gone") in told


def test_a_state_that_is_often_late_is_told_of_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Or on a busy host there would be a line for every few calls."""

    async def taking(seconds: float) -> bool:
        await trio.sleep(seconds)
        return True

    async def main() -> None:
        store = CacheStore(memory(), "m", 60)
        for _ in range(600):  # ten minutes
            for late_s, in_time in ((1.0, None), (0.0, True)):
                assert await store.bounded(partial(taking, late_s)) is in_time
            await trio.sleep(1 - STATE_WAIT_S)

    with caplog.at_level(logging.WARNING, "orchestra.cache"):
        virtual(main)
    assert len(caplog.messages) == 10


def test_an_outage_that_begins_soon_after_another_is_told_of_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once the minute is over; or a state that stays away would be told of never."""

    async def main() -> None:
        store = CacheStore(memory(), "m", 60)
        for in_time in (False, True, *[False] * 120):
            late_s = 0.0 if in_time else 1.0
            await store.bounded(partial(trio.sleep, late_s))
            await trio.sleep(1)

    with caplog.at_level(logging.WARNING, "orchestra.cache"):
        virtual(main)
    assert len(caplog.messages) == 2
