"""Tracing: what a collector of OpenTelemetry's is sent, and when it is sent nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from orchestra.errors import ServeError
from orchestra.observe import otel
from orchestra.observe.otel import Tracing
from orchestra.observe.requests import METHOD_CHARS, PATH_CHARS, Request
from orchestra.observe.spans import Attribute, Span, SpanEvent
from orchestra.observe.trace_context import TraceContext, trace_context
from orchestra.observe.traces import Trace
from orchestra.observe.tracing import tracing
from tests.observe.collector import Collector, collecting, told

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BEGAN_NS = 1_700_000_000_000_000_000
REASONS = "gen_ai.response.finish_reasons"
CONTEXT = trace_context([PARENT], ["other=1"])
TRACE = Trace(
    BEGAN_NS,
    CONTEXT,
    (
        Span("run", "invoke_workflow p", "", None, 0.0, 2.0, {"orchestra.run_id": "r"}),
        Span(
            *("step", "say", "say", 0, 0.5, 2.0),
            {"orchestra.step": "say"},
            events=[SpanEvent("step.retried", 0.75, {"orchestra.attempt": 1})],
            error="ValueError",
            message="no",
        ),
        Span(
            *("call", "chat gpt", "say", 1, 1.0, 1.5),
            {"orchestra.cost_dollars": 0.25, REASONS: ("stop", "half \ud800")},
        ),
    ),
)


def of(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Tracing | None:
    """What traces where the environment is this; OpenTelemetry reads the process's own."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return tracing(environ)


def sent(
    traces: list[Trace], monkeypatch: pytest.MonkeyPatch, environ: Mapping[str, str] | None = None
) -> Collector:
    with collecting() as collector:
        made = of({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **(environ or {})}, monkeypatch)
        assert made is not None
        for each in traces:
            made.traces.sink(each)
        trio.run(made.close)
    return collector


def test_a_trace_is_sent_with_its_times_parents_and_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = sent([TRACE], monkeypatch)
    run, say, call = map(collector.named, ("invoke_workflow p", "say", "chat gpt"))
    assert {each.trace_id.hex() for each in (run, say, call)} == {PARENT.split("-")[1]}
    assert run.parent_span_id.hex() == PARENT.split("-")[2]
    assert (say.parent_span_id, call.parent_span_id) == (run.span_id, say.span_id)
    assert [each.start_time_unix_nano - BEGAN_NS for each in (run, say, call)] == [
        *(0, 500_000_000, 1_000_000_000)
    ]
    assert [each.end_time_unix_nano - BEGAN_NS for each in (run, say, call)] == [
        *(2_000_000_000, 2_000_000_000, 1_500_000_000)
    ]
    assert [each.kind for each in (run, say, call)] == [1, 1, 3]
    assert told(run.attributes) == {"orchestra.run_id": "r"}
    assert told(say.attributes) == {"orchestra.step": "say", "error.type": "ValueError"}
    assert (say.status.code, say.status.message, run.status.code) == (2, "no", 0)
    attributes: dict[str, Any] = told(call.attributes)
    reasons = [each.string_value for each in attributes.pop(REASONS).values]
    assert (attributes, reasons) == ({"orchestra.cost_dollars": 0.25}, ["stop", r"half \ud800"])
    (retried,) = say.events
    assert (retried.name, retried.time_unix_nano - BEGAN_NS) == ("step.retried", 750_000_000)
    assert told(retried.attributes) == {"orchestra.attempt": 1}
    (resource,) = collector.resources
    assert resource["service.name"] == "orchestra"
    assert resource["service.version"] == otel.VERSION
    assert resource["service.instance.id"]


