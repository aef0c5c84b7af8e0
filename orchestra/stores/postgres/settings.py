"""The settings of stores in Postgres, and the construction of these stores."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.errors import BindingError
from orchestra.stores.login import LoginSettings, password_of, user_of

if TYPE_CHECKING:
    from orchestra.stores.postgres.stores import PostgresStores

_HOST = r"(?P<host>[^\s@/?#:,]+)(?::(?P<port>[0-9]{1,5}))?"
_MODE = r"sslmode=(?P<sslmode>disable|prefer|require|verify-ca|verify-full)"
POSTGRES_URL = (
    rf"^postgres(?:ql)?://(?:{_HOST}/(?P<name>[^\s@/?#]+)(?:\?{_MODE})?"
    r"|/(?P<local>[^\s@/?#]+)\?host=(?P<folder>/[^\s@?#&]+))\Z"
)
"""The pattern of valid urls; a password is not allowed in them."""
SSLMODE = "prefer"
_SYSTEM_CAS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
CONNECTIONS_MAX = 8
TIMEOUT_S = 10.0


class PostgresSettings(LoginSettings, frozen=True, kw_only=True):
    """A Postgres, by its url without user and password; `host` may be the folder of a socket.

    `sslmode` in the url is libpq's. For `verify-full`, the server's certificate has to be signed by
    an authority of the system, or by one in `ca_file`. Each process has at most `connections_max`
    calls in flight; each may take `timeout_s`.
    """

    ca_file: Path | None = None
    connections_max: int = CONNECTIONS_MAX
    timeout_s: float = TIMEOUT_S


def open_postgres(settings: PostgresSettings, environ: Mapping[str, str]) -> PostgresStores:
    """The stores; connections are made on demand.

    Raises:
        BindingError: psycopg is not installed, or a named variable or file is missing.
    """
    found = re.match(POSTGRES_URL, settings.url)
    if found is None:
        raise BindingError(
            f"{settings.url!r} is not the url of a database; write postgresql://HOST:PORT/DATABASE"
        )
    check_installed(settings)
    from orchestra.stores.postgres.pool import Address
    from orchestra.stores.postgres.stores import PostgresStores

    said = {
        "host": found["host"] or found["folder"],
        "port": found["port"],
        "dbname": found["name"] or found["local"],
        "user": user_of(settings, "[stores]", environ),
        **_tls(settings, found["sslmode"]),
    }
    parameters = {key: value for key, value in said.items() if value is not None}
    password = password_of(settings, "[stores]", environ)
    return PostgresStores(
        Address(settings.url, parameters, password),
        connections_max=settings.connections_max,
        timeout_s=settings.timeout_s,
    )


def check_installed(settings: PostgresSettings) -> None:
    """Check that the packages that the stores need are installed.

    Raises:
        BindingError: one is not.
    """
    if find_spec("psycopg") is None:
        raise BindingError(
            f"{settings.url} needs psycopg, which is not installed: "
            "pip install 'orchestra[postgres]'"
        )


def _tls(settings: PostgresSettings, mode: str | None) -> dict[str, str]:
    """The TLS parameters: how the certificate is checked."""
    if mode not in ("verify-ca", "verify-full"):
        return {"sslmode": mode or SSLMODE}
    return {"sslmode": mode, "sslrootcert": str(settings.ca_file or _system_ca())}


def _system_ca() -> str:
    """The file of the system's authorities, which psycopg's own OpenSSL does not know."""
    places = (ssl.get_default_verify_paths().cafile, *_SYSTEM_CAS)
    return next((each for each in places if each and Path(each).exists()), "system")
