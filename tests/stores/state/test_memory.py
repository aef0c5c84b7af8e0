"""State in memory; the laws of every `State` are in the contract suite."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps

from hypothesis import given
from hypothesis import strategies as st

from orchestra.protocols import Change, Entry
from orchestra.records import Encoding, Revision
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.virtual import virtual

NUMBER: Encoding[int] = Encoding(int, lambda number: b"%d" % number)


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def __call__(self) -> float:
        return self.at_s


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        virtual(test)

    return run


async def kept(state: MemoryState, key: str) -> bytes | None:
    return await state.change([key], lambda there, _: Change(there[0]))


@virtually
async def test_what_is_kept_expires_and_what_is_not_told_stays() -> None:
    clock = Hand()
    state = MemoryState(now_s=clock)
    seen = await state.change(
        ["a:1", "a:2"],
        lambda there, now_s: Change((tuple(there), now_s), {"a:1": Entry(b"x", 5.0)}),
    )
    assert seen == ((None, None), 100.0)
    await state.change(["a:2"], lambda *_: Change(None, {"a:2": Entry(b"y")}))
    await state.remember("m", b"z", ttl_s=5.0)
    clock.at_s = 104.9
    assert (await kept(state, "a:1"), await kept(state, "a:2")) == (b"x", b"y")
    assert await state.recall("m") == b"z"
    clock.at_s = 105.0
    assert (await kept(state, "a:1"), await kept(state, "a:2")) == (None, b"y")
    assert await state.recall("m") is None
    await state.change(["a:2"], lambda *_: Change(None, {"a:2": None}))
    assert await kept(state, "a:2") is None


@virtually
async def test_records_that_have_expired_take_no_memory() -> None:
    """Those of budgets and of limits: nobody asks again for most of them."""
    clock = Hand()
    state = MemoryState(now_s=clock)
    for number in range(10_000):
        key = f"a:{number}"
        clock.at_s += 1
        await state.revise([key], lambda *_, key=key: Revision(None, {key: (1, 10.0)}), NUMBER)
    assert len(state._entries) <= 1_100


@virtually
async def test_what_has_expired_takes_no_memory() -> None:
    clock = Hand()
    state = MemoryState(now_s=clock)
    for number in range(10_000):
        key = f"a:{number}"
        clock.at_s += 1
        await state.change([key], lambda *_, key=key: Change(None, {key: Entry(b"x", 10.0)}))
    assert len(state._entries) <= 1_100


@given(st.lists(st.tuples(st.sampled_from("aab"), st.integers(0, 4), st.booleans()), max_size=40))
def test_of_a_kind_the_newest_are_kept(writes: list[tuple[str, int, bool]]) -> None:
    """Whatever others write or remove; what is written again is new again."""
    written: dict[str, list[str]] = {"a": [], "b": []}

    async def main() -> None:
        state = MemoryState()
        await state.change(["a:kept"], lambda *_: Change(None, {"a:kept": Entry(b"y")}))
        for kind, number, removes in writes:
            key = f"a:{kind}:{number}"
            entry = None if removes else Entry(b"x", 60.0, newest=3)
            await state.change([key], lambda *_, key=key, entry=entry: Change(None, {key: entry}))
            model = written[kind]
            if key in model:
                model.remove(key)
            if not removes:
                written[kind] = [*model, key][-3:]
        for kind, model in written.items():
            keys = [f"a:{kind}:{number}" for number in range(5)]
            assert [key for key in keys if await kept(state, key)] == sorted(model)
        assert await kept(state, "a:kept") == b"y"

    virtual(main)


@virtually
async def test_kinds_of_which_all_has_expired_take_no_memory() -> None:
    clock = Hand()
    state = MemoryState(now_s=clock)
    for number in range(10_000):
        key = f"a:{number}:b"
        clock.at_s += 1
        await state.change([key], lambda *_, key=key: Change(None, {key: Entry(b"x", 10.0, 3)}))
    assert len(state._newest) <= 1_100
