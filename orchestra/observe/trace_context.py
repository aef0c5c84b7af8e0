"""The trace that a request belongs to: the two headers of W3C Trace Context. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar

from orchestra.eventclass import frozen

_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<known>(?P<trace>(?!0{32})[0-9a-f]{32})"
    r"-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(?P<more>-.*)?"
)
_FIRST = "00"
_MEMBER = re.compile(
    r"(?P<key>[a-z][_0-9a-z\-*/]{0,255}|[a-z0-9][_0-9a-z\-*/]{0,240}@[a-z][_0-9a-z\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MEMBERS_MAX = 32
"""As the standard says."""


@frozen
class TraceContext:
    """A trace, and the current span in it. `trace_id` has 32 hexadecimal digits."""

    trace_id: str
    traceparent: str
    tracestate: str = ""

    @property
    def sampled(self) -> bool:
        """Whether the trace is sampled, that is, sent to the collector."""
        return bool(int(self.traceparent[-2:], 16) & 1)


def trace_context(
    traceparents: Sequence[str], tracestates: Sequence[str] = ()
) -> TraceContext | None:
    """The client's trace context, from its headers; None unless there is one valid `traceparent`.

    Of a header of a later version, the known part is read, as the standard requires. A malformed
    `tracestate` is dropped as a whole: OpenTelemetry would log it for each request.
    """
    found = _TRACEPARENT.fullmatch(traceparents[0].strip(" \t")) if len(traceparents) == 1 else None
    if found is None or (found["version"] == _FIRST and found["more"]):
        return None
    return TraceContext(found["trace"], f"{_FIRST}-{found['known']}", _tracestate(tracestates))


def _tracestate(headers: Sequence[str]) -> str:
    """The headers as one, without empty members; "" if they are malformed."""
    members = [each.strip(" \t") for header in headers for each in header.split(",")]
    found = [_MEMBER.fullmatch(each) for each in members if each]
    keys = {each["key"] for each in found if each is not None}
    fits = len(keys) == len(found) <= _MEMBERS_MAX  # each is well-formed, and none is there twice
    return ",".join(filter(None, members)) if fits else ""


TRACE: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
"""The span of the request that this task serves; None outside requests, or without tracing."""
