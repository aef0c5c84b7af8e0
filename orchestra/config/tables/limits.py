"""The table `[limits]` as the limits of callers. Pure."""

from __future__ import annotations

import attrs

from orchestra.config.toml import spec
from orchestra.config.toml.checking import Table, check, check_owner_names, unknown, without_none
from orchestra.config.toml.complaints import Complaints
from orchestra.config.toml.places import Path as Place
from orchestra.messages import dotted
from orchestra.policies.limits.allowance import NO_LIMITS, CallerRules, OwnerLimits


def read_limits(table: Table, complaints: Complaints) -> CallerRules | None:
    """The limits of callers, without invalid ones; None if there are none.

    A named user or organisation has the limits of all others, except those that it sets.
    """
    known = [*spec.OWNER_TABLES.values(), *spec.OWNER_TABLES]
    for key in table.keys() - set(known):
        unknown(key, ("limits",), known, complaints)
    each, named = {}, {}
    for many, one in spec.OWNER_TABLES.items():
        each[one] = _read_limits_of(table.get(one, {}), ("limits", one), NO_LIMITS, complaints)
        named[one] = _named_owners(table.get(many, {}), ("limits", many), each[one], complaints)
    rules = CallerRules(
        user=each["user"],
        users=named["user"],
        organisation=each["organisation"],
        organisations=named["organisation"],
    )
    return rules if rules != CallerRules() else None


def _named_owners(
    tables: object, at: Place, others: OwnerLimits, complaints: Complaints
) -> dict[str, OwnerLimits]:
    """The limits of each named owner; an owner with an invalid table has those of the others."""
    if not isinstance(tables, dict):
        complaints.not_a_table(at, tables, _fix((*at, "NAME")))
        return {}
    limits = [key for key in tables if key in spec.OWNER and not isinstance(tables[key], dict)]
    for key in limits:
        one = spec.OWNER_TABLES[str(at[-1])]
        message = f"it is a limit, but this is the place for the name of one {one}"
        fix = f"did you mean [limits.{one}]? For one {one} it is [limits.{at[-1]}.NAME]"
        complaints.add("unknown-key", (*at, key), message, fix)
    named = {name: table for name, table in tables.items() if name not in limits}
    check_owner_names(named, at, complaints)
    return {
        name: _read_limits_of(table, (*at, name), others, complaints)
        for name, table in named.items()
    }


def _read_limits_of(
    table: object, at: Place, others: OwnerLimits, complaints: Complaints
) -> OwnerLimits:
    if not isinstance(table, dict):
        complaints.not_a_table(at, table, _fix(at))
        return others
    right = check(table, at, spec.OWNER, complaints)
    return attrs.evolve(others, **without_none(right))


def _fix(at: Place) -> str:
    return f"write it as a table: [{dotted(at)}]"
