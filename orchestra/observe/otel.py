"""Exports the traces of requests and runs by OpenTelemetry, which sends them in its own thread."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import trio
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from orchestra.observe.names import SPANS_MADE, SPANS_SENT, convention
from orchestra.observe.requests import Request, is_server_error, response_attributes, span_name
from orchestra.observe.spans import Attribute, Kind, Link, Span
from orchestra.observe.tally import Tally
from orchestra.observe.trace_context import TraceContext
from orchestra.observe.traces import Trace, Traces
from orchestra.surrogates import escaped

log = logging.getLogger("orchestra.observe")

VERSION = version("orchestra")
CLOSE_S = 1.0
"""How long a process that ends waits for the last spans to be sent."""
_KINDS: Mapping[Kind, SpanKind] = {"call": SpanKind.CLIENT}
_INT_BITS = 63
"""The bits of OTLP's integers, without the sign."""


class Tracing:
    """Traces the requests and the runs of one process."""

    def __init__(self, exporter: SpanExporter, environ: Mapping[str, str] = os.environ) -> None:
        own = {"service.version": VERSION, "service.instance.id": str(uuid.uuid4())}
        given = environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in given:
            own["service.name"] = "orchestra"
        ids = ChosenIds()
        self._provider = TracerProvider(
            resource=Resource.create(own), shutdown_on_exit=False, id_generator=ids
        )
        self.queue = CountingProcessor(exporter)
        self._provider.add_span_processor(self.queue)
        self._tracer = self._provider.get_tracer("orchestra", VERSION)
        self.traces = Traces(SpanSender(self._tracer, ids), convention(environ))

    def begin(self, request: Request) -> RequestSpan:
        """Start the span of a request; end it with `RequestSpan.end`."""
        return RequestSpan(self._tracer, request)

    async def close(self) -> None:
        """Send the remaining spans, within `CLOSE_S`; those not accepted by then are lost."""
        with trio.move_on_after(CLOSE_S) as time:
            await trio.to_thread.run_sync(self._provider.shutdown, abandon_on_cancel=True)
        if time.cancelled_caught:
            log.warning(
                "the collector has not accepted the last spans within %g s, and they are lost",
                CLOSE_S,
            )


class CountingProcessor(BatchSpanProcessor):
    """Sends spans in a thread of its own, and counts the spans made and sent in `tally`.

    Made spans are counted in the task that ends them, sent spans in that thread.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self.tally = Tally()
        super().__init__(CountingExporter(exporter, self))

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span; it is dropped if the queue is full."""
        if span.context is not None and span.context.trace_flags.sampled:
            self.tally.count(SPANS_MADE, ())
        super().on_end(span)


