"""The table `[budgets]` as settings. Pure."""

from __future__ import annotations

from decimal import Decimal

import attrs

from orchestra.config.toml import spec
from orchestra.config.toml.checking import Table, check, check_owner_names, named
from orchestra.config.toml.complaints import Complaints, shown
from orchestra.config.toml.places import Path as Place
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.policies.money.prices import NANODOLLARS


def read_budgets(table: Table, complaints: Complaints) -> Budgets | None:
    """The budgets of the table; None without a table. Meaningless after a complaint.

    A named user or organisation has the budgets of all others, except those that it sets.
    """
    if not table:
        return None
    known = {
        **spec.BUDGETS,
        **{key: named(table.get(key), spec.ALLOWANCE) for key in spec.OWNER_TABLES},
    }
    right = check(table, ("budgets",), known, complaints)
    for key in spec.OWNER_TABLES:
        check_owner_names(right.get(key, {}), ("budgets", key), complaints)
    others = SpendingLimits(when_state_fails=right.get("when_state_fails", "closed"))
    everyone = {
        kind: _allowance(right.get(kind, {}), (kind,), others, complaints)
        for kind in spec.OWNER_TABLES.values()
    }
    owners = {
        key: {
            name: _allowance(own, (key, name), everyone[kind], complaints)
            for name, own in right.get(key, {}).items()
        }
        for key, kind in spec.OWNER_TABLES.items()
    }
    return Budgets(
        request=_money(right.get("request"), ("request",), complaints),
        unknown_price=right.get("unknown_price", "flag"),
        user=everyone["user"],
        organisation=everyone["organisation"],
        users=owners["users"],
        organisations=owners["organisations"],
    )


def _allowance(
    own: Table, at: Place, others: SpendingLimits, complaints: Complaints
) -> SpendingLimits:
    """The limits of a table; those that it does not set are the ones of `others`."""
    sums = {key: _money(own[key], (*at, key), complaints) for key in ("day", "month") if key in own}
    return attrs.evolve(others, **{**own, **sums})


def _money(dollars: object, at: Place, complaints: Complaints) -> int | None:
    """Dollars as written in the file, in nano-dollars, exactly; None is no limit."""
    if dollars is None or dollars == spec.NO_LIMIT:
        return None
    exact = Decimal(str(dollars)) * NANODOLLARS
    if exact != int(exact):
        message = f"{shown(dollars)} dollars are not a whole number of nano-dollars"
        complaints.add("wrong-value", ("budgets", *at), message, "write at most nine decimals")
    return int(exact)