@pytest.mark.parametrize(
    "named",
    [
        {"OTEL_SERVICE_NAME": "assistant"},
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=assistant,deployment.environment=test"},
    ],
)
def test_the_service_has_the_name_that_the_environment_gives_it(
    named: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (resource,) = sent([TRACE], monkeypatch, named).resources
    assert resource["service.name"] == "assistant"


def test_without_a_request_it_is_a_trace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = sent([TRACE, Trace(BEGAN_NS, None, TRACE.spans[:2])], monkeypatch)
    within, _, _, run, say = collector.spans
    assert (within.trace_id.hex(), run.parent_span_id) == (PARENT.split("-")[1], b"")
    assert run.trace_id == say.trace_id != within.trace_id
    assert (within.trace_state, run.trace_state) == ("other=1", "")


@cache
def at_once() -> tuple[Tracing, InMemorySpanExporter]:
    """What traces, and where its spans are as soon as they end; one, as it has a thread."""
    found = InMemorySpanExporter()
    tracing = Tracing(InMemorySpanExporter(), {})
    tracing._provider.add_span_processor(SimpleSpanProcessor(found))
    return tracing, found


@given(
    st.sampled_from(["GET", "POST", "BREW", "get"]),
    st.sampled_from(["http", "https", "ws", "wss"]),
    st.sampled_from(["", "/v1/runs/{run_id}"]),
    st.none() | st.sampled_from([200, 404, 429, 499, 500, 503]),
    st.sampled_from([None, CONTEXT, trace_context([f"{PARENT[:-1]}0"])]),
)
def test_of_a_request_is_told_what_the_conventions_want_and_its_runs_are_within_it(
    method: str, scheme: str, route: str, status: int | None, parent: TraceContext | None
) -> None:
    tracing, exporter = at_once()
    exporter.clear()
    asked = Request(method, scheme, "/v1/runs/7", "api.example:81", "1.1", parent)
    request = tracing.begin(asked)
    tracing.traces.sink(Trace(BEGAN_NS, request.context, TRACE.spans[:1]))
    request.end(route, status, "q-1")
    unwanted = parent is not None and parent is not CONTEXT
    assert request.context.traceparent.endswith("00" if unwanted else "01") or parent is None
    if parent is not None:
        assert request.context.trace_id == parent.trace_id
    if unwanted:
        assert not exporter.get_finished_spans()
        return
    run, server = exporter.get_finished_spans()
    assert run.parent is not None
    assert run.parent == server.context
    assert not run.parent.is_remote, "it is the same service, as whoever draws services asks"
    assert server.kind is SpanKind.SERVER
    assert (server.parent is None) == (parent is None)
    assert server.parent is None or server.parent.is_remote
    known = method in ("GET", "POST")
    assert server.name == f"{method if known else 'HTTP'} {route}".strip()
    fault = status is not None and status >= 500
    assert (server.status.status_code is StatusCode.ERROR) == fault
    wanted = {
        "http.request.method": method if known else "_OTHER",
        "http.request.method_original": None if known else method,
        "url.scheme": "https" if scheme in ("https", "wss") else "http",
        "url.path": "/v1/runs/7",
        "server.address": "api.example",
        "server.port": 81,
        "network.protocol.version": "1.1",
        "http.route": route or None,
        "http.response.status_code": status,
        "error.type": str(status) if fault else None,
        "orchestra.status": "cancelled" if status is None else None,
        "orchestra.request_id": "q-1",
    }
    found = {name: each for name, each in wanted.items() if each is not None}
    assert dict(server.attributes or {}) == found


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        ("api.example", "api.example", None),
        ("[::1]:8000", "::1", 8000),
        ("[::1]", "::1", None),
        ("a:b:c", None, None),
        ("", None, None),
        (":80", None, None),
        ("api.example:999999", None, None),
        ("a" * 253, "a" * 253, None),
        ("a" * 254, None, None),
    ],
)
def test_a_server_is_where_its_client_has_asked_it(
    host: str, address: str | None, port: int | None
) -> None:
    found = Request("GET", "http", "/", host).attributes()
    assert (found.get("server.address"), found.get("server.port")) == (address, port)


def test_what_a_stranger_writes_is_told_within_bounds() -> None:
    """Before anybody has looked at it: a batch of such spans is refused whole."""
    found = Request("M" * 9_000, "http", "/" * 9_000, "h" * 9_000).attributes()
    assert len(found["http.request.method_original"]) == METHOD_CHARS  # type: ignore[arg-type]
    assert len(found["url.path"]) == PATH_CHARS  # type: ignore[arg-type]
    assert sum(len(str(value)) for value in found.values()) < METHOD_CHARS + PATH_CHARS + 20


