"""CORS: the web pages of other origins that may use this server; browsers enforce it. Pure.

Without configuration there are none: browsers then prevent their scripts from reading responses.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from orchestra.server.front.arrival import Arrival
from orchestra.server.responses.problems import Encoded

METHODS = "GET, POST, DELETE, OPTIONS"
HEADERS = (
    "Authorization, Content-Type, Accept, Idempotency-Key, Last-Event-ID, Prefer, X-Request-ID"
)
"""Headers that every allowed page may send. `*` would not include Authorization."""
_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_NAMES_CHARS = 2048
EXPOSED = (
    "Location, Preference-Applied, Idempotent-Replayed, Retry-After, "
    "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, X-Request-ID, Request-ID, "
    "X-Orchestra-Run-ID, X-Orchestra-Model, X-Orchestra-Cost-Nanodollars, "
    "X-Orchestra-Time-To-First-Token-MS, X-Should-Retry, WWW-Authenticate"
)
"""Headers that a page may read."""
ANY = "*"


class Cors(msgspec.Struct, frozen=True, kw_only=True):
    """The origins whose pages may use this server: `https://app.example`, or `*`; without cookies.

    `max_age_s` is how long a browser may cache the answer to a preflight.
    """

    origins: frozenset[str] = frozenset()
    max_age_s: int = 600

    async def admit(self, arrival: Arrival) -> Encoded | None:
        """The response to a preflight; headers for all other requests."""
        everyone = ANY in self.origins
        if not everyone:
            arrival.headers.append((b"vary", b"Origin"))
        origin = arrival.header(b"origin")
        if origin is None or not (everyone or origin in self.origins):
            return None
        allowed = ANY if everyone else origin
        arrival.headers.append((b"access-control-allow-origin", allowed.encode("latin1")))
        method = arrival.header(b"access-control-request-method")
        if arrival.scope.get("method") != "OPTIONS" or method is None:
            arrival.headers.append((b"access-control-expose-headers", EXPOSED.encode()))
            return None
        allow = (
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", _allowed(arrival)),
            ("Access-Control-Max-Age", str(self.max_age_s)),
        )
        return Encoded(204, headers=allow)


def _allowed(arrival: Arrival) -> str:
    """The headers that this page wants to send, added to those that every page may send.

    Clients have headers of their own, such as `x-stainless-os` of OpenAI's. The page's origin was
    checked before, and we do not read unknown headers.
    """
    wanted = arrival.header(b"access-control-request-headers") or ""
    if len(wanted) > _NAMES_CHARS or not _NAMES.fullmatch(wanted):
        return HEADERS
    known = {each.lower() for each in HEADERS.split(", ")}
    names = dict.fromkeys(each.strip().lower() for each in wanted.split(","))
    return ", ".join((HEADERS, *(each for each in names if each not in known)))


NO_CORS = Cors()


def host_of(origin: str) -> str | None:
    """The host and port of an origin; None if it is not a URL."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
