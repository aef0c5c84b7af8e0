"""The table `[state]` as settings. Pure."""

from __future__ import annotations

from orchestra.config import spec
from orchestra.config.checking import NO_SECRETS, Table, check, missing
from orchestra.config.complaints import Complaints, names_a_secret, shown
from orchestra.config.places import Path as Place
from orchestra.stores.state_settings import StateSettings

AT: Place = ("state",)
PORT_MAX = 65_535
ELSEWHERE = 'put it into the environment, and write password_env = "VARIABLE"'


def read_state(table: Table, complaints: Complaints, *, there: bool) -> StateSettings:
    """The settings; those of memory where there is no table, meaningless after a complaint."""
    for key in filter(names_a_secret, table):
        complaints.add("secret-in-file", (*AT, key), NO_SECRETS, ELSEWHERE)
    rest = {key: value for key, value in table.items() if not names_a_secret(key)}
    right = check(rest, AT, spec.STATE, complaints)
    if there and "url" not in table:
        missing("url", spec.STATE_URL, AT, complaints)
    settings = StateSettings(**right)
    if "url" in right:
        _obeyed(settings, rest, complaints)
    return settings


def _obeyed(settings: StateSettings, table: Table, complaints: Complaints) -> None:
    """Complain of what this kind of state does not look at."""
    kind = settings.url.partition(":")[0]
    idle = {"memory": ("timeout_s", "password_env"), "sqlite": ("password_env",)}
    for key in idle.get(kind, ()):
        if key in table:
            message = f"{shown(settings.url)} has no use for it"
            complaints.add("wrong-value", (*AT, key), message, "leave it out")
    port = settings.url.rpartition(":")[2].partition("/")[0]
    if kind == "redis" and port.isdigit() and not 0 < int(port) <= PORT_MAX:
        message = f"{port} is not a port"
        complaints.add("wrong-value", (*AT, "url"), message, f"write one of 1 to {PORT_MAX}")
