"""What steps keep open: opened once, whoever asks first, and closed behind the last run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, Engine, injected, open_engine, pipeline, step
from orchestra.engine.calls.kept import CLOSE_S, KEPT_MAX
from orchestra.errors import DefinitionError, LimitExceededError
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual

Opened = Callable[[], AbstractAsyncContextManager[str]]
WHO = ContextVar("WHO", default="nobody")


class Shop:
    """Something that takes time to open and to close, and that may fail at first."""

    def __init__(self, opening_s: float = 0, closing_s: float = 0, failures: int = 0) -> None:
        self.opening_s, self.closing_s, self.failures = opening_s, closing_s, failures
        self.said: list[str] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        self.said.append(f"opening for {WHO.get()}")
        await trio.sleep(self.opening_s)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("closed today")
        self.said.append("open")
        try:
            yield "tea"
        finally:
            self.said.append("closing")
            await trio.sleep(self.closing_s)
            self.said.append("closed")


@step
async def bought(at: Any, for_s: float, *, context: Context = injected) -> str:
    WHO.set("a step")
    found = await context.kept(cast("Opened", at))
    await trio.sleep(for_s)
    return found


@pipeline
def buying(at: Any, for_s: float) -> str:
    return bought(at, for_s)


async def outcome(engine: Engine, at: object, for_s: float, after_s: float) -> object:
    await trio.sleep(after_s)
    try:
        return await engine.run(buying, at=at, for_s=for_s)
    except ConnectionError as error:
        return str(error)


@given(
    schedules(),
    st.builds(Shop, st.integers(0, 3), st.sampled_from([0, 0.1, 0.4]), st.integers(0, 2)),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=5),
)
def test_it_is_open_once_for_all_and_closed_behind_the_last(
    schedule: int, shop: Shop, buyers: list[tuple[int, int]]
) -> None:
    given_out: list[object] = []

    async def buy(engine: Engine, for_s: int, after_s: int) -> None:
        given_out.append(await outcome(engine, shop.opened, for_s, after_s))
        assert "closing" not in shop.said

    async def main() -> None:
        async with open_engine() as engine, trio.open_nursery() as nursery:
            for for_s, after_s in buyers:
                nursery.start_soon(buy, engine, for_s, after_s)

    virtual(main, schedule=schedule)
    assert set(given_out) <= {"tea", "closed today"}
    assert shop.said.count("open") <= 1
    assert ("tea" in given_out) == ("open" in shop.said)
    assert shop.said[-1] == ("closed" if "tea" in given_out else "opening for nobody")
    assert set(shop.said) <= {"opening for nobody", "open", "closing", "closed"}


@given(schedules(), st.integers(0, 4))
def test_who_leaves_while_it_opens_takes_it_from_nobody(schedule: int, left_s: int) -> None:
    shop = Shop(opening_s=2)

    async def main() -> str:
        async with open_engine() as engine:
            leaving = engine.start(buying, {"at": shop.opened, "for_s": 9})
            staying = engine.start(buying, {"at": shop.opened, "for_s": 0})
            await trio.sleep(left_s)
            leaving.cancel("it left")
            return await staying.result()

    assert virtual(main, schedule=schedule) == "tea"
    assert shop.said == ["opening for nobody", "open", "closing", "closed"]


def test_the_closing_of_one_that_hangs_is_bounded() -> None:
    shop = Shop(closing_s=1e6)

    async def main() -> float:
        async with open_engine() as engine:
            await engine.run(buying, at=shop.opened, for_s=0)
            began_s = trio.current_time()
        return trio.current_time() - began_s

    assert virtual(main) == CLOSE_S
    assert shop.said[-1] == "closing"


def test_one_that_is_opening_at_the_end_is_given_up() -> None:
    shop = Shop(opening_s=1e6)

    async def main() -> float:
        async with open_engine() as engine:
            engine.start(buying, {"at": shop.opened, "for_s": 0})
            await trio.sleep(1)
        return trio.current_time()

    began_s = virtual(trio_now)
    assert virtual(main) - began_s == 1
    assert shop.said == ["opening for nobody"]


async def trio_now() -> float:
    await trio.lowlevel.checkpoint()
    return trio.current_time()


def test_what_ends_by_itself_is_told_in_the_log_and_opened_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    breaking = trio.Event()
    opened: list[int] = []

    async def breaks() -> None:
        await breaking.wait()
        raise OSError("the pool is gone")

    @asynccontextmanager
    async def pool() -> AsyncIterator[str]:
        opened.append(len(opened))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(breaks)
            yield f"pool {opened[-1]}"
            nursery.cancel_scope.cancel()

    async def main() -> list[str]:
        nonlocal breaking
        async with open_engine() as engine:
            first = await engine.run(buying, at=pool, for_s=0)
            breaking.set()
            await trio.testing.wait_all_tasks_blocked()
            breaking = trio.Event()
            return [first, await engine.run(buying, at=pool, for_s=0)]

    assert virtual(main) == ["pool 0", "pool 1"]
    assert "the pool is gone" in caplog.text


def test_a_simulation_closes_what_its_run_has_opened() -> None:
    shop = Shop(opening_s=1, closing_s=0.4)
    run = simulate(buying, at=shop.opened, for_s=0)
    check_laws(run)
    assert (run.value, run.lasted_s) == ("tea", 1)
    assert shop.said[-1] == "closed"


async def no_manager() -> str:
    return "tea"


@pytest.mark.parametrize("at", [no_manager, lambda: "tea"])
def test_what_cannot_be_opened_is_told_with_what_to_write(at: object) -> None:
    run = simulate(buying, at=at, for_s=0)
    assert isinstance(run.error, DefinitionError)
    assert "write a function with one `yield` under @asynccontextmanager" in str(run.error)


def test_a_function_for_each_run_comes_to_an_end() -> None:
    async def main() -> None:
        async with open_engine() as engine:
            for _ in range(KEPT_MAX):
                await engine.run(buying, at=Shop().opened, for_s=0)
            with pytest.raises(LimitExceededError, match="pass a function of a module") as caught:
                await engine.run(buying, at=Shop().opened, for_s=0)
            assert caught.value.limit == "kept_max"

    virtual(main)


def test_what_cannot_be_shown_is_refused_and_holds_up_nobody() -> None:
    """Neither who asks for it again, nor the end."""

    class OddError(Exception):
        pass

    class Odd:
        def __call__(self) -> AbstractAsyncContextManager[str]:
            raise AssertionError("it is not opened")

        def __repr__(self) -> str:
            raise OddError

    odd = Odd()

    async def main() -> None:
        async with open_engine() as engine:
            for _ in range(2):
                with pytest.raises(OddError):
                    await engine.run(buying, at=odd, for_s=0)

    virtual(main)
