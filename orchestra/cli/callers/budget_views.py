"""Budgets as text for people, and as JSON for scripts. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from orchestra.accounts import Caller
from orchestra.cli.callers.durations import time_text
from orchestra.cli.terminal import table
from orchestra.policies.money.balances import Balance
from orchestra.policies.money.prices import in_dollars

HEADINGS = ("BUDGET OF", "PERIOD", "LIMIT", "SPENT", "HELD", "LEFT", "RESETS (UTC)", "PREVIOUS")
_KINDS = ("organisation", "user", "key")


@attrs.frozen
class Owned:
    """The state of a budget, and a caller who spends it: the owner of a key, or the user."""

    balance: Balance
    caller: Caller

    def order(self) -> tuple[str, int, str]:
        """By organisations; in each, its own budgets before those of its users and keys."""
        budget = self.balance.budget
        return self.caller.organisation, _KINDS.index(budget.kind), budget.name


def as_object(owned: Owned) -> dict[str, object]:
    """The whole budget, for JSON. Times are in seconds since 1970."""
    balance, budget = owned.balance, owned.balance.budget
    return {
        "kind": budget.kind,
        "name": budget.name,
        "organisation": owned.caller.organisation,
        "user": "" if budget.kind == "organisation" else owned.caller.user,
        "period": budget.period.value,
        "limit_nanodollars": budget.limit_nanodollars,
        "spent_nanodollars": balance.spent,
        "held_nanodollars": balance.held,
        "left_nanodollars": balance.left,
        "resets_at_s": balance.resets_at_s,
        "previous_nanodollars": balance.previous,
    }


def as_table(found: Iterable[Owned], width: int | None = None) -> str:
    """A line for each budget, with headings; as `table`."""
    return table([HEADINGS, *(_row(each.balance) for each in found)], width)


def was_spent(before: Balance) -> str:
    """The text about the spending before a reset."""
    held = f"; {in_dollars(before.held)} is held by calls under way" if before.held else ""
    return f"{before.budget}: {in_dollars(before.spent)} was spent, and nothing is now{held}"


def _row(balance: Balance) -> tuple[str, ...]:
    budget = balance.budget
    return (
        f"{budget.kind} {budget.name}",
        budget.period.value,
        in_dollars(budget.limit_nanodollars),
        in_dollars(balance.spent),
        in_dollars(balance.held),
        in_dollars(balance.left),
        time_text(balance.resets_at_s),
        "-" if balance.previous is None else in_dollars(balance.previous),
    )
