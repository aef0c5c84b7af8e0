"""User names and passwords for servers, in `[state]` and `[stores]`. Pure."""

from __future__ import annotations

from orchestra.config.toml.checking import NO_SECRETS, Table
from orchestra.config.toml.complaints import Complaints, names_a_secret
from orchestra.config.toml.places import Path as Place

PORT_MAX = 65_535
ELSEWHERE = (
    'put it into the environment or into a file, and write password_env = "VARIABLE" or '
    'password_file = "PATH"'
)


def without_secrets(table: Table, at: Place, complaints: Complaints) -> Table:
    """The table without its secrets; a complaint is added for each."""
    for key in filter(names_a_secret, table):
        complaints.add("secret-in-file", (*at, key), NO_SECRETS, ELSEWHERE)
    return {key: value for key, value in table.items() if not names_a_secret(key)}


def check_login(table: Table, at: Place, complaints: Complaints) -> None:
    """Complain if a user or password is given in two places."""
    for one, other in (("user", "user_env"), ("password_env", "password_file")):
        if one in table and other in table:
            message = f"{one} is given, too"
            complaints.add("wrong-value", (*at, other), message, "leave one of the two out")


def check_port(port: str, at: Place, complaints: Complaints) -> None:
    """Complain of a number that cannot be a port."""
    if port.isdigit() and not 0 < int(port) <= PORT_MAX:
        message = f"{port} is not a port"
        complaints.add("wrong-value", (*at, "url"), message, f"write one of 1 to {PORT_MAX}")
