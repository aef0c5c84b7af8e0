"""A call that several runs share: each of the others' traces leads to the one that it is in."""

from __future__ import annotations

import pytest
import trio
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestra import Stream, pipeline
from orchestra.engine.engine import open_engine
from orchestra.events import RunFinished, RunStarted, StepStarted
from orchestra.observe.names import convention
from orchestra.observe.otel import Tracing
from orchestra.observe.trace_context import TRACE, TraceContext
from orchestra.observe.traces import EVENTS_MAX, Trace, Traces
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.policies.observed import ASKED_FIRST
from orchestra.steps.generate import generate
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from tests.policies.waiters import Fake, saying


@pipeline
def answer(question: str) -> Stream[str]:
    return generate(question, model="m")


def context(digit: str, flags: str = "01") -> TraceContext:
    return TraceContext(digit * 32, f"00-{digit * 32}-{digit * 16}-{flags}")


@pytest.mark.parametrize("before", [EVENTS_MAX - 2, EVENTS_MAX])
def test_no_link_leads_to_a_step_of_which_no_span_is_sent(before: int) -> None:
    """Of a long run, the first events are kept."""

    async def main() -> None:
        sent: list[Trace] = []
        traces = Traces(sent.append, convention({}))
        TRACE.set(context("a"))
        observer = traces.observe("p")
        observer(RunStarted(1, 0.0, "r", "p"))
        for number in range(before):
            observer(StepStarted(number + 2, 0.0, f"s{number}"))
        observer(StepStarted(before + 2, 0.0, "asked"))
        ASKED_FIRST.set(("r", "asked"))
        link = traces.link()
        observer(RunFinished(before + 3, 0.0, None, {}))
        told = any(span.path == "asked" for span in sent[0].spans)
        assert told == (link is not None) == (before < EVENTS_MAX)

    trio.run(main)


@pytest.mark.parametrize("flags", ["01", "00"])
def test_who_shares_a_call_is_linked_to_the_step_that_asked_first(flags: str) -> None:
    """Whoever of them ends first: here it is one of those who share it. If that is sent at all."""
    found = InMemorySpanExporter()
    tracing = Tracing(InMemorySpanExporter(), {})
    tracing._provider.add_span_processor(SimpleSpanProcessor(found))

    async def main() -> None:
        world = World(models={"m": CoalescedModel(Fake(saying(3)), name="m")})
        async with open_engine(world, observe=tracing.traces.observe) as engine:
            TRACE.set(context("a", flags))
            engine.start(answer, {"question": "Why?"})
            await trio.sleep(0.5)
            runs = []
            for digit in "bc":
                TRACE.set(context(digit))
                runs.append(engine.start(answer, {"question": "Why?"}))
            await trio.sleep(0.5)
            runs[0].cancel("it has gone")
            await engine.wait_idle()

    virtual(main)
    trio.run(tracing.close)
    spans = found.get_finished_spans()
    steps = {f"{each.context.trace_id:x}"[0]: each for each in spans if each.name == "generate"}
    if flags == "00":
        assert not any(each.links for each in spans)
        return
    assert [len(steps[digit].links) for digit in "abc"] == [0, 1, 1]
    assert [steps[digit].links[0].context for digit in "bc"] == [steps["a"].context] * 2
    assert len({each.context.span_id for each in spans}) == len(spans)
