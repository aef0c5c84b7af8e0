"""Each request has a span, also where no run comes of it; probes have none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestra.access.keyring import Keyring
from orchestra.engine.engine import Engine, open_engine
from orchestra.observe import names
from orchestra.observe.counting import Counting
from orchestra.observe.metrics import Metrics
from orchestra.observe.otel import Tracing
from orchestra.server.app import create_app
from orchestra.server.front.layers import OPEN, Admission
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from tests.patience import PATIENCE_S
from tests.server.served import PIPELINES
from tests.server.socketing import RefusedError, open_socket
from tests.server.wire import House, open_house

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RUNS, SOCKET = "/v1/pipelines/{name}/runs", "/v1/pipelines/{name}/ws"
Told = tuple[str, Any, Any]
Act = Callable[[House, Engine], Awaitable[None]]


def spans_of(
    act: Act, number: int, admission: Admission = OPEN
) -> tuple[list[ReadableSpan], dict[tuple[str, ...], int]]:
    """The first spans that end while something is done, in this order, and what is counted."""
    found = InMemorySpanExporter()
    tracing, counting = Tracing(InMemorySpanExporter(), {}), Counting(Metrics({}))
    tracing._provider.add_span_processor(SimpleSpanProcessor(found))

    async def main() -> None:
        async with open_engine(observe=tracing.traces.observe) as engine:
            app = create_app(
                engine, PIPELINES, Settings(), admission, counting=counting, tracing=tracing
            )
            async with open_house(app, Settings()) as house:
                await act(house, engine)
                with trio.fail_after(PATIENCE_S):
                    while len(found.get_finished_spans()) < number:
                        await trio.lowlevel.checkpoint()
        await tracing.close()

    trio.run(main)
    counted = counting.metrics.tally.histograms.get(names.HTTP_DURATION.name, {})
    return [*found.get_finished_spans()], {
        labels: sum(each.counts) for labels, each in counted.items()
    }


def told(span: ReadableSpan) -> Told:
    attributes: Any = span.attributes
    return (
        span.name,
        attributes.get("http.response.status_code"),
        attributes.get("orchestra.status"),
    )


def test_a_run_is_within_its_request_and_that_within_its_clients_span() -> None:
    async def act(house: House, engine: Engine) -> None:
        for accept in ("application/json", "text/event-stream"):
            head = f"GET /v1/pipelines/count/runs?count=2 HTTP/1.1\nAccept: {accept}"
            await (await house.connect()).ask(f"{head}\ntraceparent: {PARENT}\ntracestate: a=1")

    found, _ = spans_of(act, 6)
    requests = {each.context.span_id: each for each in found if each.kind.name == "SERVER"}
    runs = [each for each in found if each.name == "invoke_workflow count"]
    assert [told(each) for each in requests.values()] == [(f"GET {RUNS}", 200, None)] * 2
    assert {each.parent.span_id for each in runs if each.parent} == requests.keys()
    for each in requests.values():
        assert f"00-{each.context.trace_id:032x}-{each.parent.span_id:016x}-01" == PARENT  # type: ignore[union-attr]
        assert each.context.trace_state.to_header() == "a=1"
        of_it = [run for run in runs if run.parent == each.context]
        ids = {each.attributes["orchestra.request_id"] for each in (each, *of_it)}  # type: ignore[index]
        assert len(ids) == 1


def test_a_request_of_which_no_run_comes_has_a_span_and_a_probe_has_none() -> None:
    async def act(house: House, engine: Engine) -> None:
        client = await house.connect()
        for path in ("/healthz", "/readyz", "/metrics", "/v1/runs/7", "/nothing", "/v1/pipelines"):
            await client.ask(f"GET {path} HTTP/1.1")
        await client.ask("BREW /healthz2 HTTP/1.1\nAuthorization: Bearer ork_1")

    ring = Keyring(MemoryState())
    found, counted = spans_of(act, 4, Admission(keyring=ring))
    assert sorted(told(each)[:2] for each in found) == [
        ("GET", 404),
        ("GET /v1/pipelines", 401),
        ("GET /v1/runs/{run_id}", 401),
        ("HTTP", 401),
    ]
    assert counted["GET", "http", "/healthz", "200"] == 1


def test_of_a_socket_the_span_is_its_handshake_and_runs_are_within_it() -> None:
    """It would be open for hours, and its runs would be in no trace that could be looked at."""

    async def act(house: House, engine: Engine) -> None:
        socket = await open_socket(house, headers=[("traceparent", PARENT)])
        await socket.start("a", count=1)
        await socket.events("a")
        with pytest.raises(RefusedError):
            await open_socket(house, "/v1/pipelines/none/ws")
        await socket.close()

    found, counted = spans_of(act, 4)
    opened, *_, refused = found
    (run,) = [each for each in found if each.name == "invoke_workflow count"]
    assert (told(opened), told(refused)) == (
        (f"GET {SOCKET}", 101, None),
        (f"GET {SOCKET}", 404, None),
    )
    assert run.parent == opened.context
    assert counted == {
        ("GET", "http", SOCKET, "101"): 1,
        ("GET", "http", SOCKET, "404"): 1,
    }


def test_a_client_that_leaves_has_a_span_that_says_so() -> None:
    async def act(house: House, engine: Engine) -> None:
        client = await house.connect()
        await client.send(
            "GET /v1/pipelines/count/runs?hold=true HTTP/1.1\nAccept: application/json"
        )
        while not engine.runs:
            await trio.lowlevel.checkpoint()
        await client.stream.aclose()

    found, _ = spans_of(act, 1)
    assert (f"GET {RUNS}", None, "cancelled") in [told(each) for each in found]