class CountingExporter(SpanExporter):
    """An exporter that counts the spans that the collector has accepted."""

    def __init__(self, exporter: SpanExporter, queue: CountingProcessor) -> None:
        self._exporter = exporter
        self._queue = queue

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans, and count them if they were accepted."""
        found = self._exporter.export(spans)
        if found is SpanExportResult.SUCCESS:
            self._queue.tally.count(SPANS_SENT, (), len(spans))
        return found

    def shutdown(self) -> None:
        """Stop sending."""
        self._exporter.shutdown()


class RequestSpan:
    """The span of an HTTP request; `context` is the parent of the spans of its runs."""

    __slots__ = ("_method", "_span", "context")

    def __init__(self, tracer: Tracer, request: Request) -> None:
        outer = _within(request.parent, remote=True)
        self._method = request.method
        self._span: trace.Span = tracer.start_span(
            span_name(request.method), outer, SpanKind.SERVER, _all_sendable(request.attributes())
        )
        self.context = _trace_context(self._span.get_span_context())

    def end(self, route: str, status: int | None, request_id: str) -> None:
        """End the span. `route` is the route matched or ""; `status` is None without a response."""
        span = self._span
        if not span.is_recording():
            return
        if route:
            span.update_name(span_name(self._method, route))
        if is_server_error(status):
            span.set_status(Status(StatusCode.ERROR))
        span.set_attributes(response_attributes(route, status, request_id))
        span.end()


class ChosenIds(RandomIdGenerator):
    """An id generator that can give a span a chosen id, to which other spans link already."""

    wanted = ""

    def generate_span_id(self) -> int:
        """`wanted`, if it is set; else a random id."""
        return int(self.wanted, 16) if self.wanted else super().generate_span_id()


class SpanSender:
    """A `Sink` that sends a trace as OpenTelemetry's spans."""

    def __init__(self, tracer: Tracer, ids: ChosenIds) -> None:
        self._tracer = tracer
        self._ids = ids

    def __call__(self, trace: Trace) -> None:
        """Send the trace, unless it is sampled out."""
        outer = _within(trace.context, remote=False)
        within: list[Context] = []
        known = dict(trace.known)  # each id is used once
        for span in trace.spans:
            context = outer if span.parent is None else within[span.parent]
            self._ids.wanted = known.pop(span.path, "") if span.kind == "step" else ""
            found = self._send(span, context, trace.began_ns)
            if found is None:
                return
            within.append(found)
        self._ids.wanted = ""

    def _send(self, span: Span, outer: Context, began_ns: int) -> Context | None:
        """Send a span; return the context for its children, None if the run is sampled out."""
        made = self._tracer.start_span(
            escaped(span.name),
            outer,
            _KINDS.get(span.kind, SpanKind.INTERNAL),
            _all_sendable(span.attributes),
            tuple(map(_linked, span.links)),
            start_time=began_ns + round(span.began_s * 1e9),
        )
        if span.parent is None and not made.is_recording():
            return None
        for event in span.events:
            attributes = _all_sendable(event.attributes)
            made.add_event(event.name, attributes, began_ns + round(event.at_s * 1e9))
        if span.error:
            made.set_attribute("error.type", span.error)
            made.set_status(Status(StatusCode.ERROR, escaped(span.message) or None))
        made.end(began_ns + round(span.ended_s * 1e9))
        return set_span_in_context(made, outer)


def _linked(link: Link) -> trace.Link:
    ids, sampled = (int(link.trace_id, 16), int(link.span_id, 16)), TraceFlags(TraceFlags.SAMPLED)
    return trace.Link(SpanContext(*ids, is_remote=False, trace_flags=sampled))


def _trace_context(span: SpanContext) -> TraceContext:
    """The trace context of one of our spans."""
    trace_id, flags = f"{span.trace_id:032x}", span.trace_flags
    traceparent = f"00-{trace_id}-{span.span_id:016x}-{flags:02x}"
    return TraceContext(trace_id, traceparent, span.trace_state.to_header())


def program_traces(provider: trace.TracerProvider | None) -> Traces:
    """Traces that a program's own provider sends; without one, the global provider.

    They have no links between runs that share a call, whose ids only our own provider can choose.
    """
    tracer = trace.get_tracer("orchestra", VERSION, provider)
    sender = SpanSender(tracer, ChosenIds())  # which no provider asks for ids
    return Traces(sender, convention(os.environ), parent=_current_trace, links=False)


def _current_trace() -> TraceContext | None:
    span = trace.get_current_span().get_span_context()
    return _trace_context(span) if span.is_valid else None


def _within(context: TraceContext | None, *, remote: bool) -> Context:
    """The context for children of this span; `remote` says that it is another service's span."""
    if context is None:
        return Context()
    _, trace_id, span_id, flags = context.traceparent.split("-")
    span = SpanContext(
        *(int(trace_id, 16), int(span_id, 16)),
        is_remote=remote,
        trace_flags=TraceFlags(int(flags, 16)),
        trace_state=TraceState.from_header([context.tracestate]),
    )
    return set_span_in_context(NonRecordingSpan(span), Context())


def _all_sendable(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {name: _as_sent(value) for name, value in attributes.items()}


def _as_sent(value: Attribute) -> Attribute:
    """The value as it is sent; an integer too large for OTLP (as a client's `seed`) as a string."""
    if isinstance(value, int) and value.bit_length() > _INT_BITS:
        return str(value)
    if isinstance(value, tuple):
        return tuple(map(escaped, value))
    return escaped(value) if isinstance(value, str) else value
