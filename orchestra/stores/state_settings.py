"""Where policies keep what they remember, as a value; and the state that it stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import msgspec

from orchestra.errors import BindingError
from orchestra.protocols import State

STATE_URL = r"^(?:memory:|sqlite:[^\s?#]+|redis://[^\s@/?#:]+(?::[0-9]{1,5})?(?:/[0-9]{1,4})?)\Z"
"""What a url may be; a password never stands in it."""
_REDIS = r"redis://([^:/]+)(?::([0-9]+))?(?:/([0-9]+))?"


class StateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the state is: `memory:`, `sqlite:FILE` or `redis://HOST:PORT/DATABASE`.

    A file is looked for in the folder of the stores. `timeout_s` is how long a call may take,
    `limit_bytes` how much that may be forgotten is kept. `password_env` names the variable that
    has the password of Redis.
    """

    url: str = "memory:"
    timeout_s: float = 0.05
    limit_bytes: int = 64 * 1024 * 1024
    password_env: str | None = None


class OpenState(State, Protocol):
    """A `State` that has to be closed."""

    def close(self) -> None:
        """Close what is open, without waiting; no call may be under way."""


def open_state(settings: StateSettings, data: Path, environ: Mapping[str, str]) -> OpenState:
    """The state; nothing is opened before it is used, and it needs no nursery.

    Raises:
        BindingError: coredis is not installed, or the password's variable is not set.
    """
    scheme, _, rest = settings.url.partition(":")
    match scheme:
        case "memory":
            from orchestra.stores.state_memory import MemoryState

            return MemoryState(limit_bytes=settings.limit_bytes)
        case "sqlite":
            from orchestra.stores.state_sqlite import SqliteState

            return SqliteState(
                data / rest, limit_bytes=settings.limit_bytes, timeout_s=settings.timeout_s
            )
        case _:
            return _redis(settings, environ)


def _redis(settings: StateSettings, environ: Mapping[str, str]) -> OpenState:
    password = None
    if settings.password_env is not None and not (password := environ.get(settings.password_env)):
        raise BindingError(
            f"{settings.url}: there is no password in {settings.password_env}; set that variable, "
            "or take password_env out of [state]"
        )
    if find_spec("coredis") is None:
        raise BindingError(
            f"{settings.url} needs coredis, which is not installed: pip install 'orchestra[redis]'"
        )
    from orchestra.stores.state_redis import RedisState

    found = re.fullmatch(_REDIS, settings.url)
    if found is None:
        raise BindingError(f"{settings.url!r} is no state; write redis://HOST:PORT/DATABASE")
    host, port, database = found.groups()
    return RedisState(
        host,
        int(port or 6379),
        database=int(database or 0),
        password=password,
        limit_bytes=settings.limit_bytes,
        timeout_s=settings.timeout_s,
    )
