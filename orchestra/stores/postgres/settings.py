"""The settings of stores in Postgres, and a function that opens these stores."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from orchestra.errors import BindingError
from orchestra.stores.login import LoginSettings, password_of, user_of

if TYPE_CHECKING:
    from orchestra.stores.postgres.stores import PostgresStores

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^\s@/?#:,\[\]]+)(?::[0-9]{1,5})?"
_HOSTS = re.compile(r"(?:\[([^\]]+)\]|([^:,\[\]]+))(?::([0-9]+))?")
_MODE = r"sslmode=(?:disable|prefer|require|verify-ca|verify-full)"
_ATTRIBUTES = r"target_session_attrs=(?:any|read-write|read-only|primary|standby)"
_OPTIONS = rf"{_MODE}(?:&{_ATTRIBUTES})?|{_ATTRIBUTES}(?:&{_MODE})?"  # each once
POSTGRES_URL = (
    rf"^postgres(?:ql)?://(?:(?P<hosts>{_HOST}(?:,{_HOST})*)/(?P<name>[^\s@/?#]+)"
    rf"(?:\?(?P<options>{_OPTIONS}))?"
    r"|/(?P<local>[^\s@/?#]+)\?host=(?P<folder>/[^\s@?#&]+)(?:&port=(?P<port>[0-9]{1,5}))?)\Z"
)
"""The pattern of valid urls, which must not contain a password. Of several hosts, the first that
accepts a connection and fits `target_session_attrs` is used.
"""
SSLMODE = "prefer"
_SYSTEM_CAS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
HNSW, NO_INDEX = "hnsw", "none"
"""The values of `index`: large collections have pgvector's HNSW index, or none (exact searches)."""
CONNECTIONS_MAX = 8
TIMEOUT_S = 10.0


class PostgresSettings(LoginSettings, frozen=True, kw_only=True):
    """The settings of a Postgres: its url, without user and password, and how it is used.

    `host` in the url may be the folder of a Unix socket. Of several hosts, as with a standby, the
    first that accepts a connection is used.

    `sslmode` in the url is libpq's. For `verify-ca` and `verify-full`, the server's certificate
    must be signed by an authority of the system, or by one in `ca_file`. Each process has at most
    `connections_max` calls in progress; each may take `timeout_s`. `index` is the index of large
    collections.
    """

    ca_file: Path | None = None
    connections_max: int = CONNECTIONS_MAX
    timeout_s: float = TIMEOUT_S
    index: str = NO_INDEX


def open_postgres(settings: PostgresSettings, environ: Mapping[str, str]) -> PostgresStores:
    """The stores for these settings; connections are made on demand.

    Raises:
        BindingError: the url is invalid, psycopg is not installed, or a configured variable or file
            is missing.
    """
    found = re.match(POSTGRES_URL, settings.url)
    if found is None:
        raise BindingError(
            f"{settings.url!r} is not the url of a database; write postgresql://HOST:PORT/DATABASE"
        )
    check_installed(settings)
    from orchestra.stores.postgres.pool import Address
    from orchestra.stores.postgres.stores import PostgresStores

    hosts = hosts_of(settings.url)
    ports = [port for _, port in hosts]
    options = dict(parse_qsl(found["options"] or ""))
    mode = options.pop("sslmode", None)
    configured = {
        "host": ",".join(host for host, _ in hosts) or found["folder"],
        "port": ",".join(ports) if any(ports) else found["port"],
        "dbname": found["name"] or found["local"],
        "user": user_of(settings, "[stores]", environ),
        **options,
        **_tls(settings, mode),
    }
    parameters = {key: value for key, value in configured.items() if value is not None}
    password = password_of(settings, "[stores]", environ)
    return PostgresStores(
        Address(settings.url, parameters, password),
        connections_max=settings.connections_max,
        timeout_s=settings.timeout_s,
        index=settings.index,
    )


def ports_of(url: str) -> list[str]:
    """The ports that are written in a url, including that of a socket."""
    return [*(port for _, port in hosts_of(url) if port), *re.findall(r"&port=([0-9]+)\Z", url)]


def hosts_of(url: str) -> list[tuple[str, str]]:
    """The hosts of a url, each with its port, or "" without one; empty for a socket."""
    listed = url.partition("//")[2].partition("/")[0]
    return [(ipv6 or name, port) for ipv6, name, port in _HOSTS.findall(listed)]


def check_installed(settings: PostgresSettings) -> None:
    """Check that psycopg is installed.

    Raises:
        BindingError: it is not.
    """
    if find_spec("psycopg") is None:
        raise BindingError(
            f"{settings.url} needs psycopg, which is not installed: "
            "pip install 'orchestra[postgres]'"
        )


def _tls(settings: PostgresSettings, mode: str | None) -> dict[str, str]:
    """The TLS parameters for libpq: how the server's certificate is checked."""
    if mode not in ("verify-ca", "verify-full"):
        return {"sslmode": mode or SSLMODE}
    return {"sslmode": mode, "sslrootcert": str(settings.ca_file or _system_ca())}


def _system_ca() -> str:
    """The file with the system's authorities, which the OpenSSL inside psycopg does not find."""
    places = (ssl.get_default_verify_paths().cafile, *_SYSTEM_CAS)
    return next((each for each in places if each and Path(each).exists()), "system")
