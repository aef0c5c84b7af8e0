"""Giving requests and the traces of runs to OpenTelemetry, which sends them in its own thread."""

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

from orchestra.observe.names import SPANS_MADE, SPANS_SENT, span_names
from orchestra.observe.requests import Request, answered, failed, title
from orchestra.observe.spans import Attribute, Kind, Link, Span
from orchestra.observe.tally import Tally
from orchestra.observe.trace_context import TraceContext
from orchestra.observe.traces import Trace, Traces

log = logging.getLogger("orchestra.observe")

VERSION = version("orchestra")
CLOSE_S = 1.0
"""How long the end of a process waits for the last spans to be sent."""
_KINDS: Mapping[Kind, SpanKind] = {"call": SpanKind.CLIENT}


class Tracing:
    """What traces the requests and the runs of one process, as long as it lives."""

    def __init__(self, exporter: SpanExporter, environ: Mapping[str, str] = os.environ) -> None:
        own = {"service.version": VERSION, "service.instance.id": str(uuid.uuid4())}
        told = environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in told:
            own["service.name"] = "orchestra"
        ids = Ids()
        self._provider = TracerProvider(
            resource=Resource.create(own), shutdown_on_exit=False, id_generator=ids
        )
        self.queue = Queue(exporter)
        self._provider.add_span_processor(self.queue)
        self._tracer = self._provider.get_tracer("orchestra", VERSION)
        self.traces = Traces(Sender(self._tracer, ids), span_names(environ))

    def begin(self, request: Request) -> RequestSpan:
        """A request has come: its span, which is to be ended."""
        return RequestSpan(self._tracer, request)

    async def close(self) -> None:
        """Send what is left, and wait for that no longer than `CLOSE_S`."""
        with trio.move_on_after(CLOSE_S) as time:
            await trio.to_thread.run_sync(self._provider.shutdown, abandon_on_cancel=True)
        if time.cancelled_caught:
            log.warning("the last spans were not taken within %g s, and are lost", CLOSE_S)


class Queue(BatchSpanProcessor):
    """Sends spans in a thread of its own; counts those that are to be sent, and those that are.

    What is counted goes into `tally`: of the one in the task of who has made a span, of the other
    in that thread.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self.tally = Tally()
        super().__init__(Counted(exporter, self))

    def on_end(self, span: ReadableSpan) -> None:
        """Put it in, or lose it where there is no room."""
        if span.context is not None and span.context.trace_flags.sampled:
            self.tally.count(SPANS_MADE, ())
        super().on_end(span)


class Counted(SpanExporter):
    """An exporter that tells a queue what the collector has taken."""

    def __init__(self, exporter: SpanExporter, queue: Queue) -> None:
        self._exporter = exporter
        self._queue = queue

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them."""
        found = self._exporter.export(spans)
        if found is SpanExportResult.SUCCESS:
            self._queue.tally.count(SPANS_SENT, (), len(spans))
        return found

    def shutdown(self) -> None:
        """Send nothing any more."""
        self._exporter.shutdown()


class RequestSpan:
    """The span of a request that is served; `context` is what its runs are within."""

    __slots__ = ("_method", "_span", "context")

    def __init__(self, tracer: Tracer, request: Request) -> None:
        outer = _within(request.parent, remote=True)
        self._method = request.method
        self._span: trace.Span = tracer.start_span(
            title(request.method), outer, SpanKind.SERVER, _all_sound(request.attributes())
        )
        self.context = _told(self._span.get_span_context())

    def end(self, route: str, status: int | None, request_id: str) -> None:
        """It is over: `route` is the pattern that it matched, `status` None of what has none."""
        span = self._span
        if not span.is_recording():
            return
        if route:
            span.update_name(title(self._method, route))
        if failed(status):
            span.set_status(Status(StatusCode.ERROR))
        span.set_attributes(answered(route, status, request_id))
        span.end()


class Ids(RandomIdGenerator):
    """Has a span that others link to be what they know it as."""

    wanted = ""

    def generate_span_id(self) -> int:
        """That, where there is one, else another."""
        return int(self.wanted, 16) if self.wanted else super().generate_span_id()


class Sender:
    """Makes spans of OpenTelemetry's out of a trace; a `Sink`."""

    def __init__(self, tracer: Tracer, ids: Ids) -> None:
        self._tracer = tracer
        self._ids = ids

    def __call__(self, trace: Trace) -> None:
        """Send it, unless it was sampled out."""
        outer = _within(trace.context, remote=False)
        within: list[Context] = []
        known = dict(trace.known)  # an id is given once
        for span in trace.spans:
            context = outer if span.parent is None else within[span.parent]
            self._ids.wanted = known.pop(span.path, "") if span.kind == "step" else ""
            found = self._send(span, context, trace.began_ns)
            if found is None:
                return
            within.append(found)
        self._ids.wanted = ""

    def _send(self, span: Span, outer: Context, began_ns: int) -> Context | None:
        """Send one; in which context are those within it, None where nobody wants it."""
        made = self._tracer.start_span(
            _sound(span.name),
            outer,
            _KINDS.get(span.kind, SpanKind.INTERNAL),
            _all_sound(span.attributes),
            tuple(map(_linked, span.links)),
            start_time=began_ns + round(span.began_s * 1e9),
        )
        if span.parent is None and not made.is_recording():
            return None
        for moment in span.moments:
            told = _all_sound(moment.attributes)
            made.add_event(moment.name, told, began_ns + round(moment.at_s * 1e9))
        if span.error:
            made.set_attribute("error.type", span.error)
            made.set_status(Status(StatusCode.ERROR, _sound(span.message) or None))
        made.end(began_ns + round(span.ended_s * 1e9))
        return set_span_in_context(made, outer)


def _linked(link: Link) -> trace.Link:
    ids, sampled = (int(link.trace_id, 16), int(link.span_id, 16)), TraceFlags(TraceFlags.SAMPLED)
    return trace.Link(SpanContext(*ids, is_remote=False, trace_flags=sampled))


def _told(span: SpanContext) -> TraceContext:
    """A span of ours, as `TRACE` has it."""
    trace_id, flags = f"{span.trace_id:032x}", span.trace_flags
    traceparent = f"00-{trace_id}-{span.span_id:016x}-{flags:02x}"
    return TraceContext(trace_id, traceparent, span.trace_state.to_header())


def _within(context: TraceContext | None, *, remote: bool) -> Context:
    """What is within this span; whoever reads the trace is told whether it is another service's."""
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


def _all_sound(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {name: _as_sent(value) for name, value in attributes.items()}


def _as_sent(value: Attribute) -> Attribute:
    if isinstance(value, tuple):
        return tuple(map(_sound, value))
    return _sound(value) if isinstance(value, str) else value


def _sound(text: str) -> str:
    """The text with an escape for half a character, as names of files and words of models have.

    A batch that has one cannot be sent, and with it the spans of all other runs that are in it.
    """
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
