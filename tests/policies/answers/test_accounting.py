"""What calls consume is in the account of the step that made them: once, however they ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Pipeline, Policy, Retry, Stream, pipeline, race, step
from orchestra.accounts import UNSENT, Certainty, Usage
from orchestra.engine.engine import open_engine
from orchestra.engine.run import Run
from orchestra.errors import ModelConnectionError, ModelError, ModelsFailedError, OverloadedError
from orchestra.events import (
    RunCancelled,
    RunFailed,
    RunFinished,
    StepCancelled,
    StepFailed,
    StepFinished,
)
from orchestra.policies.account import PRESENT, NoAccount
from orchestra.policies.answers.accounting import consumption
from orchestra.policies.guard import GuardedModel
from orchestra.policies.money.prices import Price
from orchestra.policies.requests.tokens import Estimate
from orchestra.policies.routing import Candidate, Route
from orchestra.protocols import Context, Model, ModelReply, injected
from orchestra.providers.routing import RoutedModel
from orchestra.steps import generate
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Message,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
    Vector,
)

PRICE = Price(input=1_000_000, output=2_000_000)
"""A nano-dollar for a token of input, and two for one of output."""
WHOLE = (TextDelta("hello"), UsageReport(Usage(10, 5)), Stopped(StopReason.END))
CUT = Usage(10, 5, Certainty.PARTIAL, cost_nanodollars=20)
EXACT = Usage(10, 5, cost_nanodollars=20)


@attrs.define(eq=False)
class Says(Model):
    """Says one event a second; then fails, where it is told to, at each call the next way."""

    events: tuple[ModelEvent, ...] = WHOLE
    errors: list[ModelError | None] = attrs.field(factory=list)
    delay_s: float = 1.0

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        error = self.errors.pop(0) if self.errors else None
        said = self.events if error is None else self.events[:-1]
        yield ScriptedModel(tuple((self.delay_s, each) for each in said), error).reply()

    async def embed(self, request: EmbedRequest) -> Embeddings:
        await trio.sleep(self.delay_s)
        return Embeddings((Vector.of([1.0]),), Usage(7))


def guarded(model: Model, name: str = "m") -> GuardedModel:
    return GuardedModel(model, name=name, price=PRICE)


class Told(NoAccount):
    def __init__(self) -> None:
        self.usages: list[Usage] = []

    def used(self, usage: Usage, model: str = "") -> None:
        if not usage.settled:
            self.usages.append(usage)


ASKED = ChatRequest((Message("user", "x" * 30),))


@given(st.integers(0, 5), st.integers(0, 3), st.booleans(), schedules())
def test_an_account_is_told_once_however_a_call_ends(
    most: int, fails_after: int, fails: bool, schedule: int
) -> None:
    """Whole, failed, left early, cancelled: and what the reader hears is settled."""
    account = Told()
    error = OverloadedError("no room") if fails else None
    events = (TextDelta("abc"), UsageReport(Usage(10, 1)), UsageReport(Usage(10, 5)), WHOLE[-1])
    model = guarded(Says(events[fails_after:] if fails else events, [error]))
    heard: list[ModelEvent] = []

    async def main() -> None:
        PRESENT.set(account)
        with trio.move_on_after(most + 0.5):
            async with model.stream(ASKED) as reply:
                while len(heard) < most and (batch := await reply.receive()):
                    heard.extend(batch)

    try:
        virtual(main, schedule=schedule)
    except OverloadedError:
        assert fails
    reports = [each.usage for each in heard if isinstance(each, UsageReport)]
    assert all(each.settled and each.cost_nanodollars for each in reports)
    refused = not heard and fails and most > 3 - fails_after
    assert len(account.usages) == (0 if refused else 1)
    for told in account.usages:
        assert told.cost_nanodollars == told.input_tokens + 2 * told.output_tokens
        if reports:
            assert told.output_tokens >= reports[-1].output_tokens
        whole = any(isinstance(each, Stopped) for each in heard)
        assert (told.certainty is Certainty.EXACT) == whole


def test_what_it_consumed_is_exact_partial_or_estimated() -> None:
    size = Estimate(14, 1_000)
    assert consumption(size, Usage(9, 2), output_bytes=90, whole=True) == Usage(9, 2)
    assert consumption(size, Usage(9, 2), output_bytes=90, whole=False) == Usage(
        9, 30, Certainty.PARTIAL
    )
    assert consumption(size, Usage(0, 2), output_bytes=0, whole=False) == Usage(
        14, 2, Certainty.PARTIAL
    )
    assert consumption(size, None, output_bytes=90, whole=True) == Usage(
        14, 30, Certainty.ESTIMATED
    )
    cancelled = consumption(size, None, output_bytes=0, whole=False, error=KeyboardInterrupt())
    assert cancelled == Usage(14, 0, Certainty.ESTIMATED)
    unsent = KeyboardInterrupt()
    unsent.add_note(UNSENT)
    assert consumption(size, None, output_bytes=0, whole=False, error=unsent) is None
    for refused in (OverloadedError("full"), ModelConnectionError("no", code="connect")):
        assert consumption(size, None, output_bytes=0, whole=False, error=refused) is None
    cut = ModelConnectionError("broke", code="cut")
    assert consumption(size, None, output_bytes=0, whole=False, error=cut) == cancelled


def test_whole_answers_and_vectors_carry_their_cost() -> None:
    account, model = Told(), guarded(Says())

    async def main() -> tuple[Usage | None, Usage | None]:
        PRESENT.set(account)
        answer = await model.complete(ASKED)
        return answer.usage, (await model.embed(EmbedRequest(("a",)))).usage

    said, vectors = virtual(main)
    assert (said, vectors) == (EXACT, Usage(7, cost_nanodollars=7))
    assert said is not None
    assert said.settled
    assert account.usages == [EXACT, Usage(7, cost_nanodollars=7)]


@pipeline
def asks(question: str) -> Stream[str]:
    return generate(question, model="m")


@pipeline
def races(question: str) -> Stream[str]:
    return race(generate(question, model="m"), generate(question, model="n"))


@step(policy=Policy(retry=Retry(attempts_max=3, delay_s=1)))
async def whole(question: str, *, context: Context = injected) -> str:
    return (await context.model("m").complete(ChatRequest((Message("user", question),)))).text


@pipeline
def retries(question: str) -> str:
    return whole(question)


ENDS = (RunFinished, RunFailed, RunCancelled)
STEP_ENDS = (StepFinished, StepFailed, StepCancelled)


def usages_of(
    pipeline: Pipeline[..., object], models: dict[str, Model]
) -> tuple[dict[str, Usage], Usage | None]:
    """What each step has used, and the run; the one is the sum of the others."""

    async def main() -> Run:
        async with open_engine(World(models=models)) as engine:
            run = engine.start(pipeline, {"question": "x" * 30})
            await run.wait_ended()
            return run

    run = virtual(main)
    steps = {e.step: e.usage for e in run.journal.kept if isinstance(e, STEP_ENDS) and e.usage}
    (end,) = (e for e in run.journal.kept if isinstance(e, ENDS))
    if steps:
        first, *others = steps.values()
        assert end.usage == sum(others, first)
    return steps, end.usage


def test_what_a_step_reports_of_a_guarded_model_is_not_counted_twice() -> None:
    assert usages_of(asks, {"m": guarded(Says())})[1] == EXACT


def test_losers_of_a_race_are_paid_for() -> None:
    """The loser had been asked, and had said nothing: the estimate of its question is 14."""
    steps, run = usages_of(races, {"m": guarded(Says()), "n": guarded(Says(delay_s=1.5))})
    assert sorted(each.cost_nanodollars for each in steps.values()) == [14, 20]
    assert run is not None
    assert run.cost_nanodollars == 34
    assert run.certainty is Certainty.ESTIMATED


def test_failed_attempts_of_a_retry_are_paid_for() -> None:
    cut = ModelConnectionError("broke", code="cut")
    refused = OverloadedError("no room")
    model = guarded(Says(errors=[cut, refused]))
    steps, _ = usages_of(retries, {"m": model})
    assert steps["whole"].cost_nanodollars == 14 + 20


@pytest.mark.parametrize("last", [None, OverloadedError("no room")])
def test_failed_models_of_a_route_are_paid_for_once(last: ModelError | None) -> None:
    """Also where all of them have failed; each tells its usage before it says anything."""
    early: tuple[ModelEvent, ...] = (UsageReport(Usage(10, 5)), Stopped(StopReason.END))
    models: dict[str, Callable[[], Model]] = {
        "a": lambda: guarded(Says(early, [OverloadedError("no room")])),
        "b": lambda: guarded(Says(WHOLE if last is None else early, [last])),
    }
    candidates = tuple(Candidate(name=name) for name in models)
    routed = RoutedModel(
        Route(name="m", candidates=candidates), {name: make() for name, make in models.items()}
    )
    _, run = usages_of(asks, {"m": routed})
    assert run == CUT + (EXACT if last is None else CUT)
    if last is not None:
        assert issubclass(ModelsFailedError, ModelError)
