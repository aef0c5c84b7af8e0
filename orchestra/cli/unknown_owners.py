"""Users and organisations that the configuration names, and that no key belongs to.

Such a name may be misspelt, so that its limits and budgets apply to nobody; or its first key is yet
to be made. So it is a note of `check` and a warning of a server, never an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from orchestra.errors import BindingError, StateError

if TYPE_CHECKING:
    from orchestra.access.keys import KeyRecord
    from orchestra.config import LocalBindings
    from orchestra.policies.limits.allowance import CallerRules
    from orchestra.policies.money.budget import Budgets


async def unknown_owners(bindings: LocalBindings) -> list[str]:
    """A line for each named user or organisation without a key; none if keys cannot be read.

    Keys that have expired or were revoked count. Nobody is unknown before the first key of all, or
    if the server requires no keys.
    """
    named = [*_named(bindings.caller_rules, bindings.budgets)]
    if not named or bindings.rules.keys == "none":
        return []
    try:
        file = bindings.keys_file
        if file is not None and not file.exists():  # noqa: ASYNC240 - it does not wait
            return []  # reading would create the file of a state
        records, _ = await bindings.keyring.list_all()
    except (BindingError, StateError):
        return []  # `check`, the start of the server or the first request says why
    where = bindings.deployment.where
    return [f"{where(*path)}: {text}" for path, text in without_keys(named, records)]


def without_keys(
    named: Collection[tuple[str, str, str]], records: Collection[KeyRecord]
) -> Iterator[tuple[tuple[str, str, str], str]]:
    """The places of users and organisations that none of the keys belongs to, with a text. Pure.

    If requests of a key may name end users, any user may exist.
    """
    from orchestra.config.toml.complaints import dotted
    from orchestra.nearest import did_you_mean

    any_user = any(each.end_users for each in records)
    for path in named if records else ():
        _, kind, name = path
        one = kind.removesuffix("s")
        known = sorted({getattr(each, one) for each in records} - {""})
        if name not in known and not (one == "user" and any_user):
            fix = did_you_mean(name, known) or "`orchestra keys list` shows the owners of keys"
            yield path, f"{dotted(path)}: no key belongs to {one} {name!r}; {fix}"


def _named(limits: CallerRules | None, budgets: Budgets | None) -> Iterator[tuple[str, str, str]]:
    """The place of each user and organisation that the configuration names."""
    for table, rules in (("limits", limits), ("budgets", budgets)):
        if rules is not None:
            yield from ((table, "users", name) for name in rules.users)
            yield from ((table, "organisations", name) for name in rules.organisations)
