"""An engine that closes waits for a state that has not taken what its last calls have cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.config import LocalBindings
from orchestra.config.reading import read
from orchestra.engine.engine import FLUSH_S, open_engine
from orchestra.errors import StateError
from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from orchestra.policies.account import PRESENT
from orchestra.policies.money.balances import balances
from orchestra.protocols import Context, injected
from orchestra.records import Encoding, Revision
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import moments, schedules
from orchestra.testing.virtual import virtual

T = TypeVar("T")
D = TypeVar("D")
ACME = Caller("acme")
BUDGETS = read("[budgets.organisation]\nday = 1\n", Path("orchestra.toml"))


class Away(MemoryState):
    """A state that other processes share, and that cannot be reached until a time."""

    at_once = False
    back_s = 0.0

    async def revise(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[D | None], float], Revision[T, D]],
        encoding: Encoding[D],
    ) -> T:
        await trio.lowlevel.checkpoint()
        if trio.current_time() < self.back_s:
            raise StateError("the store is gone; start it")
        return await super().revise(keys, decide, encoding)


@example(away_s=0.9, runs=3, cancelled=True, schedule=0)
@example(away_s=3.0, runs=1, cancelled=False, schedule=0)
@given(moments(4), st.integers(1, 5), st.booleans(), schedules())
def test_a_program_does_not_end_before_its_state_has_what_it_spent(
    away_s: float, runs: int, cancelled: bool, schedule: int
) -> None:
    """Up to two seconds, also if it was told to stop: nothing else would report it later."""
    lasted_s, spent, held = ended(away_s, runs, cancelled=cancelled, schedule=schedule)
    assert lasted_s <= FLUSH_S + 0.1
    if away_s < FLUSH_S - 1:  # it tries again at least once a second
        assert (spent, held) == (7 * runs, 0)
    if away_s > FLUSH_S + 0.1:
        assert (spent, held) == (0, 10 * runs)


def test_what_a_closing_engine_cannot_report_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended(3.0, 2, cancelled=False, schedule=0)
    assert "the ends of 2 calls could not be reported to a state" in caplog.text


def ended(away_s: float, runs: int, *, cancelled: bool, schedule: int) -> tuple[float, int, int]:
    """How long an engine took to end, and what the state then knows as spent and as held.

    The state goes away as the calls of all runs end, for so long.
    """
    state = Away()
    bindings = LocalBindings(deployment=BUDGETS, state=state)
    away_until_s, together = 0.0, trio.Event()

    @step
    async def spend(*, context: Context = injected) -> str:
        del context  # it makes the caller known to the purse
        held = await bindings.purse.hold(PRESENT.get(), 10, for_s=60, model="m")
        assert held is not None
        await together.wait()
        state.back_s = away_until_s
        await held.settle(7)
        return ""

    @pipeline
    def spending() -> str:
        return spend()

    async def main() -> tuple[float, int, int]:
        nonlocal away_until_s, together
        together, away_until_s = trio.Event(), trio.current_time() + away_s
        with trio.CancelScope() as outside:
            async with open_engine(bindings) as engine:
                started = [engine.start(spending, {}, caller=ACME) for _ in range(runs)]
                await trio.testing.wait_all_tasks_blocked()
                together.set()
                for each in started:
                    await each.result()
                if cancelled:
                    outside.cancel()
        lasted_s, state.back_s = trio.current_time(), 0.0
        assert BUDGETS.budgets is not None
        (left,) = await balances(BUDGETS.budgets.of_caller(ACME), state)
        return lasted_s - away_until_s + away_s, left.spent, left.held

    return virtual(main, schedule=schedule)
