"""Access to a server, by its configuration."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Collection
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.errors import ServeError, StateError

if TYPE_CHECKING:
    from orchestra.config.bindings import LocalBindings
    from orchestra.server.front.layers import Admission

MAKE_ONE = "orchestra keys create --organisation acme --user ada --pipelines '*' --models '*'"
log = logging.getLogger("orchestra.server")


def make_one(data: Path | None, config: Path | None) -> str:
    """The command that makes a key for a deployment with these two options."""
    from orchestra.config.finding import FILE

    options = [("--data", data), ("--config", config if config != Path(FILE) else None)]
    more = [f"{option} {shlex.quote(str(path))}" for option, path in options if path is not None]
    return " ".join((MAKE_ONE, *more))


async def admission_of(
    bindings: LocalBindings,
    host: str,
    *,
    required_at: Collection[str] = (),
    make: str = MAKE_ONE,
    on_lock: Callable[[], object] = lambda: None,
) -> Admission:
    """The access settings of this deployment, on this address.

    `required_at` has the places of the keys that were required until now: a server that has
    required keys keeps requiring them, even if there are none any more. `make` is the command that
    makes a key. `on_lock` is called at the first key of a server without keys.

    Raises:
        ServeError: there are no keys, and the server could be reached from other machines, or
            keys were required until now, or exist in another place.
        StateError: the keys cannot be looked up.
    """
    from orchestra.server.front.cors import Cors
    from orchestra.server.front.keyless import OwnPages, Unlocked
    from orchestra.server.front.layers import Admission
    from orchestra.server.front.running import Running

    rules = bindings.rules
    cors = Cors(origins=rules.cors_origins, max_age_s=rules.cors_max_age_s)
    if rules.keys == "none":
        _only_here(host, f'take keys = "none" out of [server], and make a key: {make}')
        return Admission(own_pages=OwnPages(cors.origins), cors=cors)
    running = Running(bindings.caller_rules)

    def keyed() -> Admission:
        return Admission(
            keyring=bindings.keyring,
            rates=bindings.request_limits,
            tokens=bindings.model_limits,
            purse=bindings.purse,
            running=running,
            cors=cors,
        )

    if rules.keys == "required" or await _are_keys_made(bindings):
        return keyed()
    if bindings.keys_at in required_at:
        log.warning(
            "this server required keys before, and there are none in %s: every request is refused. "
            'Restore the keys there, or make a key: %s; or require none: keys = "none" in [server]',
            bindings.keys_at,
            make,
        )
        return keyed()
    _only_here(host, f"make a key first: {make}")
    await _still_open(bindings, required_at, make)
    return Admission(
        unlocked=Unlocked(bindings.keys_made, keyed, on_lock),
        own_pages=OwnPages(cors.origins),
        running=running,
        cors=cors,
    )


async def _are_keys_made(bindings: LocalBindings) -> bool:
    """Whether there are keys.

    Raises:
        StateError: the keys cannot be looked up.
    """
    try:
        return await bindings.keys_made()
    except StateError as error:
        raise StateError(
            "it is unknown whether there are keys, and so whether requests need one; with keys = "
            f'"required" in [server], the server starts without knowing: {error}'
        ) from error


async def _still_open(bindings: LocalBindings, required_at: Collection[str], make: str) -> None:
    """Check that keys were not required before.

    Raises:
        ServeError: keys were made, and are missing in this deployment's place.
        StateError: the keys cannot be looked up.
    """
    left = await _keys_left_behind(bindings)
    elsewhere = sorted({*required_at, *([str(left)] if left is not None else [])})
    if not elsewhere:
        return
    raise ServeError(
        "this server required keys before, and would require none now: keys are read from "
        f"{bindings.keys_at}, where those in {', '.join(elsewhere)} are missing; make one there: "
        f"{make}\n"
        'or require none, from this machine only: keys = "none" in [server]'
    )


async def _keys_left_behind(bindings: LocalBindings) -> Path | None:
    """A file with keys that this deployment does not use any more; mostly none.

    Raises:
        StateError: it cannot be read.
    """
    from orchestra.config.bindings import KEYS_FILE, KEYS_TIMEOUT_S

    path = bindings.stores.path.with_name(KEYS_FILE)
    if not path.exists() or bindings.keys_file == path:
        return None
    from orchestra.access.keyring import Keyring
    from orchestra.stores.state.private import PrivateState

    with PrivateState(path, timeout_s=KEYS_TIMEOUT_S) as left:
        return path if await Keyring(left).any_made() else None


def _only_here(host: str, cure: str) -> None:
    """Check that no other machine can reach the server.

    Raises:
        ServeError: others can, and would need no key.
    """
    try:
        here = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here:
        raise ServeError(
            f"requests would need no key, and host {host!r} can be reached from other machines; "
            f"{cure}\n"
            "or serve this machine only: --host 127.0.0.1"
        )
