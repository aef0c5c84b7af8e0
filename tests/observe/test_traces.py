"""Traces: each run's own, with its calls, when it has ended."""

from __future__ import annotations

import pytest
import trio
from msgspec import structs

from orchestra import pipeline, step
from orchestra.engine.engine import open_engine
from orchestra.observe import traces as module
from orchestra.observe.names import RELEASED
from orchestra.observe.observers import together
from orchestra.observe.trace_context import TRACE, TraceContext
from orchestra.observe.traces import Trace, Traces
from orchestra.protocols import Context, injected
from orchestra.testing.virtual import virtual
from tests.observe.test_spans import CALL

BEGAN_NS = 1_700_000_000_000_000_000


class Watched:
    """Traces of an engine in virtual time, by the run's id; steps tell of calls."""

    def __init__(self) -> None:
        self.found: dict[object, Trace] = {}
        now_ns = lambda: BEGAN_NS + round(trio.current_time() * 1e9)  # noqa: E731
        self.traces = Traces(self._take, RELEASED, now_ns)

    def _take(self, trace: Trace) -> None:
        self.found[trace.spans[0].attributes["orchestra.run_id"]] = trace


WATCHED: list[Watched] = []


@step
async def call(wait_s: float, *, context: Context = injected) -> float:
    """A step that makes a call for so long."""
    await trio.sleep(wait_s)
    asked = {"run_id": context.run_id, "step": context.step, "duration_s": wait_s}
    WATCHED[-1].traces.called(structs.replace(CALL, **asked))
    return wait_s


@pipeline
def called(wait_s: float) -> float:
    return call(wait_s)


@pipeline
def called_on(wait_s: float) -> float:
    return call(call(call(wait_s)))


@pytest.fixture
def watched() -> Watched:
    WATCHED[:] = [Watched()]
    return WATCHED[0]


def test_of_runs_at_once_each_has_its_own_calls_times_and_parent(watched: Watched) -> None:
    async def main() -> None:
        async with open_engine(observe=watched.traces.observe) as engine:
            began_s = trio.current_time()
            context = TraceContext("a" * 32, f"00-{'a' * 32}-{'b' * 16}-01")
            TRACE.set(context)
            one = engine.start(called, {"wait_s": 3.0}, run_id="one")
            await trio.sleep(1)
            TRACE.set(None)
            two = engine.start(called, {"wait_s": 1.0}, run_id="two")
            await two.wait_ended()
            assert list(watched.found) == ["two"]
            await one.wait_ended()
            first, second = watched.found["one"], watched.found["two"]
            assert second.began_ns - first.began_ns == 10**9
            assert first.began_ns == BEGAN_NS + round(began_s * 1e9)
            assert (first.context, second.context) == (context, None)
            for trace, lasted_s in ((first, 3.0), (second, 1.0)):
                assert [each.kind for each in trace.spans] == ["run", "step", "call"]
                assert {each.ended_s for each in trace.spans} == {lasted_s}
                assert trace.spans[2].began_s == 0.0

    virtual(main)


def test_a_call_of_no_run_or_of_one_that_has_ended_is_in_no_trace(watched: Watched) -> None:
    async def main() -> None:
        watched.traces.called(structs.replace(CALL, run_id=""))
        async with open_engine(observe=watched.traces.observe) as engine:
            run = engine.start(called, {"wait_s": 1.0}, run_id="one")
            await run.wait_ended()
            watched.traces.called(structs.replace(CALL, run_id="one"))
        assert len(watched.found["one"].spans) == 3

    virtual(main)


def test_what_is_kept_of_a_run_is_bounded_and_how_what_is_kept_ends(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVENTS_MAX", 2)

    async def main() -> None:
        async with open_engine(observe=watched.traces.observe) as engine:
            await engine.start(called_on, {"wait_s": 2.0}, run_id="one").wait_ended()

    virtual(main)
    run, step_, *calls = watched.found["one"].spans
    assert (run.attributes["orchestra.status"], run.ended_s) == ("finished", 6.0)
    assert (step_.attributes["orchestra.status"], step_.ended_s) == ("finished", 2.0)
    assert [each.kind for each in calls] == ["call", "call"]
    assert run.attributes["orchestra.left_out"] == 2 * 2 + 1
    assert "orchestra.left_out" not in step_.attributes


def test_several_watchers_are_told_the_same(watched: Watched) -> None:
    other = Watched()

    async def main() -> None:
        both = together(watched.traces, None, other.traces)
        assert both is not None
        WATCHED[:] = [watched]
        watched.traces.called = both.called  # type: ignore[method-assign]
        async with open_engine(observe=both.observe) as engine:
            await engine.start(called, {"wait_s": 2.0}, run_id="one").wait_ended()

    assert together(None) is None
    assert together(None, other.traces) is other.traces
    virtual(main)
    assert other.found["one"] == watched.found["one"]
