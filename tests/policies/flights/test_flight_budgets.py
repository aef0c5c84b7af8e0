"""Whose budget a shared call is paid from is told of it, and nobody else is."""

from __future__ import annotations

import logging

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.events import BudgetReached
from orchestra.policies.account import PRESENT
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.policies.guard import GuardedModel
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.policies.money.prices import Price
from orchestra.policies.money.purse import Purse
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.policies.waiters import ASKED, Fake, Payer, read

SHORT = attrs.evolve(ASKED, output_tokens_max=10)


def shared(day: int = 130) -> CoalescedModel:
    """Of a model of which one call is more than half of anybody's budget, or all of it."""
    purse = Purse(Budgets(user=SpendingLimits(day=day)), MemoryState(now_s=trio.current_time))
    price = Price(input=10**6, output=10**6)
    return CoalescedModel(GuardedModel(Fake(), name="m", price=price, purse=purse), name="m")


def reached(payer: Payer) -> list[object]:
    return [note[1] for note in payer.notes if note[0] is BudgetReached]


@given(
    schedules(),
    st.sampled_from([2.5, 3.5, 1e5]),
    st.lists(st.sampled_from([3.0, 1e5]), max_size=2),
    st.booleans(),
)
def test_a_threshold_is_told_once_and_to_its_owner(
    schedule: int, leaves_s: float, others: list[float], whole: bool
) -> None:
    """However early who has asked first leaves, and whoever stays."""

    async def visit(model: CoalescedModel, payer: Payer, at_s: float, until_s: float) -> None:
        PRESENT.set(payer)
        await trio.sleep(at_s)
        with trio.move_on_after(until_s):
            if whole:
                await model.complete(SHORT)
            else:
                await read(model, SHORT)

    async def main() -> None:
        model = shared()
        async with trio.open_nursery() as engine:
            ada = Payer(engine, "r", Caller("acme", "ada"))
            rest = [Payer(engine, f"r{at}", Caller("acme", f"{at}")) for at in range(len(others))]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(visit, model, ada, 0, leaves_s)
                for payer, until_s in zip(rest, others, strict=True):
                    nursery.start_soon(visit, model, payer, 0.5, until_s)
        counted = not whole or max(leaves_s, *others, 0) > 8  # of a whole one, at its end
        assert reached(ada) == ["user acme/ada, a day"] * counted
        assert not any(map(reached, rest))

    virtual(main, schedule=schedule)


@pytest.mark.parametrize(
    ("day", "told"),
    [
        (130, [(logging.INFO, "50 %", "$0.00000013")]),
        (
            103,
            [
                (logging.INFO, "50 %", "$0.000000103"),
                (logging.INFO, "80 %", "$0.000000103"),
                (logging.WARNING, "100 %", "$0.000000103"),
            ],
        ),
    ],
)
def test_a_threshold_is_logged_too(
    day: int, told: list[tuple[int, str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """A run that has ended has no journal that it could be written into.

    When all is spent, its owner is refused from now on.
    """

    async def main() -> None:
        async with trio.open_nursery() as engine:
            PRESENT.set(Payer(engine, "r", Caller("acme", "ada")))
            await read(shared(day), SHORT)

    with caplog.at_level(logging.INFO, "orchestra.policies"):
        virtual(main)
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (level, f"{share} of the budget of user acme/ada, a day: $0.000000103 of {limit}")
        for level, share, limit in told
    ]
