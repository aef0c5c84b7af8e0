"""A program with an engine or a portal has spans within its own, and metrics in its registry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from unittest.mock import Mock

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from orchestra import Stream, open_engine, open_portal, pipeline, step
from orchestra.config import default_bindings
from orchestra.config.bindings import LocalBindings
from orchestra.observe.telemetry import Telemetry
from orchestra.steps import generate

ECHO = """\
from orchestra.accounts import Usage
from orchestra.testing.world import ScriptedModel
from orchestra.values import Stopped, StopReason, TextDelta, UsageReport

ANSWER = (TextDelta("hello"), UsageReport(Usage(3, 1)), Stopped(StopReason.END))


class Echo(ScriptedModel):
    def __init__(self):
        super().__init__(tuple((0.0, each) for each in ANSWER))
"""
CALL = "chat echoing_model:Echo"
DEPLOYED = """\
[models.echo]
class = "echoing_model:Echo"
prices = { input = 1, output = 10 }

[budgets]
request = "0.00002"
"""
WHO: ContextVar[str] = ContextVar("who", default="nobody")
"""A context variable of the program's own."""


@pipeline
def say(question: str) -> Stream[str]:
    return generate(question, model="echo", output_tokens_max=1)


@step
def look(number: int) -> str:
    return f"{number} for {WHO.get()}"


@pipeline
def looked(number: int) -> str:
    return look(number)


class Program:
    """A program with a tracer provider and a registry."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("program")
        self.registry = CollectorRegistry(auto_describe=True)
        self.telemetry = Telemetry(self.provider)
        self.registry.register(self.telemetry)

    def span(self, name: str) -> ReadableSpan:
        (found,) = [each for each in self.exporter.get_finished_spans() if each.name == name]
        return found

    def parents(self, name: str) -> list[str]:
        """The names of a span's parents, from the inside out."""
        spans = {each.context.span_id: each for each in self.exporter.get_finished_spans()}
        found, parent = [], self.span(name).parent
        while parent is not None:
            found.append(spans[parent.span_id].name)
            parent = spans[parent.span_id].parent
        return found

    def counted(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@contextmanager
def deployment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBindings]:
    (folder / "echoing_model.py").write_text(ECHO)
    (folder / "orchestra.toml").write_text(DEPLOYED)
    monkeypatch.syspath_prepend(folder)
    with default_bindings(folder / "data", config=folder / "orchestra.toml") as bindings:
        yield bindings


def test_a_run_through_a_portal_is_within_the_span_of_its_request_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the calls of its models, their tokens and their cost."""
    program = Program()

    async def main() -> str:
        with deployment(tmp_path, monkeypatch) as bindings:
            async with open_portal(bindings, observe=program.telemetry) as portal:
                with program.tracer.start_as_current_span("GET /"):
                    return await portal.arun(say, "hi")

    assert asyncio.run(main()) == "hello"
    assert program.parents(CALL) == ["generate", "invoke_workflow say", "GET /"]
    call = program.span(CALL).attributes or {}
    assert call["gen_ai.usage.input_tokens"] == 3
    runs = {"pipeline": "say", "status": "finished"}
    assert program.counted("orchestra_run_duration_seconds_count", **runs) == 1
    cost = program.counted("orchestra_model_cost_dollars_total", model="echo")
    assert cost == pytest.approx(13e-6)
    assert program.counted("orchestra_budget_thresholds_total", percent="50") == 1
    assert program.counted("orchestra_budget_thresholds_total", percent="80") is None
    shown = generate_latest(program.registry).decode()
    assert "gen_ai_client_token_usage_count{" in shown
    assert "orchestra_spans_made_total" not in shown, "that is a server's"


def test_a_run_of_an_engine_is_within_the_current_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program()

    async def main() -> None:
        with deployment(tmp_path, monkeypatch) as bindings:
            async with open_engine(bindings, observe=program.telemetry) as engine:
                with program.tracer.start_as_current_span("job"):
                    await engine.run(say, "hi")
                await engine.run(looked, 1)

    trio.run(main)
    assert program.parents(CALL) == ["generate", "invoke_workflow say", "job"]
    assert program.parents("look") == ["invoke_workflow looked"]


def test_calls_are_observed_while_the_engine_is_open_whenever_the_model_was_first_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, cost = Program(), "orchestra_model_cost_dollars_total"
    found: list[float | None] = []

    async def main() -> None:
        with deployment(tmp_path, monkeypatch) as bindings:
            async with open_engine(bindings) as engine:
                await engine.run(say, "hi")
            for _ in range(2):
                async with open_engine(bindings, observe=program.telemetry) as engine:
                    await engine.run(say, "hi")
                found.append(program.counted(cost, model="echo"))
            async with open_engine(bindings) as engine:
                await engine.run(say, "hi")
            found.append(program.counted(cost, model="echo"))

    trio.run(main)
    assert found == [pytest.approx(13e-6), pytest.approx(26e-6), pytest.approx(26e-6)]


def test_an_observer_that_happens_to_have_an_attribute_called_observes_no_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a `Mock` has: its `called` is a bool."""
    observe = Mock(return_value=None)

    async def main() -> str:
        with deployment(tmp_path, monkeypatch) as bindings:
            async with open_engine(bindings, observe=observe) as engine:
                return await engine.run(say, "hi")

    assert trio.run(main) == "hello"
    assert observe.called


def test_steps_of_a_portals_run_have_the_context_variables_of_their_caller() -> None:
    """Each run those of its own caller, at the time of the call."""

    async def main() -> list[str]:
        async with open_portal() as portal:

            async def ask(number: int) -> str:
                WHO.set(f"task {number}")
                return await portal.arun(looked, number)

            return [*await asyncio.gather(*map(ask, range(3))), await portal.arun(looked, 3)]

    assert asyncio.run(main()) == ["0 for task 0", "1 for task 1", "2 for task 2", "3 for nobody"]


def test_metrics_are_those_of_the_moment_when_they_are_collected() -> None:
    """Whatever the thread in which they are read: the runs go on in Trio's."""
    program = Program()

    async def main() -> None:
        async with open_engine(observe=program.telemetry) as engine:
            await engine.run(looked, 1)
            metrics = program.telemetry.collect()
            await engine.run(looked, 2)
            samples = [each for metric in metrics for each in metric.samples]
            (count,) = [
                each for each in samples if each.name.endswith("run_duration_seconds_count")
            ]
            assert count.value == 1

    trio.run(main)
    runs = {"pipeline": "looked", "status": "finished"}
    assert program.counted("orchestra_run_duration_seconds_count", **runs) == 2
