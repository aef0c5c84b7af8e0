"""Users and organisations that the configuration names, and that no key belongs to.

Such a name may be misspelt, so that its limits and budgets apply to nobody; or its first key is yet
to be made. So it is a note of `check` and a warning of a server, never an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import trio

from orchestra.errors import BindingError, StateError

if TYPE_CHECKING:
    from orchestra.access.keyring import Keyring
    from orchestra.access.keys import KeyRecord
    from orchestra.config import LocalBindings
    from orchestra.policies.limits.allowance import CallerRules
    from orchestra.policies.money.budget import Budgets


KEYS_MAX = 10_000
"""The most keys that are read: 79 pages, so that they delay the start of a server by a second."""
COMPARED_MAX = 1_000
"""The most owners of keys with which an unknown name is compared, which takes 0.1 ms for each."""
NOTES_MAX = 5
"""The most names that are told; of further ones, only how many they are."""


async def unknown_owners(bindings: LocalBindings) -> list[str]:
    """A line for each named user or organisation without a key; none if keys cannot be read.

    Keys that have expired or were revoked count. Nobody is unknown before the first key of all, if
    the server requires no keys, or if there are more than `KEYS_MAX` of them.
    """
    named = [*_named(bindings.caller_rules, bindings.budgets)]
    if not named or bindings.rules.keys == "none":
        return []
    try:
        file = bindings.keys_file
        if file is not None and not file.exists():  # noqa: ASYNC240 - it does not wait
            return []  # reading would create the file of a state
        records = await _records(bindings.keyring, {path[1:] for path in named})
    except (BindingError, StateError):
        return []  # `check`, the start of the server or the first request says why
    where = bindings.deployment.where
    # in a thread, since a reload must not hold up streams while names are compared
    found = await trio.to_thread.run_sync(lambda: [*without_keys(named, records)])
    lines = [f"{where(*path)}: {text}" for path, text in found[:NOTES_MAX]]
    if more := found[NOTES_MAX:]:
        lines.append(f"and no key belongs to {len(more)} more names in [limits] and [budgets]")
    return lines


async def _records(keyring: Keyring, wanted: set[tuple[str, ...]]) -> list[KeyRecord]:
    """The keys, read until all owners are found; none if there are too many keys to read."""
    from orchestra.config.toml.spec import OWNER_TABLES

    found: list[KeyRecord] = []
    number: int | None = 0
    while number is not None and len(found) < KEYS_MAX:
        page = await keyring.list(number)
        found += page.keys
        for kind, one in OWNER_TABLES.items():
            wanted -= {(kind, getattr(each, one)) for each in page.keys}
        number = page.next if wanted else None
    return found if number is None else []


def without_keys(
    named: Collection[tuple[str, str, str]], records: Collection[KeyRecord]
) -> Iterator[tuple[tuple[str, str, str], str]]:
    """The places of users and organisations that none of the keys belongs to, with a text. Pure.

    If requests of a key may name end users, any user may exist.
    """
    from orchestra.config.toml.spec import OWNER_TABLES
    from orchestra.messages import dotted
    from orchestra.nearest import did_you_mean

    known = {one: {getattr(each, one) for each in records} - {""} for one in OWNER_TABLES.values()}
    any_user = any(each.end_users for each in records)
    told = 0
    for path in named if records else ():
        _, kind, name = path
        one = OWNER_TABLES[kind]
        if name not in known[one] and not (one == "user" and any_user):
            near = told < NOTES_MAX and len(known[one]) <= COMPARED_MAX
            fix = did_you_mean(name, sorted(known[one])) if near else ""
            fix = fix or "`orchestra keys list` shows the owners of keys"
            told += 1
            yield path, f"{dotted(path)}: no key belongs to {one} {name!r}; {fix}"


def _named(limits: CallerRules | None, budgets: Budgets | None) -> Iterator[tuple[str, str, str]]:
    """The place of each user and organisation that the configuration names."""
    for table, rules in (("limits", limits), ("budgets", budgets)):
        if rules is not None:
            yield from ((table, "users", name) for name in rules.users)
            yield from ((table, "organisations", name) for name in rules.organisations)
