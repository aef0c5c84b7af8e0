"""Spans are a fold: what a run's journal tells is in its tree, once, where and when it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from orchestra.accounts import Certainty, Usage
from orchestra.compiler.check import check
from orchestra.events import (
    ArmCommitted,
    Delta,
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    StepCached,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepStarted,
    ToolFailed,
    ToolFinished,
    ToolStarted,
)
from orchestra.observe.names import COMING, RELEASED
from orchestra.observe.spans import SPAN_EVENTS, EndedCall, Span, spans
from orchestra.policies.observed import CANCELLED, SETTINGS, CallEnded
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.world import World
from tests.observe.test_metrics import CALLS
from tests.testing.sketches.drawing import sketches
from tests.testing.sketches.sketches import Sketch, build

many = settings(max_examples=150, suppress_health_check=list(HealthCheck))


def traced(events: Sequence[Event], calls: Sequence[EndedCall] = ()) -> tuple[Span, ...]:
    return spans(events, calls, RELEASED)


@many
@given(sketches(fails=True), worlds(cancels=True))
def test_whatever_a_run_does_is_a_tree_of_its_steps(sketch: Sketch, world: World) -> None:
    """Each step that began is one span, as long as its events say, and behind its parent."""
    built = build(sketch)
    assume(not check(built))
    events = simulate(built, world, n=3).events
    found = traced(events)
    run, *others = found
    assert run.parent is None
    assert (run.began_s, run.ended_s) == (0.0, events[-1].at_s)
    for at, each in enumerate(others, 1):
        assert each.parent is not None
        assert each.parent < at
        above = found[each.parent]
        if above.kind == "group":
            assert above.began_s <= each.began_s <= each.ended_s <= above.ended_s
        inside = above.path in {"", each.path.rpartition("/")[0], each.path.rpartition("[")[0]}
        assert inside, (above.path, each.path)
    began = {each.step: each.at_s for each in events if isinstance(each, StepStarted)}
    steps = {each.path: each for each in others if each.kind == "step"}
    assert {path: each.began_s for path, each in steps.items()} == began
    ended = {
        each.step: each
        for each in events
        if isinstance(each, StepFinished | StepFailed | StepCancelled)
    }
    for path, event in ended.items():
        assert steps[path].ended_s == event.at_s
        assert steps[path].error == (event.error if isinstance(event, StepFailed) else "")
        assert steps[path].attributes["orchestra.status"] == event.type.removeprefix("step.")
    told = Counter(each.type for each in events if isinstance(each, SPAN_EVENTS))
    assert Counter(moment.name for each in found for moment in each.events) == told


@many
@given(sketches(fails=True), worlds(cancels=True))
def test_chunks_are_nothing_to_it(sketch: Sketch, world: World) -> None:
    built = build(sketch)
    assume(not check(built))
    events = simulate(built, world, n=3).events
    assert traced([each for each in events if not isinstance(each, Delta)]) == traced(events)


@many
@given(sketches(fails=True), worlds(cancels=True), st.data())
def test_a_journal_that_is_cut_has_spans_that_end(
    sketch: Sketch, world: World, data: st.DataObject
) -> None:
    """A run of which not all is kept, or which has not ended yet."""
    built = build(sketch)
    assume(not check(built))
    events = simulate(built, world, n=3).events
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(events))] * 2)))
    found = traced(events[begin:end])
    for at, each in enumerate(found):
        assert each.ended_s >= each.began_s
        assert each.parent is None if at == 0 else each.parent is not None and each.parent < at


@given(st.lists(st.tuples(st.integers(0, 9), CALLS, st.sampled_from(["", "a", "b/c", "gone"]))))
def test_a_call_is_under_the_step_that_made_it(calls: list[tuple[int, CallEnded, str]]) -> None:
    events: list[Event] = [
        RunStarted(1, 0.0, "r", "p"),
        StepStarted(2, 0.0, "a"),
        StepStarted(3, 1.0, "b/c"),
        RunFinished(4, 9.0, "x", {}),
    ]
    asked = [EndedCall(float(at_s), structs.replace(call, step=step)) for at_s, call, step in calls]
    found = traced(events, asked)
    placed = [each for each in found if each.kind == "call"]
    assert len(placed) == len(asked)
    for span, call in zip(placed, asked, strict=True):
        assert span.parent is not None
        above = found[span.parent]
        assert above.path == (call.ended.step if call.ended.step in {"a", "b/c"} else "")
        assert above.began_s <= span.began_s <= span.ended_s
        assert span.error == ("" if call.ended.error == CANCELLED else call.ended.error)
        usage = call.ended.usage
        tokens = "gen_ai.usage.input_tokens" in span.attributes
        assert tokens == (usage is not None and usage.certainty is not Certainty.ESTIMATED)
        if usage is not None:
            assert span.attributes["orchestra.cost_dollars"] == usage.cost_nanodollars / 1e9


CALL = CallEnded(
    run_id="r",
    step="each[7]/say",
    model="fast",
    provider="azure",
    request_model="gpt",
    operation="chat",
    streams=True,
    duration_s=1.0,
    first_chunk_s=0.25,
    error="",
    usage=None,
)


def test_what_a_request_set_and_who_answered_are_in_its_calls_span() -> None:
    settings = {name: float(number) for number, name in enumerate(SETTINGS)}
    ended = structs.replace(
        CALL,
        settings=settings,
        answer_id="a1",
        answer_model="gpt-7",
        finish_reason="stop",
        address="api.test",
        port=443,
    )
    events: list[Event] = [RunStarted(1, 0.0, "r", "p", "q"), StepStarted(2, 0.0, "each[7]/say")]
    found = traced(events, [EndedCall(1.75, ended)])[-1].attributes
    bare = traced(events, [EndedCall(1.75, CALL)])[-1].attributes
    assert {name: found[name] for name in found.keys() - bare.keys()} == {
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 2.0,
        "gen_ai.request.seed": 3.0,
        "gen_ai.request.max_tokens": 4.0,
        "gen_ai.request.presence_penalty": 5.0,
        "gen_ai.request.frequency_penalty": 6.0,
        "gen_ai.embeddings.dimension.count": 7.0,
        "gen_ai.response.id": "a1",
        "gen_ai.response.model": "gpt-7",
        "gen_ai.response.finish_reasons": ("stop",),
        "server.address": "api.test",
        "server.port": 443,
    }


def test_what_is_told_is_named_as_the_conventions_name_it() -> None:
    usage = Usage(100, 20, cached_input_tokens=60, cache_write_input_tokens=5, reasoning_tokens=9)
    ended = structs.replace(CALL, usage=usage)
    events: list[Event] = [
        RunStarted(1, 0.0, "r", "p", "q"),
        StepStarted(2, 0.0, "each"),
        StepStarted(3, 0.5, "each[7]/say"),
        StepCached(4, 0.75, "each[7]/say", "fast", 0.5),
        ArmCommitted(5, 0.75, "each[7]/say", "1:x"),
        StepFailed(6, 2.0, "each[7]/say", "ValueError", "no", "p.py:3", usage),
        RunFailed(7, 2.5, "ValueError", "no", "each[7]/say", "p.py:3", usage),
    ]
    found = traced(events, [EndedCall(1.75, ended)])
    run, row, item, say, call = found
    assert [each.name for each in found] == [
        *("invoke_workflow p", "each", "each[*]", "each[*]/say", "chat gpt"),
    ]
    assert [each.parent for each in found] == [None, 0, 1, 2, 3]
    assert [each.kind for each in found] == ["run", "step", "group", "step", "call"]
    assert run.attributes == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "p",
        "orchestra.run_id": "r",
        "orchestra.request_id": "q",
        "orchestra.status": "failed",
        "orchestra.where": "p.py:3",
        "orchestra.input_tokens": 100,
        "orchestra.output_tokens": 20,
        "orchestra.cost_dollars": 0.0,
    }
    assert (run.error, run.message, row.ended_s, item.ended_s) == ("ValueError", "no", 2.5, 2.0)
    assert say.attributes["orchestra.step"] == "each[7]/say"
    assert [(each.name, each.at_s, each.attributes) for each in say.events] == [
        ("step.cached", 0.75, {"orchestra.model": "fast", "orchestra.similarity": 0.5}),
        ("arm.committed", 0.75, {"orchestra.arm": "1:x"}),
    ]
    assert (call.began_s, call.ended_s) == (0.75, 1.75)
    assert call.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "gpt",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.cache_creation.input_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 9,
        "orchestra.model": "fast",
        "orchestra.status": "finished",
        "orchestra.cost_dollars": 0.0,
        "orchestra.usage_certainty": "exact",
    }
    coming = spans(events, [EndedCall(1.75, ended)], COMING)
    assert coming[0].attributes["gen_ai.agent.name"] == "p"
    assert coming[-1].attributes["gen_ai.usage.cache_write.input_tokens"] == 5


def test_nothing_has_no_spans() -> None:
    assert traced([]) == ()
    assert traced([], [EndedCall(1.0, CALL)]) == ()


def test_a_tool_is_a_span_in_the_step_whose_model_called_it() -> None:
    events: list[Event] = [
        RunStarted(1, 0.0, "r", "p"),
        StepStarted(2, 1.0, "a/say"),
        ToolStarted(3, 1.5, "a/say", "look", "c1"),
        ToolStarted(4, 2.0, "a/say", "look", "c2"),
        ToolStarted(5, 2.0, "a/say", "read", "c3"),
        ToolFinished(6, 3.0, "a/say", "look", "c2", 1.0),
        ToolFailed(7, 4.0, "a/say", "look", "KeyError", "no", "c1"),
        StepCancelled(8, 5.0, "a/say", "the run was cancelled"),
        RunFinished(9, 6.0, "x", {}),
    ]
    step, *tools = traced(events)[2:]
    assert step.name == "a/say"
    assert [(each.name, each.path, each.parent) for each in tools] == [
        ("execute_tool look", "a/say", 2),
        ("execute_tool look", "a/say", 2),
        ("execute_tool read", "a/say", 2),
    ]
    assert [(each.began_s, each.ended_s, each.error, each.message) for each in tools] == [
        (1.5, 4.0, "KeyError", "no"),
        (2.0, 3.0, "", ""),
        (2.0, 5.0, "", ""),
    ]
    assert tools[0].attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.call.id": "c1",
        "gen_ai.tool.type": "function",
        "orchestra.status": "failed",
    }
