"""Metrics are a fold: what a look at all events and calls finds is what was counted."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestra import Stream, pipeline, step
from orchestra.accounts import Certainty, Usage
from orchestra.compiler.check import check
from orchestra.engine.engine import open_engine
from orchestra.events import (
    ArmCommitted,
    ArmFailed,
    ArmRestarted,
    Delta,
    Event,
    RunCancelled,
    RunFailed,
    RunFinished,
    StepCached,
    StepCoalesced,
    StepFailed,
    StepFinished,
    StepRetried,
    StepRouted,
    ToolFailed,
    ToolFinished,
)
from orchestra.observe import names
from orchestra.observe.metrics import Metrics, step_label
from orchestra.observe.requests import OTHER_METHOD
from orchestra.observe.tally import Tally
from orchestra.policies.money.budget import Budget, Period
from orchestra.policies.money.ledger import Reached, Refusal
from orchestra.policies.observed import CANCELLED, CallEnded
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from tests.testing.sketches.drawing import sketches
from tests.testing.sketches.sketches import Sketch, build

many = settings(max_examples=150, suppress_health_check=list(HealthCheck))
Counts = dict[str, Counter[tuple[str, ...]]]


def counted(tally: Tally) -> Counts:
    """How often each thing was counted, histograms included."""
    found: Counts = defaultdict(Counter)
    for name, series in tally.counters.items():
        found[name].update(series)
    for name, histograms in tally.histograms.items():
        found[name].update({labels: sum(each.counts) for labels, each in histograms.items()})
        assert all(found[name].values()), f"{name} has a series of zeros"
    return {name: +counts for name, counts in found.items() if +counts}


def recounted(name: str, events: Sequence[Event]) -> Counts:
    """The same, found by looking through the events."""
    found: Counts = defaultdict(Counter)

    def one(family: names.Family, *labels: str, amount: int = 1) -> None:
        found[family.name][labels] += amount

    for event in events:
        match event:
            case StepFinished(step=at, first_chunk_s=first_chunk_s):
                one(names.STEP_DURATION, name, step_label(at))
                if first_chunk_s is not None:
                    one(names.STEP_FIRST_CHUNK, name, step_label(at))
            case StepFailed(step=at, error=error):
                one(names.STEP_FAILURES, name, step_label(at), error)
            case StepRetried(step=at, error=error):
                one(names.STEP_RETRIES, name, step_label(at), error)
            case ArmCommitted(step=at, arm=arm):
                one(names.ARM_COMMITS, name, step_label(at), step_label(arm))
            case ArmRestarted(step=at, arm=arm):
                one(names.ARM_RESTARTS, name, step_label(at), step_label(arm))
            case ArmFailed(step=at, arm=arm, error=error):
                one(names.ARM_FAILURES, name, step_label(at), step_label(arm), error)
            case RunFinished() | RunCancelled():
                one(names.RUN_DURATION, name, event.type.removeprefix("run."))
            case RunFailed(error=error):
                one(names.RUN_DURATION, name, "failed")
                one(names.RUN_FAILURES, name, error)
    return dict(found)


@many
@given(st.lists(st.tuples(sketches(fails=True), worlds(cancels=True)), min_size=1, max_size=3))
def test_what_runs_tell_is_counted_once_each(runs: list[tuple[Sketch, World]]) -> None:
    """Of whatever pipelines, in whatever way they end."""
    metrics, wanted = Metrics({}), defaultdict[str, Counter[tuple[str, ...]]](Counter)
    for number, (sketch, world) in enumerate(runs):
        built = build(sketch)
        assume(not check(built))
        found = simulate(built, world, n=3)
        saw = metrics.observe(name := f"p{number % 2}")
        for event in found.events:
            if not isinstance(event, Delta):
                saw(event)
        for family, counts in recounted(name, found.events).items():
            wanted[family].update(counts)
    assert counted(metrics.tally) == wanted


@step
async def words(count: int) -> AsyncIterator[str]:
    for number in range(count):
        await trio.sleep(1)
        yield str(number)


@pipeline
def spoken(count: int) -> Stream[str]:
    return words(count)


def test_an_engine_tells_all_events_but_chunks_as_they_are_written() -> None:
    told: list[Event] = []

    async def main() -> tuple[Event, ...]:
        async with open_engine(observe=lambda _: told.append) as engine:
            run = engine.start(spoken, {"count": 3})
            await trio.sleep(1.5)
            assert [type(each).__name__ for each in told] == ["RunStarted", "StepStarted"]
            await run.wait_ended()
            return run.journal.kept

    kept = virtual(main)
    assert told == [each for each in kept if not isinstance(each, Delta)]


def test_an_observer_that_fails_costs_no_run_and_is_told_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Event] = []

    def fail(event: Event) -> None:
        told.append(event)
        raise ZeroDivisionError

    async def main() -> object:
        async with open_engine(observe=lambda _: fail) as engine:
            return await engine.run(spoken, 2)

    assert virtual(main) == "01"
    assert len(told) == 1
    assert "an observer failed, and gets no more events of this run" in caplog.text


def test_the_times_of_runs_and_steps_are_those_of_their_events() -> None:
    metrics = Metrics({})

    async def main() -> None:
        async with open_engine(observe=metrics.observe) as engine:
            await engine.run(spoken, 3)

    virtual(main)
    tally = metrics.tally.histograms
    assert tally[names.RUN_DURATION.name]["spoken", "finished"].sum == 3
    assert tally[names.STEP_DURATION.name]["spoken", "words"].sum == 3
    assert tally[names.STEP_FIRST_CHUNK.name]["spoken", "words"].sum == 1


def test_what_policies_tell_is_counted_by_its_own_names() -> None:
    metrics = Metrics({})
    saw = metrics.observe("p")
    saw(StepCached(1, 0.0, "s", "fast"))
    saw(StepCached(2, 0.0, "s", "fast", 0.9))
    saw(StepCoalesced(3, 0.0, "s", "fast"))
    saw(StepRouted(4, 0.0, "s", "either", "fast"))
    of_acme = Budget("organisation", "acme", Period.MONTH, 10)
    metrics.on_budget(Reached(of_acme, 80, 8))
    metrics.on_budget(Refusal(of_acme, 8, 0, None))
    saw(ToolFailed(6, 0.0, "each[3]/s", "look", "KeyError", "no"))
    saw(ToolFinished(6, 0.0, "each[3]/s", "look", "c", 2.0))
    saw(ArmCommitted(6, 0.0, "race", "1:a"))
    saw(ArmFailed(6, 0.0, "race", "1:a", "KeyError", "no"))
    saw(RunFinished(7, 2.0, "x", {}, Usage(1, 1, cost_nanodollars=7)))
    assert counted(metrics.tally) == {
        names.CACHE_HITS.name: {("fast",): 2},
        names.COALESCED.name: {("fast",): 1},
        names.ROUTED.name: {("either", "fast"): 1},
        names.BUDGET_THRESHOLDS.name: {("80",): 1},
        names.BUDGET_REFUSALS.name: {("organisation", "month"): 1},
        names.TOOL_DURATION.name: {("p", "each[*]/s", "look"): 1},
        names.TOOL_FAILURES.name: {("p", "each[*]/s", "look", "KeyError"): 1},
        names.ARM_COMMITS.name: {("p", "race", "1:a"): 1},
        names.ARM_FAILURES.name: {("p", "race", "1:a", "KeyError"): 1},
        names.RUN_DURATION.name: {("p", "finished"): 1},
        names.RUN_COST.name: {("p",): 7},
    }


@given(st.lists(st.sampled_from(["each[3]/cite", "each[17]/each[x]/cite", "a", "a/b"])))
def test_a_step_of_a_row_is_counted_with_all_of_it(steps: list[str]) -> None:
    """Otherwise a list of a thousand would be a thousand metrics."""
    metrics = Metrics({})
    saw = metrics.observe("p")
    for at in steps:
        saw(StepFinished(1, 0.0, at, 1.0))
    wanted = Counter(("p", re.sub(r"\[\w+\]", "[*]", at)) for at in steps)
    assert counted(metrics.tally).get(names.STEP_DURATION.name, {}) == wanted


USAGES = st.none() | st.builds(
    Usage,
    st.integers(0, 9),
    st.integers(0, 9),
    st.sampled_from(Certainty),
    cached_input_tokens=st.integers(0, 3),
    reasoning_tokens=st.integers(0, 3),
    cost_nanodollars=st.integers(0, 99),
    unpriced_calls=st.integers(0, 1),
)
CALLS = st.builds(
    CallEnded,
    run_id=st.sampled_from(["", "r"]),
    step=st.sampled_from(["", "a"]),
    streams=st.booleans(),
    model=st.sampled_from(["fast", "smart"]),
    provider=st.sampled_from(["azure", "openai"]),
    request_model=st.sampled_from(["gpt", "o"]),
    operation=st.sampled_from(["chat", "embeddings", "rerank"]),
    duration_s=st.integers(0, 9),
    first_chunk_s=st.none() | st.integers(0, 9),
    error=st.sampled_from(["", CANCELLED, "RateLimitError"]),
    usage=USAGES,
)


@given(st.lists(CALLS), st.booleans())
def test_calls_are_counted_once_each_with_their_tokens_and_cost(
    calls: list[CallEnded], coming: bool
) -> None:
    """Tokens that are only estimated are not counted as tokens, as the conventions have it."""
    metrics = Metrics({names.SWITCH: names.LATEST} if coming else {})
    known = names.COMING if coming else names.RELEASED
    wanted: Counts = defaultdict(Counter)
    for call in calls:
        metrics.called(call)
        provider = "azure.ai.openai" if call.provider == "azure" else call.provider
        labels = (call.operation, provider, call.request_model, call.model)
        wanted[known.duration.name][*labels, call.error] += 1
        if call.first_chunk_s is not None:
            wanted[known.first_chunk.name][*labels, call.error] += 1
        if call.usage is None:
            continue
        wanted[names.MODEL_COST.name][call.model,] += call.usage.cost_nanodollars
        wanted[names.UNPRICED.name][call.model,] += call.usage.unpriced_calls
        if call.usage.certainty is Certainty.ESTIMATED:
            continue
        for kind, family in (("input", known.each_input), ("output", known.each_output)):
            wanted[family.name][
                (*labels, kind) if family is known.each_output is known.each_input else labels
            ] += 1
        for field, family in known.sums.items():
            wanted[family.name][labels] += getattr(call.usage, field)
    assert counted(metrics.tally) == {name: +each for name, each in wanted.items() if +each}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET", "POST", "BREW", "x"]),
            st.sampled_from(["http", "https", "ws"]),
            st.integers(0, 9),
        )
    )
)
def test_requests_are_counted_by_methods_that_are_known(asked: list[tuple[str, str, int]]) -> None:
    """A client may make up any number of others."""
    metrics = Metrics({})
    for method, scheme, lasted_s in asked:
        metrics.answered({"method": method, "scheme": scheme}, "/v1/{x}", 200, lasted_s)
    wanted = Counter(
        (
            method if method in ("GET", "POST") else OTHER_METHOD,
            "http" if scheme == "ws" else scheme,
            *("/v1/{x}", "200"),
        )
        for method, scheme, _ in asked
    )
    assert counted(metrics.tally).get(names.HTTP_DURATION.name, {}) == wanted
    found = metrics.tally.histograms.get(names.HTTP_DURATION.name, {})
    assert sum(each.sum for each in found.values()) == sum(lasted_s for _, _, lasted_s in asked)
