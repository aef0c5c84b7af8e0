"""A state that is opened when it is first used is a state like any other."""

from __future__ import annotations

import trio

from orchestra.config.lazy_state import lazy_state
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.contracts import check_state


def test_it_keeps_what_a_state_promises_and_is_not_opened_before() -> None:
    opened: list[MemoryState] = []

    def open_it() -> MemoryState:
        if not opened:
            opened.append(MemoryState())
        return opened[0]

    state = lazy_state(open_it)
    assert not opened
    trio.run(check_state, state)
    assert len(opened) == 1
    assert state.at_once
