"""Budgets: who may spend how much, in which time. Pure.

A call has to fit into all budgets of its caller: of its user, its organisation, its run, each for
a day, a month, or as long as the run lasts. How they are kept: see
`orchestra.policies.money.ledger`, and of runs `orchestra.policies.money.run_ledger`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

import attrs

from orchestra.accounts import Caller
from orchestra.protocols import WhenStateFails


class Period(Enum):
    """How long a budget is for. Days and months are those of UTC."""

    RUN = "run"
    DAY = "day"
    MONTH = "month"


KEPT_S = (2 * 86_400.0, 32 * 86_400.0)
"""How long it is remembered what was spent in a day, and in a month, after the last call."""
_SLOTS = {Period.DAY: 0, Period.MONTH: 1, Period.RUN: -1}
"""The place of a period in a ledger; what runs spend is in none."""


@attrs.frozen(kw_only=True)
class SpendingLimits:
    """What one key, user or organisation may spend, in nano-dollars; None is no limit."""

    day: int | None = None
    month: int | None = None
    when_state_fails: WhenStateFails = "closed"


NO_LIMIT = SpendingLimits()


@attrs.frozen(kw_only=True)
class Budgets:
    """What callers of a deployment may spend: each request, user and organisation.

    What a key may spend comes with its caller. `users` and `organisations` are those that have
    other limits than the rest, by name. A model without a known price is not counted, or with
    `refuse` not asked.
    """

    request: int | None = None
    user: SpendingLimits = NO_LIMIT
    organisation: SpendingLimits = NO_LIMIT
    users: Mapping[str, SpendingLimits] = MappingProxyType({})
    organisations: Mapping[str, SpendingLimits] = MappingProxyType({})
    unknown_price: Literal["flag", "refuse"] = "flag"

    @property
    def lasting(self) -> bool:
        """Whether any of them is for longer than a request."""
        named = (*self.users.values(), *self.organisations.values())
        everybodys = (self.user, self.organisation, *named)
        return any(each.day is not None or each.month is not None for each in everybodys)

    def of_run(self, run_id: str) -> Budget | None:
        """That of a run, where each has one; None for calls of no run."""
        if self.request is None or not run_id:
            return None
        return Budget("request", run_id, Period.RUN, self.request)

    def of_caller(self, caller: Caller) -> tuple[Payer, ...]:
        """Whose budgets the calls of all runs of a caller have to fit into: their key's first."""
        found: list[Budget] = []
        if caller.key:
            own = caller.allowance
            allowed = SpendingLimits(day=own.day_nanodollars, month=own.month_nanodollars)
            found += _limits("key", caller.key, allowed)
        if caller.user:
            allowed = self.users.get(caller.user, self.user)
            found += _limits("user", caller.full_user, allowed)
        if caller.organisation:
            name = caller.organisation
            found += _limits("organisation", name, self.organisations.get(name, self.organisation))
        return Payer.all_of(found)


NO_BUDGETS = Budgets()


@attrs.frozen
class Budget:
    """One limit: of whom, for how long, and what becomes of calls while the state is away."""

    kind: str
    name: str
    period: Period
    limit_nanodollars: int
    when_state_fails: WhenStateFails = "closed"

    key: str = attrs.field(init=False, eq=False, repr=False)
    """Under which key the ledger of its payer is kept."""
    slot: int = attrs.field(init=False, eq=False, repr=False)
    """The place of its period in that ledger."""

    @key.default
    def _key(self) -> str:
        return f"budget:{self.kind}:{quote(self.name, safe='', errors='surrogatepass')}"

    @slot.default
    def _slot(self) -> int:
        return _SLOTS[self.period]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}, a {self.period.value}"


@attrs.frozen
class Payer:
    """One who pays for a call: its budgets, of which there is one ledger, under `key`."""

    key: str
    budgets: tuple[Budget, ...]
    kept_s: float
    """How long the ledger is kept after a call."""

    @property
    def kind(self) -> str:
        """What it is: a key, a user, an organisation."""
        return self.budgets[0].kind

    @classmethod
    def all_of(cls, budgets: Sequence[Budget]) -> tuple[Payer, ...]:
        """Those whose budgets these are, each with all of its own, in their order."""
        found = dict[str, list[Budget]]()
        for budget in budgets:
            found.setdefault(budget.key, []).append(budget)
        return tuple(
            cls(key, tuple(each), max(KEPT_S[budget.slot] for budget in each))
            for key, each in found.items()
        )


def _limits(kind: str, name: str, allowed: SpendingLimits) -> list[Budget]:
    limits = ((Period.DAY, allowed.day), (Period.MONTH, allowed.month))
    return [
        Budget(kind, name, period, limit, allowed.when_state_fails)
        for period, limit in limits
        if limit is not None
    ]
