"""Virtual time: drawn schedules differ and replay, and what hangs is found at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version

import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st
from trio._core import _run

from orchestra import pipeline
from orchestra.providers.wordllama import WordLlamaEmbedder
from orchestra.steps import classify
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import FAR_S, HangError, virtual
from orchestra.testing.world import World
from orchestra.values import Label


def order(schedule: int, tasks: int = 6) -> list[int]:
    """The order in which tasks run that are all ready."""
    ran: list[int] = []

    async def run(number: int) -> None:
        ran.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(tasks):
                nursery.start_soon(run, number)

    virtual(main, schedule=schedule)
    return ran


def test_distinct_schedules_run_ready_tasks_in_distinct_orders() -> None:
    """Hypothesis by itself seeds Trio with 0 for every example, and explores one order."""
    orders = {tuple(order(schedule)) for schedule in range(100)}
    assert len(orders) > 80
    assert all(sorted(found) == list(range(6)) for found in orders)


SEEN: set[tuple[int, ...]] = set()


@settings(max_examples=100, database=None)
@given(schedules())
def test_a_schedule_that_is_drawn_is_the_one_that_runs(schedule: int) -> None:
    """Also inside of `@given`, where Hypothesis has seeded Trio itself."""
    SEEN.add(tuple(order(schedule)))


def test_the_schedules_that_were_drawn_differ() -> None:
    test_a_schedule_that_is_drawn_is_the_one_that_runs()
    assert len(SEEN) > settings().max_examples // 5  # on a second Python, a tenth are drawn


@given(schedules())
def test_a_schedule_replays(schedule: int) -> None:
    assert order(schedule) == order(schedule)


def throws(schedule: int) -> tuple[float, ...]:
    async def main() -> tuple[float, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(random.random() for _ in range(3))

    return virtual(main, schedule=schedule)


@given(schedules())
def test_the_module_random_is_drawn_too_and_replays(schedule: int) -> None:
    """A step that throws dice is explored, and repeated: Hypothesis by itself seeds it with 0."""
    before = random.getstate()
    assert throws(schedule) == throws(schedule)
    assert throws(schedule) != throws(schedule ^ 1)
    assert random.getstate() == before


def test_trio_is_left_as_it_was() -> None:
    was, state = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()
    order(7)
    assert (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()) == (was, state)

    async def fail() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        virtual(fail, schedule=7)
    assert (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()) == (was, state)


def test_this_is_the_trio_whose_private_names_we_know() -> None:
    """With another one, look whether schedules can be drawn publicly by now, and move this on."""
    assert version("trio").split(".")[:2] == ["0", "35"]


@given(st.integers(0, 10**5))
def test_time_is_exact_and_takes_none(seconds: int) -> None:
    async def main() -> float:
        await trio.sleep(seconds)
        return trio.current_time()

    assert virtual(main) == seconds


@pytest.mark.parametrize("shielded", [False, True])
@pytest.mark.parametrize("beside", [False, True])
def test_what_waits_for_ever_is_found_at_once(shielded: bool, beside: bool) -> None:
    async def hang() -> None:
        with trio.CancelScope(shield=shielded):
            await trio.sleep_forever()

    async def main() -> None:
        if beside:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hang)
                await hang()
        await hang()

    began_s = time.monotonic()
    with pytest.raises(HangError, match=r"it still waits after 1e\+06 virtual seconds"):
        virtual(main)
    assert time.monotonic() - began_s < 1


def test_where_it_waits_for_ever_is_told() -> None:
    async def waits() -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits, name="one that waits")

    with pytest.raises(HangError, match=r"\n  one that waits at \S*test_virtual.py:\d+$"):
        virtual(main)


async def spin(until: Callable[[], bool]) -> None:
    while not until():
        await trio.lowlevel.checkpoint()


def test_a_task_that_looks_again_and_again_does_not_keep_time_from_passing() -> None:
    async def main() -> float:
        with trio.move_on_after(0.5):
            await spin(lambda: False)
        return trio.current_time()

    assert virtual(main) == 0.5


def test_others_go_on_in_their_time_while_one_looks_again_and_again() -> None:
    async def main() -> list[float]:
        seen: list[float] = []

        async def beats() -> None:
            for _ in range(5):
                await trio.sleep(0.25)
                seen.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(beats)
            await spin(lambda: len(seen) == 5)
        return [*seen, trio.current_time()]

    assert virtual(main) == [0.25, 0.5, 0.75, 1.0, 1.25, 1.25]


def test_a_task_that_is_busy_for_a_while_finds_the_time_as_it_was() -> None:
    async def main() -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 3)
            looks = iter(range(1000))
            await spin(lambda: next(looks, None) is None)
            return trio.current_time()

    assert virtual(main) == 0


def test_what_is_busy_for_a_while_again_and_again_finds_the_time_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestra.testing.pace.SPINS", 100)

    async def main() -> list[float]:
        times: list[float] = []
        for _ in range(20):
            await trio.sleep(1)
            looks = iter(range(20))
            await spin(lambda looks=looks: next(looks, None) is None)  # type: ignore[misc]
            times.append(trio.current_time())
        return times

    assert virtual(main) == list(range(1, 21))


def test_what_looks_for_ever_is_found() -> None:
    async def main() -> None:
        await spin(lambda: False)

    with pytest.raises(HangError, match="it still waits"):
        virtual(main)


def test_a_thread_is_waited_for_also_where_a_task_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.testing.pace.SPINS", 10)
    started, may_end = threading.Event(), threading.Event()

    def works() -> None:
        started.set()
        may_end.wait()

    async def main() -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, works)
            with trio.move_on_after(5):
                await spin(started.is_set)
                looks = iter(range(1000))
                await spin(lambda: next(looks, None) is None)
            may_end.set()
            return trio.current_time()

    assert virtual(main) == 0


def test_what_swallows_its_cancellation_for_ever_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.testing.pace.SPINS", 100)

    async def swallows() -> None:
        while True:
            with suppress(BaseException):
                await trio.sleep(1)

    async def main() -> None:
        with trio.move_on_after(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(swallows, name="a deaf one")
                await trio.sleep_forever()

    with pytest.raises(
        HangError, match=r"swallows `trio.Cancelled`.*\n  a deaf one at \S*.py:\d+$"
    ):
        virtual(main)
    assert order(3) == order(3), "the next one is not disturbed"


def test_several_threads_may_simulate_at_once() -> None:
    """Trio's scheduler has one seed for the whole process."""
    wanted = [order(schedule) for schedule in range(20)]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            assert list(threads.map(order, range(20))) == wanted


