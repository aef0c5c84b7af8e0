"""Requests, in the words of OpenTelemetry's conventions for HTTP. Pure.

Rules of the file: nothing of what was asked is told, so that a path has no query, and no header but
`Host` is read.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchestra.hosts import host_and_port
from orchestra.observe.trace_context import TraceContext
from orchestra.policies.observed import CANCELLED

METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}
)
OTHER_METHOD = "_OTHER"
"""What the conventions call a method that nobody knows."""
FAULT = 500
"""From this status on it is the server that has failed, and not its client."""
_HTTP: Mapping[str, str] = {"ws": "http", "wss": "https"}
PATH_CHARS, METHOD_CHARS = 1024, 64
"""What is told of these, which a client makes up and nobody has looked at yet; of a host, 253."""


@attrs.frozen
class Request:
    """What is known of a request when it comes; `host` is that header of it, `parent` its client's.

    That of a WebSocket is its handshake.
    """

    method: str
    scheme: str
    path: str
    host: str = ""
    version: str = ""
    parent: TraceContext | None = None

    def attributes(self) -> dict[str, str | int]:
        """What its span begins with, so that a sampler may see it."""
        found: dict[str, str | int] = {
            "http.request.method": known_method(self.method),
            "url.scheme": scheme(self.scheme),
            "url.path": self.path[:PATH_CHARS],
        }
        if found["http.request.method"] != self.method:
            found["http.request.method_original"] = self.method[:METHOD_CHARS]
        if self.version:
            found["network.protocol.version"] = self.version
        if (at := host_and_port(self.host)) is not None:
            found["server.address"], port = at
            if port is not None:
                found["server.port"] = port
        return found


def known_method(method: str) -> str:
    """The method; of one that a client has made up, what all of those are called."""
    return method if method in METHODS else OTHER_METHOD


def scheme(of_scope: str) -> str:
    """How a request came, of the scheme in its ASGI scope: a WebSocket's begins as one of HTTP."""
    return _HTTP.get(of_scope, of_scope)


def title(method: str, route: str = "") -> str:
    """The name of its span: never with a path that a client may make up."""
    known = method if method in METHODS else "HTTP"
    return f"{known} {route}" if route else known


def answered(route: str, status: int | None, request_id: str) -> dict[str, str | int]:
    """What its span ends with; what there is none of is left out.

    Who has left before the answer has no status, and is at no fault.
    """
    found: dict[str, str | int] = {}
    if route:
        found["http.route"] = route
    if request_id:
        found["orchestra.request_id"] = request_id
    if status is None:
        found["orchestra.status"] = CANCELLED
    else:
        found["http.response.status_code"] = status
    if failed(status):
        found["error.type"] = str(status)
    return found


def failed(status: int | None) -> bool:
    """Whether the server has."""
    return status is not None and status >= FAULT
