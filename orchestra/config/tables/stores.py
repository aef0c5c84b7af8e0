"""The table `[stores]`, and stores of the project's own classes in it. Pure."""

from __future__ import annotations

from typing import Any

from orchestra.config.deployment.own_stores import OwnStore
from orchestra.config.toml import spec
from orchestra.config.toml.checking import NO_SECRETS, Table, check, missing
from orchestra.config.toml.complaints import Complaints, names_a_secret


def read_stores(
    tables: Table, complaints: Complaints
) -> tuple[dict[str, Any], dict[str, OwnStore]]:
    """The keys of `[stores]` that are right; and the stores in it that are, by name."""
    own = {
        name: table
        for name, table in tables.items()
        if isinstance(table, dict) and name not in spec.STORES
    }
    keys = {key: value for key, value in tables.items() if key not in own}
    right = check(keys, ("stores",), spec.STORES, complaints)
    found = {name: _read(name, table, complaints) for name, table in own.items()}
    return right, {name: each for name, each in found.items() if each is not None}


def _read(name: str, table: Table, complaints: Complaints) -> OwnStore | None:
    at = ("stores", name)
    right = check(table, at, spec.OWN_STORE, complaints)
    if "class" not in table:
        missing("class", spec.CLASS, at, complaints)
    options = right.get("options", {})
    for key in filter(names_a_secret, options):
        fix = "have the class read it from os.environ, or from a file that an option names"
        complaints.add("secret-in-file", (*at, "options", key), NO_SECRETS, fix)
    if "class" not in right:
        return None
    where = complaints.where(at)
    return OwnStore(name=name, target=right["class"], options=options, origin=where)
