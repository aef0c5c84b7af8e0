"""The settings of a state, and a function that opens the state."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from orchestra.errors import BindingError
from orchestra.protocols import State
from orchestra.stores.login import LoginSettings, password_of, user_of

_HOST = (
    r"(?P<scheme>rediss?)://(?P<host>[^\s@/?#:]+)(?::(?P<port>[0-9]{1,5}))?(?:/(?P<at>[0-9]{1,4}))?"
)
_SOCKET = r"redis\+unix://(?P<socket>/[^\s@?#]+)(?:\?db=(?P<db>[0-9]{1,4}))?"
_REDIS = f"(?:{_HOST}|{_SOCKET})"
STATE_URL = rf"^(?:memory:|sqlite:[^\s?#]+|{_REDIS})\Z"
"""The pattern of valid urls, which must not contain a password."""
PORT = 6379
TIMEOUT_S = 0.05
LIMIT_BYTES = 64 * 1024 * 1024


class StateSettings(LoginSettings, frozen=True, kw_only=True):
    """The settings of a state; its url is `memory:`, `sqlite:FILE`, or that of a Redis.

    FILE is in the folder of the stores. `timeout_s` is how long a call may take; `limit_bytes`
    limits the size of all values of `remember`. The user of a Redis is `user`, or the value of the
    variable `user_env`; the password is in the variable `password_env` or in the file
    `password_file`. With TLS (`rediss:`), the server's certificate must be signed by an authority
    in `ca_file`, or by one of the system's if there is no `ca_file`. `certificate_file` and
    `certificate_key_file` are the client's own.
    """

    url: str = "memory:"
    timeout_s: float = TIMEOUT_S
    limit_bytes: int = LIMIT_BYTES
    ca_file: Path | None = None
    certificate_file: Path | None = None
    certificate_key_file: Path | None = None

    def certificates(self) -> tuple[int, ...]:
        """The modification times of the certificate files, which are read when the state is opened.

        If these times change, open the state again.
        """
        files = (self.ca_file, self.certificate_file, self.certificate_key_file)
        return tuple(each.stat().st_mtime_ns for each in files if each and each.exists())


class OpenState(State, Protocol):
    """A `State` that has to be closed."""

    def close(self) -> None:
        """Close what is open, without waiting; no call may be in progress."""


def open_state(settings: StateSettings, data: Path, environ: Mapping[str, str]) -> OpenState:
    """The state for these settings; nothing is opened before it is used, and it needs no nursery.

    Raises:
        BindingError: the url is invalid, coredis is not installed, or a configured variable or file
            is missing.
    """
    scheme, _, rest = settings.url.partition(":")
    match scheme:
        case "memory":
            from orchestra.stores.state.memory import MemoryState

            return MemoryState(limit_bytes=settings.limit_bytes)
        case "sqlite":
            from orchestra.stores.state.sqlite import SqliteState

            return SqliteState(
                data / rest, limit_bytes=settings.limit_bytes, timeout_s=settings.timeout_s
            )
        case _:
            return _redis(settings, environ)


def check_installed(settings: StateSettings) -> None:
    """Check that coredis is installed, if the state needs it.

    Raises:
        BindingError: it is not.
    """
    if settings.url.startswith("redis") and find_spec("coredis") is None:
        raise BindingError(
            f"{settings.url} needs coredis, which is not installed: pip install 'orchestra[redis]'"
        )


def _redis(settings: StateSettings, environ: Mapping[str, str]) -> OpenState:
    found = re.fullmatch(_REDIS, settings.url)
    if found is None:
        raise BindingError(
            f"{settings.url!r} is not the url of a state; write redis://HOST:PORT/DATABASE"
        )
    user = user_of(settings, "[state]", environ)
    password = password_of(settings, "[state]", environ)
    if user is not None and password is None:
        raise BindingError(
            f"{settings.url}: there is a user but no password; add password_env or password_file "
            "to [state]"
        )
    check_installed(settings)
    from orchestra.stores.state.redis import RedisState

    return RedisState(
        found["host"] or "",
        int(found["port"] or PORT),
        database=int(found["at"] or found["db"] or 0),
        tls=_tls(settings) if found["scheme"] == "rediss" else None,
        socket_file=found["socket"],
        user=user,
        password=password,
        limit_bytes=settings.limit_bytes,
        timeout_s=settings.timeout_s,
    )


def _tls(settings: StateSettings) -> ssl.SSLContext:
    """The TLS settings: if there is a `ca_file`, only the authorities in it are trusted."""
    ca, own, key = settings.ca_file, settings.certificate_file, settings.certificate_key_file
    reads = ca
    try:
        context = ssl.create_default_context(cafile=ca)
        if own is not None:
            reads = own
            context.load_cert_chain(own, key)
    except OSError as error:  # this includes ssl.SSLError
        raise BindingError(
            f"{settings.url}: {str(reads)!r} cannot be used: {error.strerror or error}; it must "
            "contain a certificate in PEM, and certificate_file needs its key as well"
        ) from error
    return context
