"""Giving the traces of runs to OpenTelemetry, which sends them in a thread of its own."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

import attrs
import trio
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orchestra.observe.names import span_names
from orchestra.observe.spans import Attribute, Kind, Span
from orchestra.observe.traces import Trace, Traces

if TYPE_CHECKING:
    from opentelemetry.context import Context

log = logging.getLogger("orchestra.observe")

VERSION = version("orchestra")
CLOSE_S = 1.0
"""How long the end of a process waits for the last spans to be sent."""
_KINDS: Mapping[Kind, SpanKind] = {"call": SpanKind.CLIENT}
_extract = TraceContextTextMapPropagator().extract


class Tracing:
    """What traces the runs of one process, as long as it lives."""

    def __init__(self, exporter: SpanExporter, environ: Mapping[str, str] = os.environ) -> None:
        own = {"service.version": VERSION, "service.instance.id": str(uuid.uuid4())}
        told = environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in told:
            own["service.name"] = "orchestra"
        ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource.create(own), shutdown_on_exit=False, id_generator=ids
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        sender = Sender(self._provider.get_tracer("orchestra", VERSION), ids)
        self.traces = Traces(sender, span_names(environ))

    async def close(self) -> None:
        """Send what is left, and wait for that no longer than `CLOSE_S`."""
        with trio.move_on_after(CLOSE_S) as time:
            await trio.to_thread.run_sync(self._provider.shutdown, abandon_on_cancel=True)
        if time.cancelled_caught:
            log.warning("the last spans were not taken within %g s, and are lost", CLOSE_S)


class _Ids(RandomIdGenerator):
    """Has a trace that begins here begin under the id that lines of the log have already."""

    wanted = 0

    def generate_trace_id(self) -> int:
        """That, where there is one, else another."""
        return self.wanted or super().generate_trace_id()


class Sender:
    """Makes spans of OpenTelemetry's out of a trace; a `Sink`."""

    def __init__(self, tracer: Tracer, ids: _Ids) -> None:
        self._tracer = tracer
        self._ids = ids

    def __call__(self, trace: Trace) -> None:
        """Send it, unless it was sampled out."""
        whose = trace.context
        self._ids.wanted = 0 if whose is None else int(whose.trace_id, 16)
        outer = _extract({} if whose is None else attrs.asdict(whose))
        within: list[Context] = []
        for span in trace.spans:
            context = outer if span.parent is None else within[span.parent]
            found = self._send(span, context, trace.began_ns)
            if found is None:
                return
            within.append(found)

    def _send(self, span: Span, outer: Context, began_ns: int) -> Context | None:
        """Send one; in which context are those within it, None where nobody wants it."""
        made = self._tracer.start_span(
            _sound(span.name),
            outer,
            _KINDS.get(span.kind, SpanKind.INTERNAL),
            _all_sound(span.attributes),
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
