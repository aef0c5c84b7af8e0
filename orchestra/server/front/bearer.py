"""The key in a request, or in the handshake of a WebSocket. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra.server.front.arrival import Arrival

BEARER_PROTOCOL = "orchestra.bearer."
"""The prefix of a key among the subprotocols of a WebSocket."""
_BEARER = r"bearer +(\S+) *"


def bearer(arrival: Arrival) -> str | None:
    """The key in a request: None if there is none, "" if it cannot be read."""
    given = arrival.all_of(b"authorization")
    if not given:
        return _beside(arrival)
    if len(given) > 1:
        return ""  # a proxy in front may have checked another one than this server would
    found = re.fullmatch(_BEARER, given[0], re.IGNORECASE)
    return found[1] if found else ""


def _beside(arrival: Arrival) -> str | None:
    """The key of clients that do not send `Authorization`: those of Anthropic, and browsers.

    `x-api-key` of other clients is not read: it may be for a proxy in front of this server. A
    browser sends the key as a subprotocol, since it cannot set headers of a WebSocket.
    """
    if arrival.of_anthropic and (given := arrival.all_of(b"x-api-key")):
        return given[0].strip() if len(given) == 1 else ""
    for offered in arrival.scope.get("subprotocols", ()):
        if offered.startswith(BEARER_PROTOCOL):
            return str(offered.removeprefix(BEARER_PROTOCOL))
    return None
