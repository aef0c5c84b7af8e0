"""Budgets: who may spend how much, in which period. Pure.

A call has to fit into all budgets of its caller: those of its key, user and organisation, each for
a day or a month, and that of its run. `orchestra.policies.money.ledger` keeps the former, and
`orchestra.policies.money.run_ledger` the budgets of runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

import attrs

from orchestra.accounts import Caller
from orchestra.protocols import WhenStateFails


class Period(Enum):
    """The period of a budget. Days and months begin at midnight UTC."""

    RUN = "run"
    DAY = "day"
    MONTH = "month"


KEPT_S = (2 * 86_400.0, 32 * 86_400.0)
"""How long the spending of a day, and of a month, is kept after the last call."""
_SLOTS = {Period.DAY: 0, Period.MONTH: 1, Period.RUN: -1}
"""The index of a period in a ledger; the spending of runs is not in these ledgers."""


@attrs.frozen(kw_only=True)
class SpendingLimits:
    """The spending limits of one key, user or organisation, in nano-dollars; None is no limit."""

    day: int | None = None
    month: int | None = None
    when_state_fails: WhenStateFails = "closed"


NO_LIMIT = SpendingLimits()


@attrs.frozen(kw_only=True)
class Budgets:
    """The budgets of a deployment's callers: per request (a run), user and organisation.

    The limits of a key come with its caller. `users` and `organisations` have the limits of some
    by name, in place of the general ones. With `unknown_price="flag"`, the calls of a model
    without a known price are not counted; with "refuse", such a model is not called.
    """

    request: int | None = None
    user: SpendingLimits = NO_LIMIT
    organisation: SpendingLimits = NO_LIMIT
    users: Mapping[str, SpendingLimits] = MappingProxyType({})
    organisations: Mapping[str, SpendingLimits] = MappingProxyType({})
    unknown_price: Literal["flag", "refuse"] = "flag"

    @property
    def lasting(self) -> bool:
        """Whether any budget lasts longer than a request."""
        named = (*self.users.values(), *self.organisations.values())
        everybodys = (self.user, self.organisation, *named)
        return any(each.day is not None or each.month is not None for each in everybodys)

    def of_run(self, run_id: str) -> Budget | None:
        """The budget of a run, if runs have one; None for calls outside a run."""
        if self.request is None or not run_id:
            return None
        return Budget("request", run_id, Period.RUN, self.request)

    def of_caller(self, caller: Caller) -> tuple[Payer, ...]:
        """The payers of a caller's calls, its key first; the runs' own budgets are left out."""
        found: list[Payer | None] = []
        if caller.key:
            own = caller.allowance
            allowed = SpendingLimits(day=own.day_nanodollars, month=own.month_nanodollars)
            found.append(Payer.of("key", caller.key, allowed))
        if caller.user:
            allowed = self.users.get(caller.user, self.user)
            found.append(Payer.of("user", caller.full_user, allowed))
        if caller.organisation:
            allowed = self.organisations.get(caller.organisation, self.organisation)
            found.append(Payer.of("organisation", caller.organisation, allowed))
        return tuple(filter(None, found))


NO_BUDGETS = Budgets()


@attrs.frozen
class Budget:
    """One limit: its owner, its period, and what happens while the state cannot be reached."""

    kind: str
    name: str
    period: Period
    limit_nanodollars: int
    when_state_fails: WhenStateFails = "closed"

    slot: int = attrs.field(init=False, eq=False, repr=False)
    """The index of its period in its payer's ledger."""

    @slot.default
    def _slot(self) -> int:
        return _SLOTS[self.period]

    @property
    def key(self) -> str:
        """The key of the payer's ledger in the state; the ledger of a run is not in a state."""
        return f"budget:{self.kind}:{quote(self.name, safe='', errors='surrogatepass')}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}, a {self.period.value}"


@attrs.frozen
class Payer:
    """A payer of calls, with its budgets, which share one ledger under `key`."""

    key: str
    budgets: tuple[Budget, ...]
    kept_s: float
    """How long the ledger is kept after a call."""

    @property
    def kind(self) -> str:
        """The kind of payer: "key", "user" or "organisation"."""
        return self.budgets[0].kind

    @classmethod
    def of(cls, kind: str, name: str, allowed: SpendingLimits) -> Payer | None:
        """The payer with these limits; None if it has none."""
        limits = ((Period.DAY, allowed.day), (Period.MONTH, allowed.month))
        budgets = tuple(
            Budget(kind, name, period, limit, allowed.when_state_fails)
            for period, limit in limits
            if limit is not None
        )
        if not budgets:
            return None
        return cls(budgets[0].key, budgets, max(KEPT_S[budget.slot] for budget in budgets))
