"""The balances of budgets, for operators: to show them, and to reset them.

Rules of the file: only the ledgers of the given payers are read, a limited number at a time; the
state is never scanned for payers. A reset sets the spending to 0 and keeps the holds, so the cost
of a call that is running then still counts when the call ends.
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
    """The balance of one budget, in nano-dollars: the spending in its period, and the holds."""

    budget: Budget
    spent: int
    held: int
    resets_at_s: float
    """When its period ends, in seconds since 1970."""
    previous: int | None = None
    """The spending in the period before, since its last reset; None if it is unknown."""

    @property
    def left(self) -> int:
        """What further calls may hold; not below 0, even if the limit was lowered."""
        return max(self.budget.limit_nanodollars - self.spent - self.held, 0)


async def balances(payers: Sequence[Payer], state: State) -> list[Balance]:
    """The balances of all budgets of these payers, in order. Nothing is changed.

    A payer with an unreadable ledger is left out, which is logged.

    Raises:
        StateError: the state cannot be reached, or is too slow.
    """
    found: list[Balance] = []
    for first in range(0, len(payers), PAYERS_AT_ONCE):
        some = payers[first : first + PAYERS_AT_ONCE]
        keys = [payer.key for payer in some]
        found += await state.look(keys, partial(_balances, some), ENCODING)
    return found


async def is_known(payers: Sequence[Payer], state: State) -> bool:
    """Whether a ledger of these payers is kept, even if it cannot be read.

    Raises:
        StateError: the state cannot be reached, or is too slow.
    """
    keys = [payer.key for payer in payers]
    return await state.look(keys, lambda kept, _: any(each is not None for each in kept), ENCODING)


async def reset(payer: Payer, periods: Collection[Period], state: State) -> list[Balance]:
    """Set the spending of the payer's budgets of these periods to 0; return the old balances.

    Held money stays held. Thresholds will be reported again. An unreadable ledger is replaced.

    Raises:
        StateError: the state cannot be reached, or is too slow; the reset may have happened or not.
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
        ledger.spent[budget.slot] = ledger.reported[budget.slot] = 0
    return Revision(before, {payer.key: ledger.kept(payer, now_s)})


def _of(payer: Payer, ledger: Ledger) -> list[Balance]:
    return [
        Balance(
            each,
            ledger.spent[each.slot],
            ledger.held,
            ledger.ends_s(each),
            ledger.previous[each.slot],
        )
        for each in payer.budgets
    ]
