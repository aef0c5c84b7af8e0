"""The balances of budgets, for operators: to be shown, and to be reset.

Rules of the file: it reads only the ledgers of the payers that it is given, a limited number at a
time, and never scans a state for payers. A reset removes what is spent and keeps what is held, so
a running call is settled as usual, and counts from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial

import attrs

from orchestra.policies.money.budget import Budget, Payer, Period
from orchestra.policies.money.ledger import ENCODING, Kept, Ledger, illegible, ledgers
from orchestra.protocols import State
from orchestra.records import Revision

log = logging.getLogger("orchestra.policies")

PAYERS_AT_ONCE = 100


@attrs.frozen
class Balance:
    """The balance of one budget, in nano-dollars: the spending in this period, and the holds."""

    budget: Budget
    spent: int
    held: int
    resets_at_s: float
    """When its period ends, in seconds since 1970."""

    @property
    def left(self) -> int:
        """What calls may still hold of it; not below 0, even if the limit was lowered."""
        return max(self.budget.limit_nanodollars - self.spent - self.held, 0)


async def balances(payers: Sequence[Payer], state: State) -> list[Balance]:
    """The balance of each budget of these payers, in their order. Nothing is changed.

    A payer with an unreadable ledger is left out, and logged.

    Raises:
        StateError: the state is out of reach, or too slow.
    """
    found: list[Balance] = []
    for first in range(0, len(payers), PAYERS_AT_ONCE):
        some = payers[first : first + PAYERS_AT_ONCE]
        keys = [payer.key for payer in some]
        found += await state.look(keys, partial(_balances, some), ENCODING)
    return found


async def reset(payer: Payer, periods: Collection[Period], state: State) -> list[Balance]:
    """Set the spending of these periods of the payer's budgets to 0; returns the old balances.

    Held money stays held. Thresholds are reported again. An unreadable ledger is replaced.

    Raises:
        StateError: the state is out of reach, or too slow; it may have happened or not.
    """
    budgets = tuple(each for each in payer.budgets if each.period in periods)
    chosen = attrs.evolve(payer, budgets=budgets)
    return await state.revise((payer.key,), partial(_reset, chosen), ENCODING)


def _balances(payers: Sequence[Payer], kept: Sequence[Kept | None], now_s: float) -> list[Balance]:
    for why in illegible(payers, kept):
        log.warning("%s", why)
    found = ledgers(payers, kept, now_s)
    return [each for payer, ledger in found for each in _of(payer, ledger)]


def _reset(
    payer: Payer, kept: Sequence[Kept | None], now_s: float
) -> Revision[list[Balance], Kept]:
    (there,) = kept
    ((_, ledger),) = ledgers((payer,), [there if type(there) is Ledger else None], now_s)
    before = _of(payer, ledger)
    for budget in payer.budgets:
        ledger.spent[budget.slot] = ledger.told[budget.slot] = 0
    return Revision(before, {payer.key: ledger.kept(payer, now_s)})


def _of(payer: Payer, ledger: Ledger) -> list[Balance]:
    return [
        Balance(each, ledger.spent[each.slot], ledger.held, ledger.ends_s(each))
        for each in payer.budgets
    ]
