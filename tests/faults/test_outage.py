"""An outage of a minute, in virtual time, against all that stands around a call at once.

How many calls may fail at the model that is down, exactly: those that open its breaker
(`calls_min`, while they come within its window), those that were under way when it opened (one
less than may run at once), and `probes` for each round that there is time for. A call that was
left before it failed, by a race that the other model had won, tells the breaker nothing, and is
not counted: there is at most one for each race.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Limits, Policy, Retry, Stream, fallback, pipeline, race
from orchestra.engine.engine import open_engine
from orchestra.engine.run import Run
from orchestra.errors import BindingError, ModelError, ModelTimeoutError, ProviderServerError
from orchestra.events import Delta, RunFailed, RunFinished, StepRetried
from orchestra.policies.guard import GuardedModel
from orchestra.policies.health.breaker import BreakerRule, Closed
from orchestra.policies.limits.limit import CallLimits, Load
from orchestra.policies.routing import Candidate, Route
from orchestra.protocols import Embedder, Model, ModelReply, VectorStore
from orchestra.providers.routing import RoutedModel
from orchestra.steps.generate import generate
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import ChatRequest, ModelEvent, Stopped, StopReason, TextDelta
from tests.policies.health.test_breaker import rounds

OUTAGE_S = 60.0
WORDS = {"a": ("Alpha ", "beta"), "b": ("One ", "two")}
RULE = Retry(attempts_max=3, delay_s=0.5)


@attrs.frozen
class Down:
    """How a model fails: behind so many words, and after how long."""

    error: type[ModelError]
    after_s: float
    words: int


DOWN = st.builds(
    Down,
    st.sampled_from([ProviderServerError, ModelTimeoutError]),
    st.sampled_from([0.0, 0.25, 3.0]),
    st.integers(0, 1),
)


@attrs.define(eq=False)
class Fake(Model):
    """A model that is down, in the way that it is given, until its time is over."""

    name: str
    down: Down | None = None
    until_s: float = 0.0
    asked_s: list[float] = attrs.field(factory=list)
    """When it was asked."""
    failed_s: list[float] = attrs.field(factory=list)
    """When those calls failed that did."""
    running: int = 0

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        self.asked_s.append(trio.current_time())
        self.running += 1
        down = self.down if trio.current_time() < self.until_s else None
        try:
            yield Reply(down, list(WORDS[self.name]))
        except ModelError:
            self.failed_s.append(trio.current_time())
            raise
        finally:
            self.running -= 1


@attrs.define(eq=False)
class Reply:
    down: Down | None
    left: list[str]
    said: int = 0
    ended: bool = False

    async def receive(self) -> tuple[ModelEvent, ...]:
        await trio.sleep(0.125)
        if self.down is not None and self.said == self.down.words:
            await trio.sleep(self.down.after_s)
            raise self.down.error("it is down")
        if self.left:
            self.said += 1
            return (TextDelta(self.left.pop(0)),)
        ended, self.ended = self.ended, True
        return () if ended else (Stopped(StopReason.END),)


@pipeline
def alone(asked: str) -> Stream[str]:
    return generate.using(Policy(retry=RULE))(asked, model="a")


@pipeline
def routed(asked: str) -> Stream[str]:
    return generate.using(Policy(retry=RULE))(asked, model="r")


@pipeline
def fallen(asked: str) -> Stream[str]:
    return fallback(generate(asked, model="a"), generate(asked, model="b"))


@pipeline
def hedged(asked: str) -> Stream[str]:
    return race(generate(asked, model="a"), generate(asked, model="b"), stagger_s=10.0)


WAYS = {each.name: each for each in (alone, routed, fallen, hedged)}


class Bound:
    """Bindings to two guarded models, and to a route over both."""

    def __init__(self, fakes: Sequence[Fake], rule: BreakerRule, limits: CallLimits) -> None:
        self.guarded = {
            each.name: GuardedModel(each, name=each.name, breaker=rule, limits=limits)
            for each in fakes
        }
        route = Route(name="r", candidates=tuple(Candidate(name=each.name) for each in fakes))
        self._models: dict[str, Model] = {**self.guarded, "r": RoutedModel(route, self.guarded)}

    def names(self, seam: str) -> list[str]:
        return [*self._models] if seam == "model" else []

    def model(self, name: str) -> Model:
        return self._models[name]

    def embedder(self, name: str) -> Embedder:
        raise BindingError(f"there is no embedder {name!r}")

    def store(self, name: str) -> VectorStore:
        raise BindingError(f"there is no store {name!r}")


@given(
    calls=st.lists(
        st.tuples(st.integers(0, 16).map(lambda n: n / 8), st.sampled_from([*WAYS])),
        min_size=20,
        max_size=60,
    ),
    down=DOWN,
    rule=st.builds(
        BreakerRule,
        failure_rate=st.floats(0.1, 1),
        calls_min=st.integers(1, 6),
        window_s=st.just(200.0),
        open_s=st.sampled_from([1.0, 5.0]),
        probes=st.integers(1, 3),
    ),
    concurrency=st.integers(1, 4),
    per_minute=st.none() | st.integers(10, 40),
    saved=st.integers(1, 4),
    schedule=schedules(),
)
def test_an_outage_costs_the_probes_and_nobody_gets_half_of_anything(
    *,
    calls: list[tuple[float, str]],
    down: Down,
    rule: BreakerRule,
    concurrency: int,
    per_minute: int | None,
    saved: int,
    schedule: int,
) -> None:
    """Whoever calls, when, and behind whatever; retries and limits keep their bounds in it."""
    fakes = (Fake("a", down, OUTAGE_S), Fake("b"))
    limits = CallLimits(concurrency=concurrency, requests_per_minute=per_minute)
    bound = Bound(fakes, rule, limits)
    retries = Limits(retries_saved=saved, retries_per_call=0.25, retries_per_s=0.125)

    async def main() -> tuple[list[Run[str]], float]:
        async with open_engine(bound, limits=retries) as engine:
            runs = []
            for pause_s, way in calls:
                runs.append(engine.start(WAYS[way], {"asked": "?"}))
                await trio.sleep(pause_s)
            await engine.wait_idle()
            took_s = trio.current_time()
            assert [each.running for each in fakes] == [0, 0]
            assert {each.state().load for each in bound.guarded.values()} == {Load(0, 0)}
            await trio.sleep(OUTAGE_S + rule.open_max_s)
            for _ in range(rule.probes):
                await engine.run(alone, "?")
            assert isinstance(bound.guarded["a"].state().breaker, Closed)
            return runs, took_s

    runs, took_s = virtual(main, schedule=schedule)
    asked = sum(at_s < OUTAGE_S for at_s in fakes[0].asked_s)
    failed = len(fakes[0].failed_s)
    assert failed <= rule.calls_min + concurrency - 1 + rule.probes * rounds(rule, OUTAGE_S)
    assert asked - failed <= sum(way == "hedged" for _, way in calls)
    for fake in fakes:
        for at_s in fake.asked_s:
            minute = sum(at_s <= other < at_s + 60 - 1e-6 for other in fake.asked_s)
            assert minute <= (per_minute or len(fake.asked_s))
    retried = sum(isinstance(each, StepRetried) for run in runs for each in run.journal.kept)
    assert retried <= saved + 0.25 * len(runs) + 0.125 * took_s
    for run in runs:
        is_of_one_model(run)


def is_of_one_model(run: Run) -> None:
    """What was heard is one model's answer: whole, or else the run has failed and says so."""
    said = "".join(each.chunk for each in run.journal.kept if isinstance(each, Delta))
    last = run.journal.kept[-1]
    whole = ["".join(words) for words in WORDS.values()]
    if isinstance(last, RunFinished):
        assert said == last.result
        assert said in whole
    else:
        assert isinstance(last, RunFailed)
        assert any(each.startswith(said) for each in whole)
