"""What is left of budgets, for those who run a deployment: to be seen, and to be reset.

Rules of the file: it looks at the ledgers of the payers that it is given, so many at once, and
never goes through a state to find some. A reset takes what is spent and leaves what is held: so a
call under way is settled as any other, and counts from then on.
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
    """How one budget is, in nano-dollars: what is spent of it in this period, and what is held."""

    budget: Budget
    spent: int
    held: int
    resets_at_s: float
    """When its period ends, in seconds since 1970."""

    @property
    def left(self) -> int:
        """What a call may still hold of it; no less than nothing, where the limit was lowered."""
        return max(self.budget.limit_nanodollars - self.spent - self.held, 0)


async def balances(payers: Sequence[Payer], state: State) -> list[Balance]:
    """How each budget of these payers is, in their order. Nothing is changed.

    A payer whose ledger cannot be read is left out, and logged.

    Raises:
        StateError: the state is gone, or too slow.
    """
    found: list[Balance] = []
    for first in range(0, len(payers), PAYERS_AT_ONCE):
        some = payers[first : first + PAYERS_AT_ONCE]
        keys = [payer.key for payer in some]
        found += await state.look(keys, partial(_balances, some), ENCODING)
    return found


async def reset(payer: Payer, periods: Collection[Period], state: State) -> list[Balance]:
    """Let nothing be spent in these periods of the payer's budgets; and how these were before.

    What is held stays held. Thresholds are told anew. A ledger that cannot be read begins anew.

    Raises:
        StateError: the state is gone, or too slow; it has happened, or has not.
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
