"""The settings for logging in to a server: where user and password come from, but no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from orchestra.errors import BindingError
from orchestra.secret import Secret, read_secret


class LoginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The `url` of a server, and how to log in to it.

    The user name is `user`, or the value of the environment variable `user_env`. The password is in
    the environment variable `password_env` or in the file `password_file`.
    """

    url: str
    user: str | None = None
    user_env: str | None = None
    password_env: str | None = None
    password_file: Path | None = None


def user_of(settings: LoginSettings, table: str, environ: Mapping[str, str]) -> str | None:
    """The user name, if one is configured; `table` is the configuration's table, for messages.

    Raises:
        BindingError: the variable `user_env` is not set.
    """
    return settings.user or _variable(settings, "user", table, environ)


def password_of(
    settings: LoginSettings, table: str, environ: Mapping[str, str]
) -> Secret | Path | None:
    """The password, or the file that contains it; read the file again for each connection.

    Raises:
        BindingError: the variable `password_env` is not set, or the file cannot be read.
    """
    if settings.password_file is not None:
        read_secret(settings.password_file, "password")  # report a bad file when the server starts
        return settings.password_file
    password = _variable(settings, "password", table, environ)
    return None if password is None else Secret(password)


def _variable(
    settings: LoginSettings, what: str, table: str, environ: Mapping[str, str]
) -> str | None:
    name = getattr(settings, f"{what}_env")
    if name is not None and not environ.get(name):
        raise BindingError(
            f"{settings.url}: there is no {what} in {name}; set that variable, "
            f"or remove {what}_env from {table}"
        )
    return None if name is None else environ[name]
