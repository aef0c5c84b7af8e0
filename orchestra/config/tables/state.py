"""The table `[state]` as settings. Pure."""

from __future__ import annotations

from pathlib import Path

from orchestra.config.tables.login import check_login, check_port, without_secrets
from orchestra.config.toml import spec
from orchestra.config.toml.checking import Table, check, missing
from orchestra.config.toml.complaints import Complaints, shown
from orchestra.config.toml.places import Path as Place
from orchestra.stores.state.settings import StateSettings

AT: Place = ("state",)
TLS = ("ca_file", "certificate_file", "certificate_key_file")


def read_state(table: Table | None, here: Path, complaints: Complaints) -> StateSettings | None:
    """The settings, with paths relative to the folder `here`; None without a table.

    Meaningless after a complaint.
    """
    if table is None:
        return None
    rest = without_secrets(table, AT, complaints)
    right = check(rest, AT, spec.STATE, complaints)
    if "url" not in table:
        missing("url", spec.STATE_URL, AT, complaints)
    files = {key: here / value for key, value in right.items() if key.endswith("_file")}
    settings = StateSettings(**{**right, **files})
    if "url" in right:
        _obeyed(settings, rest, complaints)
    _paired(rest, complaints)
    return settings


def _obeyed(settings: StateSettings, table: Table, complaints: Complaints) -> None:
    """Complain of keys that this kind of state does not use."""
    kind = settings.url.partition(":")[0]
    idle = {"memory": ("timeout_s", *spec.LOGIN, *TLS), "sqlite": (*spec.LOGIN, *TLS)}
    for key in idle.get(kind, () if kind == "rediss" else TLS):
        if key in table:
            message = f"{shown(settings.url)} does not use it"
            fix = "write rediss:// for TLS, or leave it out" if kind == "redis" else "leave it out"
            complaints.add("wrong-value", (*AT, key), message, fix)
    port = settings.url.rpartition(":")[2].partition("/")[0]
    if kind in ("redis", "rediss"):
        check_port(port, AT, complaints)


def _paired(table: Table, complaints: Complaints) -> None:
    """Complain of a login in two places, and of a certificate's key without the certificate."""
    check_login(table, AT, complaints)
    if "certificate_key_file" in table and "certificate_file" not in table:
        message = "there is no certificate for this key"
        fix = 'add certificate_file = "PATH"'
        complaints.add("missing-key", (*AT, "certificate_key_file"), message, fix)
