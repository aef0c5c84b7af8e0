"""What took how long: `orchestra run --trace`, and a server whose runs are traced."""

from __future__ import annotations

import json
import re
import signal
import urllib.request

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestra.cli.running.waterfall import BAR, waterfall
from orchestra.compiler.check import check
from orchestra.observe.names import RELEASED
from orchestra.observe.spans import Attribute, Span, SpanEvent, spans
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.world import World
from tests.cli.conftest import Project, said
from tests.clients.upstream import Upstream, playing
from tests.observe.collector import collecting, told
from tests.patience import PATIENCE_S
from tests.testing.sketches.drawing import sketches
from tests.testing.sketches.sketches import Sketch, build

MODELS = """\
[models.talker]
provider = "openai"
model = "gpt-x"
base_url = "{url}"
key_env = "KEY"
prices = {{ input = 1000, output = 10000 }}
"""
TALK = """\
from orchestra import Retry, Policy, Stream, pipeline, step
from orchestra.steps import generate


@step
def loud(text: str) -> str:
    if text == "boom":
        raise ValueError("no booms here")
    return text.upper()


@pipeline
def talk(text: str) -> Stream[str]:
    return generate(loud(text), model="talker")
"""
SERVED = "POST /v1/pipelines/{name}/runs"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def talking(project: Project, upstream: Upstream) -> None:
    project.write("orchestra.toml", MODELS.format(url=upstream.url))
    project.write("pipelines/talk.py", TALK)


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(sketches(fails=True), worlds(cancels=True))
def test_each_span_is_a_line_and_each_bar_is_within_the_runs(sketch: Sketch, world: World) -> None:
    built = build(sketch)
    assume(not check(built))
    found = spans(simulate(built, world, n=3).events, [], RELEASED)
    lines = waterfall(found)
    assert len(lines) == len(found)
    for line in lines:
        bar = line.partition("|")[2].partition("|")[0]
        assert len(bar) == BAR
        assert bar.strip(".") == "#" * len(bar.strip("."))
        assert "#" in bar
    assert len({line.index("|") for line in lines}) == 1


@given(st.integers(1, 10**12))
def test_a_cost_is_written_as_people_do(nanodollars: int) -> None:
    cost = nanodollars / 10**9
    (line,) = waterfall([Span("run", "r p", "", None, 0, 1, {"orchestra.cost_dollars": cost})])
    written = line.rpartition("$")[2]
    assert re.fullmatch(r"\d+\.\d+", written)
    assert float(written) == pytest.approx(cost, rel=0.05)


def test_a_line_says_what_there_is_to_know() -> None:
    call: dict[str, Attribute] = {
        "orchestra.model": "fast",
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "orchestra.cost_dollars": 0.000_12,
    }
    found = [
        Span("run", "invoke_workflow p", "", None, 0.0, 2.0, {"orchestra.cost_dollars": 0.25}),
        Span("step", "b", "b", 0, 1.0, 2.0, {"orchestra.status": "cancelled"}),
        Span(
            *("step", "a/say", "a/say", 0, 0.0, 1.0),
            {"orchestra.status": "failed"},
            events=[SpanEvent("arm.committed", 0.1, {"orchestra.arm": "1:x"})],
            error="ValueError",
        ),
        Span("call", "chat gpt", "a/say", 2, 0.0, 0.5, call),
        Span("call", "chat gpt", "a/say", 2, 0.5, 0.5, {**call, "orchestra.unpriced": True}),
        Span("tool", "execute_tool do", "a/say", 2, 0.75, 1.0, {"gen_ai.tool.name": "do"}),
    ]
    assert waterfall(found) == [
        "p            |########################|    2.00 s  $0.2500",
        "  say        |############............|    1.00 s  arm.committed 1:x  failed: ValueError",
        "    -> fast  |######..................|  500.0 ms  first 500.0 ms  100 -> 20 tokens  "
        "$0.00012",
        "    -> fast  |......#.................|      0 µs  first 500.0 ms  100 -> 20 tokens  "
        "$0.00012  price unknown",
        "    -> do()  |.........###............|  250.0 ms",
        "  b          |............############|    1.00 s  cancelled",
    ]
    assert waterfall([]) == []


@pytest.mark.parametrize("text", ["hello", "boom"])
def test_a_run_is_told_with_its_calls_however_it_ends(
    text: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "k")
    with playing() as upstream:
        talking(project, upstream)
        code, out, err = project.orchestra("run", "pipelines.talk", "--text", text, "--trace")
    lines = [line.split() for line in err.splitlines() if "|" in line]
    names = [" ".join(line[: line.index(next(w for w in line if "|" in w))]) for line in lines]
    if text == "boom":
        assert (code, out) == (1, "")
        assert names == ["talk", "loud"]
        assert "failed: ValueError" in err
        return
    assert (code, out) == (0, "HELLO\n")
    assert names == ["talk", "loud", "generate", "-> talker"]
    assert "5 -> 2 tokens  $0.0250" in err


def test_a_server_sends_its_traces_where_the_environment_says(project: Project) -> None:
    """In the trace of who has asked, with the last of them at its end; its log names the same."""
    with playing() as upstream, collecting() as collector:
        talking(project, upstream)
        project.write(
            "orchestra.toml", MODELS.format(url=upstream.url) + "[server]\nusage_log = true\n"
        )
        env = {"KEY": "k", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        process = project.launch("serve", "--port", "0", "--log-format", "json", env=env)
        url = re.findall(r"http://[0-9.:]+", said(process, "listening on "))[0]
        asked = urllib.request.Request(
            f"{url}/v1/pipelines/talk/runs",
            json.dumps({"inputs": {"text": "hi"}}).encode(),
            {"content-type": "application/json", "traceparent": PARENT, "x-request-id": "q-1"},
        )
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as response:
            run_id = json.load(response)["run_id"]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, b"Traceback" in err) == (0, False)
    (used,) = [each for each in map(json.loads, err.splitlines()) if "usage" in each]
    ids = used["request_id"], used["run_id"], used["trace_id"]
    assert ids == ("q-1", run_id, PARENT.split("-")[1])
    assert {each.name for each in collector.spans} == {
        *(SERVED, "invoke_workflow talk", "loud", "generate", "chat gpt-x"),
    }
    run, call = collector.named("invoke_workflow talk"), collector.named("chat gpt-x")
    assert {each.trace_id.hex() for each in collector.spans} == {PARENT.split("-")[1]}
    assert run.parent_span_id == collector.named(SERVED).span_id
    assert collector.named(SERVED).parent_span_id.hex() == PARENT.split("-")[2]
    assert call.parent_span_id == collector.named("generate").span_id
    assert told(run.attributes)["orchestra.run_id"] == run_id
    assert told(run.attributes)["orchestra.request_id"] == "q-1"
    assert told(call.attributes)["gen_ai.usage.output_tokens"] == 2
    assert told(call.attributes)["orchestra.cost_dollars"] == 0.025


def test_a_server_that_cannot_trace_as_it_is_asked_to_does_not_start(say: Project) -> None:
    process = say.launch("serve", "--port", "0", env={"OTEL_TRACES_EXPORTER": "zipkin"})
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"error: OTEL_TRACES_EXPORTER='zipkin': ")
    assert b"Traceback" not in err
