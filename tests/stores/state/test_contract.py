"""What every `State` promises, checked on each against the one in memory, which is the model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from trio.testing import MockClock, assert_no_checkpoints

from orchestra.protocols import Change, Entry, State
from orchestra.records import Encoding, Revision
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.contracts import check_state
from tests.stores.state.test_fair_time import stand_still
from tests.stores.states import HOW, SLOW_S, Hand, opened, place

T = TypeVar("T")
COUNTING = Path(__file__).with_name("counting.py")
ROOT = COUNTING.parents[3]

SHARED = [how for how in HOW if how != "memory"]
LIMIT_BYTES = 40

keys = st.sampled_from(["a:1", "a:2", "b:", "é", "\0", "a\0b", "\ud800", "%", "'"])
LARGE = b"z" * (LIMIT_BYTES + 1)
"""What is larger than all of the room, and is not remembered."""
data = st.sampled_from([b"", b"\0", b"\xff\r\n$-1", b"x" * 12, b"y" * 35, LARGE]) | st.binary(
    max_size=9
)
ttls = st.sampled_from([100.0, 200.0, 1000.0, 0.0])
entries = st.none() | st.builds(Entry, data, st.none() | ttls)


NUMBERS: Encoding[list[int]] = Encoding(list, bytes)
"""Any bytes are a record."""


def run(call: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        with trio.fail_after(20):
            return await call()

    return trio.run(main)


async def kept(state: State, *names: str) -> list[bytes | None]:
    return await state.change(names, lambda there, _: Change(list(there)))


def counted(key: str) -> Callable[[Sequence[bytes | None], float], Change[int]]:
    def decide(there: Sequence[bytes | None], now_s: float) -> Change[int]:
        count = int(there[0] or b"0") + 1
        return Change(count, {key: Entry(b"%d" % count, 1000.0)})

    return decide


class Agrees(RuleBasedStateMachine):
    """Whatever is done to them, a state and the one in memory give the same results."""

    how: str

    def __init__(self) -> None:
        super().__init__()
        self.clock = Hand()
        self.model = MemoryState(limit_bytes=LIMIT_BYTES, now_s=self.clock)
        self.opening = opened(self.how, limit_bytes=LIMIT_BYTES, clock=self.clock)
        self.state = self.opening.__enter__()

    def teardown(self) -> None:
        self.opening.__exit__(None, None, None)

    def both(self, call: Callable[[State], Awaitable[object]]) -> None:
        expected = run(lambda: call(self.model))
        assert run(lambda: call(self.state)) == expected

    @rule(reads=st.lists(keys, max_size=4), writes=st.dictionaries(keys, entries, max_size=3))
    def change(self, reads: list[str], writes: dict[str, Entry | None]) -> None:
        self.both(lambda s: s.change(reads, lambda there, _: Change(list(there), writes)))

    @rule(reads=st.lists(keys, max_size=3, unique=True), forgets=st.booleans(), ttl_s=ttls)
    def revise(self, reads: list[str], forgets: bool, ttl_s: float) -> None:
        def decide(there: Sequence[list[int] | None], _: float) -> Revision[object, list[int]]:
            seen = [None if each is None else tuple(each) for each in there]
            records = dict[str, tuple[list[int], float] | None]()
            for key, each in zip(reads, there, strict=True):
                grown = [] if each is None else each
                grown.append(7)
                records[key] = (grown, ttl_s)
            return Revision(seen, dict.fromkeys(reads) if forgets else records)

        self.both(lambda s: s.revise(reads, decide, NUMBERS))

    @rule(reads=st.lists(keys, max_size=3))
    def look(self, reads: list[str]) -> None:
        def see(there: Sequence[list[int] | None], now_s: float) -> object:
            assert abs(now_s - self.clock.at_s) < SLOW_S
            return [None if each is None else tuple(each) for each in there]

        self.both(lambda s: s.look(reads, see, NUMBERS))

    @rule(key=keys)
    def recall(self, key: str) -> None:
        self.both(lambda s: s.recall(key))

    @rule(key=keys, what=data, ttl_s=ttls)
    def remember(self, key: str, what: bytes, ttl_s: float) -> None:
        self.both(lambda s: s.remember(key, what, ttl_s=ttl_s))

    @rule(seconds=st.sampled_from([50, 100, 500]))
    def time_passes(self, seconds: int) -> None:
        self.clock.at_s += seconds + 5


def agreeing(named: str) -> type[RuleBasedStateMachine]:
    return type(f"Agrees_{named}", (Agrees,), {"how": named})


@pytest.mark.parametrize("how", SHARED)
def test_a_state_and_the_one_in_memory_agree(how: str) -> None:
    case = agreeing(how).TestCase
    case.settings = settings(max_examples=settings().max_examples * 2 // 5, stateful_step_count=20)
    case().runTest()


@pytest.fixture(params=HOW)
def state(request: pytest.FixtureRequest) -> Iterator[State]:
    with opened(request.param) as made:
        yield made


def test_it_keeps_what_users_ask_of_states_of_their_own(state: State) -> None:
    async def main() -> None:
        await check_state(state)

    run(main)


def test_a_state_that_answers_at_once_never_waits(state: State) -> None:
    async def main() -> None:
        with assert_no_checkpoints():
            await state.change(["a:1"], counted("a:1"))
            await state.revise(["a:3"], lambda *_: Revision(None, {"a:3": ([1], 9.0)}), NUMBERS)
            await state.remember("a:2", b"x", ttl_s=100.0)
            assert await state.recall("a:2") == b"x"

    if state.at_once:
        run(main)


def test_what_is_read_is_read_at_one_time_and_that_time_is_given(state: State) -> None:
    async def main() -> None:
        before = await state.change([], lambda there, now_s: Change(now_s))
        await state.change(["a:1"], lambda *_: Change(None, {"a:1": Entry(b"x")}))
        assert await kept(state, "a:2", "a:1", "a:1") == [None, b"x", b"x"]
        assert await state.change([], lambda there, now_s: Change(now_s)) >= before > 1e9

    run(main)


def test_a_decision_that_raises_changes_nothing_and_is_its_callers_alone(state: State) -> None:
    def bad(there: Sequence[bytes | None], now_s: float) -> Change[None]:
        raise ZeroDivisionError("mine")

    async def main() -> None:
        failed, results = 0, []

        async def one(number: int) -> None:
            nonlocal failed
            if number % 3:
                results.append(await state.change(["a:n"], counted("a:n")))
            else:
                with pytest.raises(ZeroDivisionError, match="mine"):
                    await state.change(["a:n"], bad)
                failed += 1

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(one, number)
        assert failed == 10
        assert sorted(results) == list(range(1, 21))
        assert await kept(state, "a:n") == [b"20"]

    run(main)


def test_what_is_forgotten_in_one_change_is_not_seen_by_the_next(state: State) -> None:
    async def main() -> None:
        await state.change([], lambda *_: Change(None, {"a": Entry(b"x"), "b": Entry(b"y", 0.0)}))
        assert await kept(state, "a", "b") == [b"x", None]
        await state.change([], lambda *_: Change(None, {"a": None, "c": None}))
        assert await kept(state, "a", "b", "c") == [None, None, None]

    run(main)


@given(delays=st.lists(st.integers(0, 30), min_size=1, max_size=12), seed=st.random_module())
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("how", HOW)
def test_a_change_that_is_cancelled_has_happened_or_has_not(
    how: str, delays: list[int], seed: object
) -> None:
    """Both of its keys are written, or neither; and the state goes on."""
    names = [f"p:{number}" for number in range(len(delays))]

    async def main(state: State) -> None:
        async def one(name: str, delay: int) -> None:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(both, name)
                    for _ in range(delay):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

        async def both(name: str) -> None:
            written = {f"{name}:left": Entry(b"1"), f"{name}:right": Entry(b"1")}
            await state.change([f"{name}:left"], lambda *_: Change(None, written))

        async with trio.open_nursery() as nursery:
            for name, delay in zip(names, delays, strict=True):
                nursery.start_soon(one, name, delay)
        for name in names:
            left, right = await kept(state, f"{name}:left", f"{name}:right")
            assert left == right
        assert await state.change(["p:n"], counted("p:n")) == 1

    with opened(how) as state:
        run(lambda: main(state))


@pytest.mark.parametrize("how", SHARED)
def test_it_is_not_taken_for_slow_while_this_process_stands_still(how: str) -> None:
    """And goes on to be asked: what was late was not its fault."""

    async def main(state: State) -> None:
        await state.change(["a:n"], counted("a:n"))
        for number in range(2, 12):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(state.change, ["a:n"], counted("a:n"))
                for _ in range(number):
                    await trio.lowlevel.checkpoint()
                stand_still(10.0)  # two hundred times what it may take
            assert await kept(state, "a:n") == [b"%d" % number]

    with opened(how, timeout_s=0.05) as state:
        trio.run(main, state, clock=MockClock())


@pytest.mark.parametrize("how", SHARED)
def test_processes_that_count_together_lose_nothing(how: str) -> None:
    """Three processes, each with ten tasks, and every result is another one."""
    with opened(how, timeout_s=10.0) as state:
        command = [sys.executable, str(COUNTING), place(state)]
        processes = [
            subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
            )
            for _ in range(3)
        ]
        said = [int(number) for process in processes for number in process.communicate()[0].split()]
        assert sorted(said) == list(range(1, 301))
        assert run(lambda: kept(state, "n:n")) == [b"300"]


@example([("k:1", False), ("k:2", False), ("k:3", False), ("k:1", True), ("k:4", False)], 30)
@example([("k:1", False), ("k:2", False), ("k:3", False), ("k:4", False)], 39)
@given(
    st.lists(
        st.tuples(st.sampled_from(["k:1", "k:2", "k:3", "k:4", "k:5"]), st.booleans()), max_size=30
    ),
    st.sampled_from([30, 39]),
)
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("how", HOW)
def test_what_was_used_least_goes_first(
    how: str, uses: list[tuple[str, bool]], limit_bytes: int
) -> None:
    """Three have room; each use, by writing or by reading, makes one the last to go."""
    expected: list[str] = []

    async def main(state: State) -> None:
        for key, reads in uses:
            if reads:
                assert (await state.recall(key) is not None) == (key in expected)
            else:
                await state.remember(key, b"1234567", ttl_s=1000.0)
            if key in expected:
                expected.remove(key)
                expected.append(key)
            elif not reads:
                expected.append(key)
                del expected[:-3]
        left = [key for key in ("k:1", "k:2", "k:3", "k:4", "k:5") if await state.recall(key)]
        assert left == sorted(expected)

    with opened(how, limit_bytes=limit_bytes) as state:
        run(lambda: main(state))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["k:1", "k:2", "k:3", "k:4", "k:5"]),
            st.sampled_from([100.0, 1000.0]),
            st.sampled_from([0, 205]),
            st.booleans(),
        ),
        max_size=20,
    )
)
@example(
    [
        ("k:1", 1000.0, 0, False),
        ("k:2", 100.0, 0, False),
        ("k:3", 100.0, 0, False),
        ("k:4", 1000.0, 205, False),
    ]
)
@example(
    [
        ("k:1", 100.0, 0, False),
        ("k:2", 1000.0, 205, True),
        ("k:3", 1000.0, 0, False),
        ("k:4", 1000.0, 0, False),
    ]
)
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("how", HOW)
def test_nothing_that_lives_is_dropped_while_something_has_expired(
    how: str, steps: list[tuple[str, float, int, bool]]
) -> None:
    """However lately that was used: it takes room that nobody has the use of. Three have room."""
    clock, until_s = Hand(), dict[str, float]()

    async def check(state: State) -> None:
        for key, at_s in until_s.items():
            assert (await state.recall(key) is not None) == (at_s > clock.at_s)

    async def main(state: State) -> None:
        for key, ttl_s, pause_s, reads in steps:
            clock.at_s += pause_s
            if reads:
                await check(state)
            live = {each for each, at_s in until_s.items() if at_s > clock.at_s} | {key}
            if len(live) <= 3:
                await state.remember(key, b"1234567", ttl_s=ttl_s)
                until_s[key] = clock.at_s + ttl_s
        await check(state)

    with opened(how, limit_bytes=30, clock=clock) as state:
        run(lambda: main(state))
