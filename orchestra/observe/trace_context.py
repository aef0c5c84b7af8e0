"""Which trace a request is part of, as W3C's Trace Context has it: two headers. Pure.

A request that says nothing of it, or nothing that can be read, begins a trace of its own: its id is
made here, so that lines of the log have it before any span is.
"""

from __future__ import annotations

import re
import secrets
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
    """A trace, and where in it one is: `traceparent` is "" where it begins, and so is `tracestate`.

    `trace_id` are the 32 hexadecimal digits by which all know it.
    """

    trace_id: str
    traceparent: str = ""
    tracestate: str = ""


def trace_context(traceparents: Sequence[str], tracestates: Sequence[str] = ()) -> TraceContext:
    """That of a request with these headers; a new one, unless it has one `traceparent` and it fits.

    Of a later version than ours, what we know of it is read, as that standard wants it.
    """
    found = _TRACEPARENT.fullmatch(traceparents[0].strip(" \t")) if len(traceparents) == 1 else None
    if found is None or (found["version"] == _FIRST and found["more"]):
        return TraceContext(secrets.token_hex(16))
    return TraceContext(found["trace"], f"{_FIRST}-{found['known']}", ",".join(tracestates))


TRACE: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
"""The trace of the request that this task serves; None outside of one, or where none is traced."""
