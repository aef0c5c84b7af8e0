"""A server at somebody's desk, where nobody is asked for a key: who may use it all the same.

It listens on its own machine only. But whatever page a browser on that machine shows may send it
requests: by an image or a link, for which browsers ask nobody, or under a name of its own that
leads to 127.0.0.1 for once (DNS rebinding). So a request by nobody in particular is answered only
under a name of this machine, and never for a page of elsewhere.

A server without keys is one until the first key is made: then it asks for keys, without a restart.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection
from ipaddress import ip_address
from typing import TYPE_CHECKING

import attrs
import trio

from orchestra.access.principal import ANYBODY
from orchestra.hosts import host_and_port
from orchestra.server.front.cors import ANY, host_of
from orchestra.server.front.problems import HttpProblem

if TYPE_CHECKING:
    from orchestra.server.front.arrival import Arrival

TRUSTED_S = 1.0
"""How long it is remembered that no key was made."""
_OWN = frozenset({"same-origin", "none"})
"""What browsers say (Fetch Metadata) of a page's own requests, and of those that people type."""


@attrs.define(eq=False)
class Unlocked:
    """Whether no key was ever made; once one was, never again, and `on_lock` is called."""

    any_made: Callable[[], Awaitable[bool]]
    on_lock: Callable[[], object] = lambda: None
    locked: bool = attrs.field(init=False, default=False)
    _asked_at_s: float = attrs.field(init=False, default=-math.inf)

    async def still(self) -> bool:
        """Whether nobody is to be asked for a key.

        Raises:
            StateError: it cannot be told.
        """
        now_s = trio.current_time()
        if not self.locked and now_s >= self._asked_at_s + TRUSTED_S:
            made = await self.any_made()
            self._asked_at_s = now_s
            if made and not self.locked:
                self.locked = True
                self.on_lock()
        return not self.locked


@attrs.frozen
class OwnPages:
    """A layer: of those who show no key, only those at this machine who are no page of elsewhere.

    `origins` are pages that may ask all the same, and whose hosts are names of this server.
    """

    origins: frozenset[str] = frozenset()

    async def admit(self, arrival: Arrival) -> HttpProblem | None:
        """A problem where a page of elsewhere may be behind it."""
        if arrival.principal is not ANYBODY or ANY in self.origins:
            return None
        host = arrival.header(b"host")
        if host is not None and not is_here(host) and host not in map(host_of, self.origins):
            return foreign_host(host)
        origin, site = arrival.header(b"origin"), arrival.header(b"sec-fetch-site")
        if not arrival.path.startswith("/v1/") or may_ask(origin, site, host, self.origins):
            return None
        return foreign_page(origin)


def may_ask(
    origin: str | None, site: str | None, host: str | None, origins: Collection[str]
) -> bool:
    """Whether a request is a page's of this server, or of those origins, or of no page at all."""
    if origin is not None and origin in origins:
        return True
    if site is not None:
        return site in _OWN
    return origin is None or host_of(origin) == host


def is_here(host: str) -> bool:
    """Whether a `Host` header names this machine, which no other may be called by."""
    found = host_and_port(host)
    name = "" if found is None else found[0].lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def foreign_host(host: str) -> HttpProblem:
    """The request is meant for another name than this server's."""
    detail = (
        f"without keys this server is asked as localhost or 127.0.0.1, not as {host[:100]!r}; "
        "make a key, or name its origin in `server.cors.origins`"
    )
    return HttpProblem(421, "foreign-host", "This server has another name.", detail)


def foreign_page(origin: str | None) -> HttpProblem:
    """A page of elsewhere has sent it, which shows no key."""
    whose = "another origin" if origin is None else f"{origin[:100]!r}"
    detail = f"pages of {whose} may not ask without a key; see `server.cors.origins`"
    return HttpProblem(403, "foreign-origin", "Your page may not do this.", detail)
