"""Which trace a request is part of, as W3C's Trace Context has it: two headers. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar

import attrs

_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<known>(?P<trace>(?!0{32})[0-9a-f]{32})"
    r"-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(?P<more>-.*)?"
)
_FIRST = "00"


@attrs.frozen
class TraceContext:
    """A trace, and the span in it that one is within.

    `trace_id` are the 32 hexadecimal digits by which all know it.
    """

    trace_id: str
    traceparent: str
    tracestate: str = ""

    @property
    def sampled(self) -> bool:
        """Whether it is sent."""
        return bool(int(self.traceparent[-2:], 16) & 1)


def trace_context(
    traceparents: Sequence[str], tracestates: Sequence[str] = ()
) -> TraceContext | None:
    """The client's, of a request with these headers; None, unless one `traceparent` came and fits.

    Of a later version than ours, what we know of it is read, as that standard wants it.
    """
    found = _TRACEPARENT.fullmatch(traceparents[0].strip(" \t")) if len(traceparents) == 1 else None
    if found is None or (found["version"] == _FIRST and found["more"]):
        return None
    return TraceContext(found["trace"], f"{_FIRST}-{found['known']}", ",".join(tracestates))


TRACE: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
"""The span of the request that this task serves; None outside of one, or where none is traced."""
