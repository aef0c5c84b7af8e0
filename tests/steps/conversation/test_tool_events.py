"""What a run tells of the tools that its models call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, injected
from orchestra.events import ToolFinished, ToolStarted
from orchestra.observe.names import RELEASED
from orchestra.observe.spans import spans
from tests.steps.conversation.test_calling import Counter, run_with


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(1, 3))
def test_each_call_of_a_tool_is_told_when_it_begins_and_when_it_is_done(
    waits_s: list[int], at_once: int
) -> None:
    calls = [("wait", f'{{"s": {wait_s}, "fails": false}}') for wait_s in waits_s]
    run = run_with(Counter().wait, calls=calls, tools_at_once=at_once)
    began = {each.call: each.at_s for each in run.events if isinstance(each, ToolStarted)}
    done = {each.call: each for each in run.events if isinstance(each, ToolFinished)}
    assert [*began] == [str(number) for number in range(len(calls))]
    for number, wait_s in enumerate(waits_s):
        event = done[str(number)]
        assert (event.step, event.tool, event.duration_s) == ("generate", "wait", wait_s)
        assert event.at_s - began[str(number)] == wait_s
    spans_ = [each for each in spans(run.events, [], RELEASED) if each.kind == "tool"]
    assert {
        str(each.attributes["gen_ai.tool.call.id"]): (each.began_s, each.ended_s) for each in spans_
    } == {call: (began[call], done[call].at_s) for call in began}
    assert {each.name for each in spans_} == {"execute_tool wait"}


def test_a_tool_knows_the_id_of_its_call_as_the_events_tell_it() -> None:
    known: list[str | None] = []

    def noted(context: Context = injected) -> str:
        """Note the call."""
        known.append(context.call_id)
        return ""

    run = run_with(noted, calls=[("noted", "{}")] * 3)
    assert known == [each.call for each in run.events if isinstance(each, ToolStarted)]
    assert known == ["0", "1", "2"]
