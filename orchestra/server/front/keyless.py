"""Protection of a local server that requires no keys.

It listens on its own machine only. But any page in a browser on that machine may send requests to
it: by an image or a link, which browsers always allow, or under its own host name that temporarily
resolves to 127.0.0.1 (DNS rebinding). So a request without a key is answered only under a name of
this machine, and never for a page of another origin.

A server stays without keys until the first key is made; then it requires keys, without a restart.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

import attrs
import trio

from orchestra.access.principal import ANYBODY
from orchestra.errors import StateError
from orchestra.eventclass import frozen
from orchestra.hosts import host_and_port
from orchestra.server.front.cors import ANY, host_of
from orchestra.server.front.end_users import identify
from orchestra.server.responses.caller_problems import keys_unreachable
from orchestra.server.responses.problems import HttpProblem
from orchestra.stores.state.outage import Outage, outage_of_keys

if TYPE_CHECKING:
    from orchestra.server.front.arrival import Arrival
    from orchestra.server.front.layers import Admission, Layer
    from orchestra.server.responses.problems import Told

TRUSTED_S = 1.0
"""Seconds for which the result that there is no key is cached."""
_OWN = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of browsers for a page's requests to its own server, and for typed URLs."""


@attrs.define(eq=False)
class Unlocked:
    """The layer that lets every caller's request pass until the first key is made.

    Then `on_lock` is called, and the layer stays locked: from then on it applies the layers of
    `keyed`, which are made on demand, since most local servers never need them.
    """

    any_made: Callable[[], Awaitable[bool]]
    keyed: Callable[[], Admission]
    on_lock: Callable[[], object] = lambda: None
    locked: bool = attrs.field(init=False, default=False)
    _checked_at_s: float = attrs.field(init=False, default=-math.inf)
    _layers: Sequence[Layer] = attrs.field(init=False, default=())
    _outage: Outage = attrs.field(init=False, factory=outage_of_keys)

    async def admit(self, arrival: Arrival) -> Told | None:
        """None while there is no key; then the response of the layers for keys, if any."""
        try:
            unlocked = await self.still()
        except StateError as error:
            self._outage.failed(error, trio.current_time())
            return keys_unreachable()
        self._outage.answered(trio.current_time())
        if unlocked:
            return identify(arrival, ANYBODY)
        self._layers = self._layers or self.keyed().of_callers()
        for layer in self._layers:
            early = await layer.admit(arrival)
            if early is not None:
                return early
        return None

    async def still(self) -> bool:
        """Whether requests still need no key.

        Raises:
            StateError: whether there is a key cannot be looked up.
        """
        now_s = trio.current_time()
        if not self.locked and now_s >= self._checked_at_s + TRUSTED_S:
            made = await self.any_made()
            self._checked_at_s = now_s
            if made and not self.locked:
                self.locked = True
                self.on_lock()
        return not self.locked


@frozen
class OwnPages:
    """A layer that refuses requests without a key for other hosts, or from pages of other origins.

    `origins` are the origins that are allowed; their hosts count as names of this server.
    """

    origins: frozenset[str] = frozenset()

    async def admit(self, arrival: Arrival) -> HttpProblem | None:
        """A problem if the request may be from a page of another origin."""
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
    """Whether a request is from a page of this server or of those origins, or not from a page."""
    if origin is not None and origin in origins:
        return True
    if site is not None:
        return site in _OWN
    return origin is None or host_of(origin) == host


def is_here(host: str) -> bool:
    """Whether a `Host` header has a name that only this machine can have."""
    found = host_and_port(host)
    name = "" if found is None else found[0].lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def foreign_host(host: str) -> HttpProblem:
    """The request's host is not a name of this server."""
    detail = (
        f"a server without keys answers only as localhost or 127.0.0.1, not as {host[:100]!r}; "
        "make a key, or name its origin in `server.cors.origins`"
    )
    return HttpProblem(421, "foreign-host", "This server has another name.", detail)


def foreign_page(
    origin: str | None, may_not: str = "may not send requests without a key"
) -> HttpProblem:
    """The request is from a page of another origin."""
    whose = "another origin" if origin is None else f"{origin[:100]!r}"
    detail = f"pages of {whose} {may_not}; see `server.cors.origins`"
    return HttpProblem(403, "foreign-origin", "Your page may not do this.", detail)
