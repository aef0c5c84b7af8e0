"""Who is let in to a server, as its deployment says it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from orchestra.errors import ServeError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestra.config.bindings import LocalBindings
    from orchestra.server.front import Admission

MAKE_ONE = "orchestra keys create --organisation acme --user ada --pipelines '*' --models '*'"


async def admission_of(bindings: LocalBindings, host: str, *, asked: bool = False) -> Admission:
    """Who is let in by this deployment, on this address; `asked` is whether keys were, until now.

    Raises:
        ServeError: it has no keys, and could be reached from other machines, or keys were asked
            for until now, or were made elsewhere.
        StateError: it cannot be told whether it has keys.
    """
    from orchestra.server.cors import Cors
    from orchestra.server.desk import OwnPages, Unlocked
    from orchestra.server.front import Admission
    from orchestra.server.running import Running

    rules = bindings.rules
    cors = Cors(origins=rules.cors_origins, max_age_s=rules.cors_max_age_s)
    if rules.keys == "none":
        _only_here(host)
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

    if rules.keys == "required" or await bindings.keys_made():
        return keyed()
    _only_here(host)
    await _still_open(bindings, asked=asked)
    return Admission(
        unlocked=Unlocked(bindings.keys_made),
        keyed=keyed,
        own_pages=OwnPages(cors.origins),
        running=running,
        cors=cors,
    )


async def _still_open(bindings: LocalBindings, *, asked: bool) -> None:
    """Nothing, where nobody was asked for a key before, either.

    Raises:
        ServeError: keys were made, and are not where this deployment looks for them.
        StateError: it cannot be told.
    """
    left = await _keys_left_behind(bindings)
    if not asked and left is None:
        return
    kept = "there are none" if left is None else f"those in {left} are not there"
    raise ServeError(
        f"keys were asked for, and now nobody would be: they are kept in {bindings.keys_at}, and "
        f"{kept}; make one there: {MAKE_ONE}\n"
        'or let everybody in from this machine: [server] and keys = "none"'
    )


async def _keys_left_behind(bindings: LocalBindings) -> Path | None:
    """The file in which keys were made, where they are not looked for any more; mostly none.

    Raises:
        StateError: it cannot be read.
    """
    from orchestra.config.bindings import KEYS_FILE, KEYS_TIMEOUT_S

    path = bindings.stores.path.with_name(KEYS_FILE)
    if not path.exists() or bindings.keys_file == path:
        return None
    from orchestra.access.keyring import Keyring
    from orchestra.stores.state_private import PrivateState

    with PrivateState(path, timeout_s=KEYS_TIMEOUT_S) as left:
        return path if await Keyring(left).any_made() else None


def _only_here(host: str) -> None:
    """Nothing, where no other machine can ask.

    Raises:
        ServeError: others can, and nobody would ask them for a key.
    """
    try:
        here = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here:
        raise ServeError(
            f"nobody would have to show a key, and host {host!r} can be reached from other "
            f"machines; make a key first: {MAKE_ONE}\n"
            "or serve this machine only: --host 127.0.0.1"
        )