def test_half_a_character_costs_no_other_run_its_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the names of files that a step could not read, and in what a model calls a tool."""
    half = "a\udcff"
    odd = Span(
        *("tool", f"execute_tool {half}", "say", 0, 0.5, 2.0),
        {"gen_ai.tool.call.id": half},
        events=[SpanEvent("step.retried", 0.75, {"orchestra.message": half})],
        error="OSError",
        message=half,
    )
    collector = sent([TRACE, Trace(BEGAN_NS, None, (TRACE.spans[0], odd))], monkeypatch)
    assert len(collector.spans) == 5
    tool, shown = collector.spans[-1], "a\\udcff"
    assert (tool.name, tool.status.message) == (f"execute_tool {shown}", shown)
    assert told(tool.attributes)["gen_ai.tool.call.id"] == shown
    assert told(tool.events[0].attributes) == {"orchestra.message": shown}


def test_an_integer_that_otlp_cannot_hold_is_sent_as_its_digits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise each call of a client with such a `seed` would write a traceback into the log."""
    most, more = 2**63 - 1, 2**63
    seeds: dict[str, Attribute] = {"gen_ai.request.seed": more, "gen_ai.request.top_k": most}
    call = Span("call", "chat gpt", "say", 0, 0.5, 2.0, seeds)
    collector = sent([Trace(BEGAN_NS, None, (TRACE.spans[0], call))], monkeypatch)
    assert told(collector.spans[-1].attributes) == {
        "gen_ai.request.seed": str(more),
        "gen_ai.request.top_k": most,
    }
    assert not caplog.records


def test_what_the_client_or_the_environment_does_not_sample_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unwanted = trace_context([f"{PARENT[:-1]}0"])
    assert not sent([Trace(BEGAN_NS, unwanted, TRACE.spans)], monkeypatch).spans
    never = {"OTEL_TRACES_SAMPLER": "always_off"}
    assert not sent([Trace(BEGAN_NS, None, TRACE.spans)], monkeypatch, never).spans


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_nobody_is_traced_where_nobody_has_asked_for_it(environ: Mapping[str, str]) -> None:
    assert tracing(environ) is None


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER='zipkin'.*`otlp`.*`none`"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL='grpc'.*write OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"},
            "write OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_BSP_SCHEDULE_DELAY": "0"},
            "begins with OTEL_ .*schedule_delay_millis must be positive",
        ),
    ],
)
def test_what_nobody_can_send_is_refused(
    environ: Mapping[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServeError, match=said):
        of(environ, monkeypatch)


def test_traces_are_written_where_the_log_is_if_that_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not among the results of a run, which go to the standard output."""
    made = of({"OTEL_TRACES_EXPORTER": "console"}, monkeypatch)
    assert made is not None
    made.traces.sink(TRACE)
    trio.run(made.close)
    out, err = capsys.readouterr()
    assert (out, err.count('"name": "chat gpt"')) == ("", 1)


@pytest.mark.parametrize("headers", ["authorization: Bearer s3cret", "a=1,s3cret"])
def test_headers_that_are_none_are_refused_and_not_shown(headers: str) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_HEADERS": headers}
    with pytest.raises(ServeError, match="write OTEL_EXPORTER_OTLP_HEADERS=") as refused:
        tracing(environ)
    assert "s3cret" not in str(refused.value)


def test_where_it_is_not_installed_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "orchestra.observe.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ServeError, match=r"pip install 'orchestra\[traces\]'"):
        tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})


def test_a_collector_that_does_not_answer_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(otel, "CLOSE_S", 0.05)
    with collecting() as collector:
        collector.held.clear()
        made = of({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}, monkeypatch)
        assert made is not None
        made.traces.sink(TRACE)
        trio.run(made.close)
        assert "the collector has not accepted the last spans within 0.05 s" in caplog.text


class Away(InMemorySpanExporter):
    """A collector that takes nothing."""

    def export(self, spans: object) -> SpanExportResult:
        del spans
        return SpanExportResult.FAILURE


@pytest.mark.parametrize("exporter", [Away(), InMemorySpanExporter()])
def test_what_the_collector_does_not_take_can_be_seen_from_what_is_counted(
    exporter: InMemorySpanExporter,
) -> None:
    made = Tracing(exporter, {})
    for context in (CONTEXT, None, trace_context([f"{PARENT[:-1]}0"])):  # the last is not wanted
        made.traces.sink(Trace(BEGAN_NS, context, TRACE.spans))
    trio.run(made.close)
    sent = len(exporter.get_finished_spans())
    assert sent == (0 if isinstance(exporter, Away) else 6)
    counted = {name: sum(each.values()) for name, each in made.queue.tally.counters.items()}
    assert counted == {
        "orchestra_spans_made": 6,
        **({"orchestra_spans_sent": sent} if sent else {}),
    }
