"""The table `[state]` as settings. Pure."""

from __future__ import annotations

from pathlib import Path

from orchestra.config.toml import spec
from orchestra.config.toml.checking import NO_SECRETS, Table, check, missing
from orchestra.config.toml.complaints import Complaints, names_a_secret, shown
from orchestra.config.toml.places import Path as Place
from orchestra.stores.state.settings import StateSettings

AT: Place = ("state",)
PORT_MAX = 65_535
LOGIN = ("user", "user_env", "password_env", "password_file")
TLS = ("ca_file", "certificate_file", "certificate_key_file")
ELSEWHERE = (
    'put it into the environment or into a file, and write password_env = "VARIABLE" or '
    'password_file = "PATH"'
)


def read_state(table: Table | None, here: Path, complaints: Complaints) -> StateSettings | None:
    """The settings, with files as seen from the folder `here`; meaningless after a complaint.

    None where there is no table.
    """
    if table is None:
        return None
    for key in filter(names_a_secret, table):
        complaints.add("secret-in-file", (*AT, key), NO_SECRETS, ELSEWHERE)
    rest = {key: value for key, value in table.items() if not names_a_secret(key)}
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
    """Complain of what this kind of state does not look at."""
    kind = settings.url.partition(":")[0]
    idle = {"memory": ("timeout_s", *LOGIN, *TLS), "sqlite": (*LOGIN, *TLS)}
    for key in idle.get(kind, () if kind == "rediss" else TLS):
        if key in table:
            message = f"{shown(settings.url)} has no use for it"
            fix = "write rediss:// for TLS, or leave it out" if kind == "redis" else "leave it out"
            complaints.add("wrong-value", (*AT, key), message, fix)
    port = settings.url.rpartition(":")[2].partition("/")[0]
    if kind in ("redis", "rediss") and port.isdigit() and not 0 < int(port) <= PORT_MAX:
        message = f"{port} is not a port"
        complaints.add("wrong-value", (*AT, "url"), message, f"write one of 1 to {PORT_MAX}")


def _paired(table: Table, complaints: Complaints) -> None:
    """Complain of two places for one thing, and of a key to no certificate."""
    for one, other in (("user", "user_env"), ("password_env", "password_file")):
        if one in table and other in table:
            message = f"{one} says it already"
            complaints.add("wrong-value", (*AT, other), message, "leave one of the two out")
    if "certificate_key_file" in table and "certificate_file" not in table:
        message = "there is no certificate that this key belongs to"
        fix = 'add certificate_file = "PATH"'
        complaints.add("missing-key", (*AT, "certificate_key_file"), message, fix)
