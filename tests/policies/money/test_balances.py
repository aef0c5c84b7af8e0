"""Balances: what is left of budgets is told as it is, and a reset takes only what is spent."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.policies.account import NoAccount
from orchestra.policies.money.balances import PAYERS_AT_ONCE, Balance, balances, reset
from orchestra.policies.money.budget import Budgets, Period, SpendingLimits
from orchestra.policies.money.purse import Purse, Reservation
from orchestra.protocols import State
from orchestra.stores.state.memory import MemoryState

BUDGETS = Budgets(user=SpendingLimits(day=1000, month=5000))
DAY_S = 86_400
NOW_S = 20 * DAY_S
"""The 21st of January 1970."""


class Adas(NoAccount):
    caller = Caller("acme", "ada")


class Shared(MemoryState):
    """A state that others have, too: what each call holds has a name in it."""

    at_once = False


(PAYER,) = BUDGETS.of_caller(Adas.caller)


async def held_by(purse: Purse, nanodollars: int) -> Reservation:
    reservation = await purse.hold(Adas(), nanodollars, for_s=600, model="m")
    assert reservation is not None
    return reservation


def numbers(found: list[Balance]) -> list[tuple[int, int, int]]:
    return [(each.spent, each.held, each.left) for each in found]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.integers(1, 20)),
        st.tuples(st.just("settle"), st.integers(0, 20)),
        st.tuples(
            st.just("reset"), st.sets(st.sampled_from([Period.DAY, Period.MONTH]), min_size=1)
        ),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(STEPS, st.sampled_from([MemoryState, Shared]))
def test_a_reset_takes_what_is_spent_and_calls_under_way_are_settled_as_always(
    steps: list[tuple[str, int | set[Period]]], kind: type[MemoryState]
) -> None:
    """So nothing is ever below zero, and what is spent is what has ended since the reset."""

    async def law() -> None:
        state = kind(now_s=lambda: NOW_S)
        purse = Purse(BUDGETS, state)
        under_way: list[tuple[Reservation, int]] = []
        spent = {Period.DAY: 0, Period.MONTH: 0}
        for what, how in steps:
            if isinstance(how, set):
                before = await reset(PAYER, how, state)
                assert {each.budget.period: each.spent for each in before} == {
                    period: spent[period] for period in spent if period in how
                }
                spent.update(dict.fromkeys(how, 0))
            elif what == "hold":
                under_way.append((await held_by(purse, how), how))
            elif under_way:
                reservation, _ = under_way.pop(0)
                await reservation.settle(how)
                spent = {period: each + how for period, each in spent.items()}
            found = await balances([PAYER], state)
            most = sum(each for _, each in under_way)
            assert numbers(found) == [
                (spent[Period.DAY], most, 1000 - spent[Period.DAY] - most),
                (spent[Period.MONTH], most, 5000 - spent[Period.MONTH] - most),
            ]

    trio.run(law)


@given(
    st.dates(date(2026, 1, 1), date(2030, 1, 1)),
    st.lists(st.tuples(st.integers(0, 31), st.integers(0, 9)), min_size=1, max_size=12),
    st.sampled_from([MemoryState, Shared]),
)
@example(date(2026, 1, 31), [(0, 5), (28, 3), (3, 0)], MemoryState)
@example(date(2026, 1, 31), [(0, 5), (29, 3)], MemoryState)
def test_what_was_spent_in_the_period_before_is_known_if_its_ledger_was_there(
    day: date, spending: list[tuple[int, int]], kind: type[MemoryState]
) -> None:
    """As a list of all that was ever spent has it."""
    now: list[date] = [day]

    def now_s() -> float:
        return datetime.combine(now[0], time(12), UTC).timestamp()

    async def law() -> None:
        state = kind(now_s=now_s)
        purse = Purse(BUDGETS, state)
        spent: list[tuple[date, int]] = []
        for days, nanodollars in spending:
            now[0] += timedelta(days)
            today, yesterday = now[0], now[0] - timedelta(1)
            last = today.replace(day=1) - timedelta(1)
            of_day = sum(each for at, each in spent if at == yesterday)
            of_month = sum(each for at, each in spent if at.timetuple()[:2] == last.timetuple()[:2])
            known = min((at for at, _ in spent), default=today)
            assert [each.previous for each in await balances([PAYER], state)] == [
                of_day if known < today else None,
                of_month if known <= last else None,
            ]
            await (await held_by(purse, 9)).settle(nanodollars)
            spent.append((today, nanodollars))

    trio.run(law)


def test_after_a_clock_that_was_wrong_what_was_spent_before_is_unknown() -> None:
    now = [0.0]

    async def found() -> list[list[int | None]]:
        state = MemoryState(now_s=lambda: now[0])
        told = []
        for day in (101, 100, 102, 40):
            now[0] = day * DAY_S
            await (await held_by(Purse(BUDGETS, state), 9)).settle(7)
            told.append([each.previous for each in await balances([PAYER], state)])
        return told

    assert trio.run(found) == [[None, None], [None, None], [14, None], [None, None]]


def test_after_a_reset_a_caller_asks_again_and_thresholds_are_told_anew() -> None:
    class Told(Adas):
        def record(self, note: object, *fields: object) -> None:
            told.append(fields[1])

    told: list[object] = []

    async def spend(purse: Purse) -> None:
        reservation = await purse.hold(Told(), 900, for_s=60, model="m")
        assert reservation is not None
        await reservation.settle(900)

    async def twice() -> None:
        state = MemoryState()
        purse = Purse(BUDGETS, state)
        for _ in range(2):
            await spend(purse)
            await reset(PAYER, [Period.DAY], state)

    trio.run(twice)
    assert told == [50, 80, 50, 80], "the month has reached nothing"


def test_a_period_that_is_over_is_not_told_and_when_the_present_one_ends_is() -> None:
    now_s = float(NOW_S)

    async def tell(state: State) -> list[Balance]:
        return await balances([PAYER], state)

    state = MemoryState(now_s=lambda: now_s)

    async def spend() -> None:
        purse = Purse(BUDGETS, state)
        await (await held_by(purse, 9)).settle(9)

    trio.run(spend)
    assert [each.spent for each in trio.run(tell, state)] == [9, 9]
    now_s += DAY_S
    day, month = trio.run(tell, state)
    assert (day.spent, month.spent) == (0, 9)
    assert (day.resets_at_s, month.resets_at_s) == (22 * DAY_S, 31 * DAY_S)


@pytest.mark.parametrize("count", [0, 1, PAYERS_AT_ONCE, 2 * PAYERS_AT_ONCE + 1])
def test_any_number_of_payers_is_told_in_their_order_and_nothing_is_kept(count: int) -> None:
    payers = [*map(BUDGETS.of_caller, (Caller(user=f"u{n}") for n in range(count)))]
    state = MemoryState()
    found = trio.run(balances, [payer for (payer,) in payers], state)
    assert [each.budget.name for each in found] == [f"u{n}" for n in range(count) for _ in "dm"]
    assert not state._entries


def test_a_limit_that_was_lowered_leaves_nothing_and_not_less() -> None:
    assert Balance(PAYER.budgets[0], 900, 200, 0.0).left == 0
