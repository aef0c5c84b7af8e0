"""The table `[stores]`, and stores of the project's own classes in it. Pure."""

from __future__ import annotations

from typing import Any

from orchestra.config.deployment.own_stores import OwnStore
from orchestra.config.tables.own_classes import read_own_class
from orchestra.config.toml import spec
from orchestra.config.toml.checking import Table, check
from orchestra.config.toml.complaints import Complaints


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
    own = read_own_class(table, right, at, complaints)
    if own is None:
        return None
    return OwnStore(name=name, own=own, origin=complaints.where(at))
