"""Who we are to a server that is named in the file, as settings: nothing secret stands in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from orchestra.errors import BindingError
from orchestra.secret import Secret, read_secret


class LoginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A server's `url`, and who we are to it: as `user`, or the variable `user_env` says.

    The password is in the variable `password_env` or in the file `password_file`.
    """

    url: str
    user: str | None = None
    user_env: str | None = None
    password_env: str | None = None
    password_file: Path | None = None


def user_of(settings: LoginSettings, table: str, environ: Mapping[str, str]) -> str | None:
    """The name; `table` is where it is said, for messages.

    Raises:
        BindingError: the variable that is named is not set.
    """
    return settings.user or _variable(settings, "user", table, environ)


def password_of(
    settings: LoginSettings, table: str, environ: Mapping[str, str]
) -> Secret | Path | None:
    """The password, or the file that it is in, which is to be read for each connection.

    Raises:
        BindingError: the variable that is named is not set, or the file cannot be read.
    """
    if settings.password_file is not None:
        read_secret(settings.password_file, "password")  # who starts a server is told at once
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
            f"or take {what}_env out of {table}"
        )
    return None if name is None else environ[name]
