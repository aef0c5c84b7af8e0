"""The span of each request, from its arrival to the end of its response.

Rules of the file: without tracing, this layer does not exist. A span is stored in the request's
scope, which lives as long as the request; the code that ends the span removes it.
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
"""The key of the span in the ASGI scope."""
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that get no spans, since monitoring requests them every few seconds."""


class TracedRequests:
    """The first layer: begins the span of a request, as a child of its client's span, if any.

    The span is then the current `TRACE`, so that the spans of runs are its children, and log lines
    contain its trace.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    async def admit(self, arrival: Arrival) -> None:
        """Begin the span, and let the request pass."""
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
    del duration_s  # the span has its own start time
    span: RequestSpan | None = scope.pop(SPAN, None)
    if span is not None:
        sent = None if status == LEFT else status
        span.end(route, sent, Arrival.of(scope).request_id)
