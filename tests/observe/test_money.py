"""Money is told in five places, and is the same in all of them, to the nano-dollar."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Policy, Retry, Stream, fallback, pipeline, race
from orchestra.accounts import Caller, Usage
from orchestra.engine.bindings import NoBindings
from orchestra.engine.engine import open_engine
from orchestra.engine.run import Run
from orchestra.errors import OverloadedError
from orchestra.events import RunFinished
from orchestra.observe import names
from orchestra.observe.metrics import Metrics
from orchestra.observe.observers import Observers
from orchestra.observe.traces import Trace, Traces
from orchestra.policies.guard import GuardedModel
from orchestra.policies.money.balances import balances
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.policies.money.prices import Price
from orchestra.policies.money.purse import Purse
from orchestra.policies.observed import CallEnded, Teller
from orchestra.protocols import Change
from orchestra.server.runs.usage_log import usage_of
from orchestra.steps import generate
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel
from orchestra.values import Stopped, StopReason, TextDelta, UsageReport
from tests.observe.test_traces import BEGAN_NS
from tests.policies.money.test_budget import Watched, watched

T = TypeVar("T")
ACME = Caller("acme")
PLENTY = 10**18
STOPPED = (0.0, Stopped(StopReason.END))
again = Policy(retry=Retry(attempts_max=2, delay_s=0.5))


@pipeline
def raced(text: str) -> Stream[str]:
    return race(generate(text, model="a"), generate(text, model="b"), stagger_s=1.0)


@pipeline
def instead(text: str) -> Stream[str]:
    return fallback(generate(text, model="a", policy=again), generate(text, model="b"))


@pipeline
def alone(text: str) -> Stream[str]:
    return generate(text, model="a")


PIPELINES = {"raced": raced, "instead": instead}


@attrs.define(eq=False)
class Deployment(NoBindings):
    """Two models whose calls are priced, paid for and watched."""

    models: dict[str, GuardedModel]

    def names(self, seam: str) -> tuple[str, ...]:
        return tuple(self.models) if seam == "model" else ()

    def model(self, name: str) -> GuardedModel:
        return self.models[name]


@attrs.define(eq=False)
class Told:
    """All who are told of calls and of runs."""

    metrics: Metrics = attrs.field(factory=lambda: Metrics({}))
    calls: list[CallEnded] = attrs.field(factory=list)
    found: list[Trace] = attrs.field(factory=list)
    watcher: Observers = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        traces = Traces(self.found.append, names.RELEASED, lambda: BEGAN_NS)
        self.watcher = Observers(self.metrics, traces)

    def called(self, ended: CallEnded) -> None:
        self.calls.append(ended)
        self.watcher.called(ended)

    def counted(self, family: names.Family) -> int:
        return sum(self.metrics.tally.counters.get(family.name, {}).values())


tokens = st.integers(0, 5_000)
models = st.builds(
    lambda begins_s, said, used, ends: ScriptedModel(
        (
            (begins_s, TextDelta("word ")),
            *([(0.5, UsageReport(used))] if used else []),
            *((0.5, TextDelta("on ")) for _ in range(said)),
            *([(0.5, Stopped(StopReason.END))] if ends else []),
        ),
        error=None if ends else OverloadedError("full"),
    ),
    st.integers(0, 6).map(lambda n: n / 2),
    st.integers(0, 3),
    st.none() | st.builds(Usage, tokens, tokens),
    st.booleans(),
)
prices = st.builds(Price, input=st.integers(0, 10**10), output=st.integers(0, 10**10))
asked = st.tuples(
    st.sampled_from(["raced", "instead"]),
    st.integers(0, 8).map(lambda n: n / 2),
    st.integers(1, 20).map(lambda n: n / 2 + 1 / 8) | st.just(1e4),
)


@given(
    st.tuples(models, prices),
    st.tuples(models, prices),
    st.lists(asked, min_size=1, max_size=2),
    schedules(),
)
def test_what_runs_cost_is_the_same_wherever_it_is_told(
    a: tuple[ScriptedModel, Price],
    b: tuple[ScriptedModel, Price],
    runs: Sequence[tuple[str, float, float]],
    schedule: int,
) -> None:
    """Runs that race, that fall back and try again, that fail, and that are cancelled."""
    told, ended = Told(), list[Run[object]]()

    async def main() -> int:
        state = MemoryState()
        budgets = Budgets(organisation=SpendingLimits(month=PLENTY))
        purse = Purse(budgets, state)
        deployment = Deployment(
            {
                name: GuardedModel(
                    model,
                    name=name,
                    price=price,
                    purse=purse,
                    teller=Teller(lambda: told.called, "openai", "gpt"),
                )
                for name, (model, price) in {"a": a, "b": b}.items()
            }
        )

        async def one(name: str, at_s: float, left_s: float) -> None:
            await trio.sleep(at_s)
            run = engine.start(PIPELINES[name], {"text": "hello"}, caller=ACME)
            with trio.move_on_after(left_s):
                await run.wait_ended()
            run.cancel("enough")
            await run.wait_ended()
            ended.append(run)

        async with (
            open_engine(deployment, observe=told.watcher.observe) as engine,
            trio.open_nursery() as nursery,
        ):
            for each in runs:
                nursery.start_soon(one, *each)
        (balance,) = await balances(budgets.of_caller(ACME), state)
        assert balance.held == 0
        return balance.spent

    spent = virtual(main, schedule=schedule)
    total = 0
    for run in ended:
        usage = run.journal.last.usage or Usage()  # type: ignore[union-attr]
        cost = usage.cost_nanodollars
        total += cost
        calls = [each.usage for each in told.calls if each.run_id == run.id and each.usage]
        assert sum(each.cost_nanodollars for each in calls) == cost
        assert json.loads(bytes(usage_of(run, 0.0).cost_dollars)) == cost / 1e9
        (spans,) = [
            each.spans
            for each in told.found
            if each.spans[0].attributes["orchestra.run_id"] == run.id
        ]
        for kind in ("run", "call"):
            of = [each.attributes for each in spans if each.kind == kind]
            told_dollars: list[Any] = [each.get("orchestra.cost_dollars", 0) for each in of]
            assert sum(round(each * 1e9) for each in told_dollars) == cost
    assert spent == total
    assert told.counted(names.MODEL_COST) == told.counted(names.RUN_COST) == total


class Silent(Watched):
    """A state that makes the first change after a second, but whose answer is lost."""

    silent = True

    async def change(
        self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
    ) -> T:
        result = await super().change(keys, decide)
        if self.silent and trio.current_time() >= 1:
            self.silent = False
            await trio.sleep_forever()
        return result


@pytest.mark.parametrize("kind", [Watched, Silent])
def test_a_threshold_is_counted_even_if_the_state_takes_it_after_the_end_of_its_run(
    kind: type[Watched],
) -> None:
    metrics = Metrics({})
    thresholds = metrics.tally.counters.get

    async def main() -> None:
        state = watched(kind, away=lambda: kind is Watched and 1 <= trio.current_time() < 9)
        purse = Purse(Budgets(organisation=SpendingLimits(day=2_000)), state, metrics.on_budget)
        says = ((2.0, TextDelta("hi")), (0.0, UsageReport(Usage(1_500, 100))), STOPPED)
        price = Price(input=1_000_000, output=1_000_000)  # a nano-dollar a token
        model = GuardedModel(ScriptedModel(says), name="a", price=price, purse=purse)
        async with open_engine(Deployment({"a": model}), observe=metrics.observe) as engine:
            run = engine.start(alone, {"text": "hello"}, caller=ACME)
            await run.wait_ended()
            assert isinstance(run.journal.last, RunFinished)
            assert thresholds(names.BUDGET_THRESHOLDS.name) is None
            await trio.sleep(20)

    virtual(main)
    assert thresholds(names.BUDGET_THRESHOLDS.name) == {("50",): 1, ("80",): 1}
