"""A process that counts in a shared state: ten tasks, ten times each; prints the results."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import trio

from orchestra.protocols import Change, Entry, State
from tests.stores.states import at_place


def count(there: Sequence[bytes | None], now_s: float) -> Change[int]:
    number = int(there[0] or b"0") + 1
    return Change(number, {"n:n": Entry(b"%d" % number)})


async def main(place: str) -> None:
    state = at_place(place)

    async def one(state: State) -> None:
        for _ in range(10):
            print(await state.change(["n:n"], count))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one, state)


trio.run(main, sys.argv[1])
