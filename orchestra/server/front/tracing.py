"""The span of each request: begun before anything else is done for it, ended with its answer.

Rules of the file: where nothing is traced, none of this is there. Its span stands in the scope of a
request, which lives as long, and is taken out of it by whoever ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestra.observe.requests import Request
from orchestra.observe.trace_context import TRACE, trace_context
from orchestra.server.front.arrival import Arrival
from orchestra.server.front.departure import LEFT

if TYPE_CHECKING:
    from orchestra.observe.otel import RequestSpan

    Begin = Callable[[Request], RequestSpan]

SPAN = "orchestra.span"
"""Under which it stands in the ASGI scope."""
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""What machines ask every few seconds has no span: it would bury the others."""


class TracedRequests:
    """The first layer: begins the span of a request, which is within its client's where it has one.

    From then on it is `TRACE`, so that runs are within it, and lines of the log have its trace.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    async def admit(self, arrival: Arrival) -> None:
        """Begin it, and let the request pass."""
        scope: Any = arrival.scope
        if arrival.path in PROBES:
            return
        span = self._begin(
            Request(
                method=scope.get("method", "GET"),
                scheme=scope["scheme"],
                path=arrival.path,
                host=arrival.header(b"host") or "",
                version=scope.get("http_version", ""),
                parent=trace_context(arrival.all_of(b"traceparent"), arrival.all_of(b"tracestate")),
            )
        )
        scope[SPAN] = span
        TRACE.set(span.context)


def end_span(scope: Any, route: str, status: int, duration_s: float) -> None:
    """End the span of a request that is over: an `Answered`."""
    del duration_s  # it has noted when it began
    span: RequestSpan | None = scope.pop(SPAN, None)
    if span is not None:
        status_told = None if status == LEFT else status
        span.end(route, status_told, Arrival.of(scope).request_id)
