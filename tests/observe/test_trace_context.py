"""Trace context: what a request says of its trace is read as OpenTelemetry reads it."""

from __future__ import annotations

import logging
from logging.handlers import BufferingHandler

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace import TraceState, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orchestra.observe.trace_context import trace_context

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FITS = f"00-{TRACE_ID}-{SPAN_ID}-01"

headers = st.one_of(
    st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?", fullmatch=True),
    st.builds(
        lambda at, put: FITS[:at] + put + FITS[at + len(put) :],
        st.integers(0, len(FITS)),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=3),
    ),
    st.sampled_from([FITS, FITS.replace(TRACE_ID, "0" * 32), FITS.replace(SPAN_ID, "0" * 16)]),
    st.sampled_from([f"ff{FITS[2:]}", f"01{FITS[2:]}", f"01{FITS[2:]}-more", f"{FITS}-more", ""]),
)


@given(headers)
def test_a_header_is_read_as_opentelemetry_reads_it(header: str) -> None:
    theirs = get_current_span(
        TraceContextTextMapPropagator().extract({"traceparent": header})
    ).get_span_context()
    found = trace_context([header], ["a=1"])
    assert (found is not None) == theirs.is_valid
    if found is not None:
        assert int(found.trace_id, 16) == theirs.trace_id
        again = TraceContextTextMapPropagator().extract({"traceparent": found.traceparent})
        assert get_current_span(again).get_span_context().span_id == theirs.span_id
        assert get_current_span(again).get_span_context().trace_flags == theirs.trace_flags


@pytest.mark.parametrize("given", [[], [FITS, FITS]])
def test_no_header_and_two_are_no_clients_trace(given: list[str]) -> None:
    assert trace_context(given, ["a=1"]) is None


def test_what_stands_in_several_lines_of_its_state_is_kept_in_order() -> None:
    found = trace_context([FITS], ["a=1,b=2", "c=3"])
    assert found is not None
    assert found.tracestate == "a=1,b=2,c=3"


members = st.one_of(
    st.builds("{}={}".format, st.sampled_from(["a", "1@b", "c-*/_0", "2d"]), st.integers()),
    st.text(st.characters(max_codepoint=0xFF), max_size=9),
    st.sampled_from(["", " ", "\ta=1 ", "a", f"{'k' * 256}=v", f"{'k' * 257}=v", f"k={'v' * 257}"]),
)
states = st.lists(st.lists(members, max_size=4).map(",".join), max_size=3)


@given(states)
@example([",".join(f"k{number}=1" for number in range(32))])
@example([",".join(f"k{number}=1" for number in range(33))])
def test_a_malformed_state_is_dropped_and_opentelemetry_has_nothing_to_log(
    given: list[str],
) -> None:
    """Its log takes a line of up to 16 kB for each, from whoever sends a request."""
    found = trace_context([FITS], given)
    assert found is not None
    handler, log = BufferingHandler(99), logging.getLogger("opentelemetry.trace.span")
    log.addHandler(handler)
    try:
        ours = TraceState.from_header([found.tracestate])
        assert not handler.buffer
        assert ours == TraceState.from_header(given)
        assert ours.to_header() == found.tracestate
    finally:
        log.removeHandler(handler)