def test_what_ends_before_the_far_future_does_not_hang() -> None:
    async def main() -> str:
        await trio.sleep(FAR_S - 1)
        return "ended"

    assert virtual(main) == "ended"


def test_a_thread_takes_no_virtual_time_and_is_waited_for() -> None:
    """The clock jumped while it worked, so that whoever asked an embedder had hung."""

    async def main() -> tuple[str, float]:
        began_s = trio.current_time()
        with trio.move_on_after(1):
            await trio.to_thread.run_sync(time.sleep, 0.02)
            return "done", trio.current_time() - began_s
        return "cut", trio.current_time() - began_s

    assert virtual(main) == ("done", 0.0)


def test_a_thread_that_waits_for_virtual_time_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestra.testing.pace.THREAD_S", 0.05)
    may_end = threading.Event()

    async def waits_in_a_thread() -> None:
        await trio.to_thread.run_sync(may_end.wait)

    async def main() -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits_in_a_thread)
            await trio.sleep(3)
            may_end.set()
        return trio.current_time()

    began_s = time.monotonic()
    virtual(main)
    assert time.monotonic() - began_s < 5


def test_the_built_in_embedder_is_simulated() -> None:
    embedder = WordLlamaEmbedder()
    world = World(embedders={"default": embedder})
    simulation = simulate(labelled, world, text="please pay this bill")
    assert isinstance(simulation.value, Label)
    assert simulation.value.name == "invoice"


@pipeline
def labelled(text: str) -> Label:
    return classify(text, labels={"invoice": "a bill to pay", "complaint": "somebody is angry"})
