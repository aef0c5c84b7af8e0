"""HTTP requests as span attributes, by OpenTelemetry's semantic conventions. Pure.

Rules of the file: a span contains no content. So a path has no query, and `Host` is the only header
that is read.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.eventclass import frozen
from orchestra.hosts import host_and_port
from orchestra.observe.trace_context import TraceContext
from orchestra.policies.observed import CANCELLED

METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}
)
OTHER_METHOD = "_OTHER"
"""The conventions' name for an unknown method."""
FAULT = 500
"""Statuses from this one on are failures of the server, not of its client."""
_HTTP: Mapping[str, str] = {"ws": "http", "wss": "https"}
PATH_CHARS, METHOD_CHARS = 1024, 64
"""Longer paths and methods are cut, as a client may send anything. A host has at most 253."""


@frozen
class Request:
    """A request as it arrives; `host` is its `Host` header, `parent` its client's trace context.

    For a WebSocket, it is the handshake.
    """

    method: str
    scheme: str
    path: str
    host: str = ""
    version: str = ""
    parent: TraceContext | None = None

    def attributes(self) -> dict[str, str | int]:
        """The attributes that the request's span starts with; a sampler sees only these."""
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
    """The method, or `OTHER_METHOD` for one that HTTP does not have."""
    return method if method in METHODS else OTHER_METHOD


def scheme(of_scope: str) -> str:
    """The URL scheme of a request, given its ASGI scope's: a WebSocket starts as HTTP."""
    return _HTTP.get(of_scope, of_scope)


def span_name(method: str, route: str = "") -> str:
    """The name of a request's span, with its route; never with its path, which may be anything."""
    known = method if method in METHODS else "HTTP"
    return f"{known} {route}" if route else known


def response_attributes(route: str, status: int | None, request_id: str) -> dict[str, str | int]:
    """The attributes that a request's span ends with, without those that are unknown.

    If the client left before the response, there is no status, and that is not an error.
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
    if is_server_error(status):
        found["error.type"] = str(status)
    return found


def is_server_error(status: int | None) -> bool:
    """Whether this status means that the server failed."""
    return status is not None and status >= FAULT
