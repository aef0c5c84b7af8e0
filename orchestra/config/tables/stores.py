"""The table `[stores]`: where stores are kept, and those of the project's own classes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from orchestra.config.deployment.stores import OwnStore
from orchestra.config.tables.login import check_login, check_port, without_secrets
from orchestra.config.tables.own_classes import read_own_class
from orchestra.config.toml import spec
from orchestra.config.toml.checking import Table, check
from orchestra.config.toml.complaints import Complaints, shown
from orchestra.config.toml.places import Path as Place
from orchestra.stores.postgres.settings import PostgresSettings, ports_of

AT: Place = ("stores",)


@attrs.frozen
class StoresTable:
    """The stores of own classes, the folder for files, and the database."""

    own: Mapping[str, OwnStore]
    data: str | None = None
    database: PostgresSettings | None = None


def read_stores(tables: Table, here: Path, complaints: Complaints) -> StoresTable:
    """The valid part of the table, with paths relative to the folder `here`."""
    own = {
        name: table
        for name, table in tables.items()
        if isinstance(table, dict) and name not in spec.STORES
    }
    keys = {key: value for key, value in tables.items() if key not in own}
    keys = dict(without_secrets(keys, AT, complaints))
    right = check(keys, AT, spec.STORES, complaints)
    data = right.pop("data", None)
    found = {name: _read(name, table, complaints) for name, table in own.items()}
    right_own = {name: each for name, each in found.items() if each is not None}
    return StoresTable(right_own, data, _database(right, keys, here, complaints))


def _database(
    right: Table, keys: Table, here: Path, complaints: Complaints
) -> PostgresSettings | None:
    for key in right if "url" not in keys else ():
        message = "it applies only to a database, and there is no url"
        fix = f"add url = {spec.POSTGRES_URL.example}, or leave it out"
        complaints.add("missing-key", (*AT, key), message, fix)
    check_login(keys, AT, complaints)
    if "url" not in right:
        return None
    url = str(right["url"])
    for port in ports_of(url):
        check_port(port, AT, complaints)
    if "ca_file" in keys and "sslmode=verify" not in url:
        fix = "add ?sslmode=verify-full to the url, or leave it out"
        complaints.add("wrong-value", (*AT, "ca_file"), f"{shown(url)} does not use it", fix)
    files = {key: here / value for key, value in right.items() if key.endswith("_file")}
    return PostgresSettings(**{**right, **files})


def _read(name: str, table: Table, complaints: Complaints) -> OwnStore | None:
    at = ("stores", name)
    right = check(table, at, spec.OWN_STORE, complaints)
    own = read_own_class(table, right, at, complaints)
    if own is None:
        return None
    return OwnStore(name=name, own=own, origin=complaints.where(at))
