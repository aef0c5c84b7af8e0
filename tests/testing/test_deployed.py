"""Deployed: what a deployment says of its models holds in a simulation, from one run to the next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given

from orchestra import Context, Stream, collect, each, injected, open_engine, pipeline, step
from orchestra.accounts import Caller, Certainty, Usage
from orchestra.config.deployment.deployment import Deployment
from orchestra.config.reading import read
from orchestra.errors import (
    BindingError,
    BreakerOpenError,
    BudgetExceededError,
    CheckError,
    LimitReachedError,
    ModelConnectionError,
    TruncatedStreamError,
)
from orchestra.events import RunFailed, RunFinished
from orchestra.graph.pipelines import Pipeline
from orchestra.protocols import Model
from orchestra.steps import generate
from orchestra.testing.deployed import Deployed, deployed
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    Embeddings,
    EmbedRequest,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
    Vector,
)

GPT = '[models.gpt]\nprovider = "openai"\nmodel = "gpt-5.4-mini"\n'
PRICED = GPT + "prices = { input = 1, output = 10 }\n"
CLAUDE = '[models.claude]\nprovider = "anthropic"\nmodel = "claude-haiku-4-5"\n'
ROUTE = '[routes.smart]\nmodels = ["gpt", "claude"]\n'
ROOT = Path(__file__).parents[2]
ADA, BOB = Caller("acme", "ada"), Caller("acme", "bob")
YES = ScriptedModel.saying("yes")
DOWN = ScriptedModel((), ModelConnectionError("down"))


def said(text: str) -> Deployment:
    return read(text, Path("orchestra.toml"))


@pipeline
def ask(question: str) -> Stream[str]:
    return generate(question, model="gpt", output_tokens_max=1000)


@pipeline
def ask_route(question: str) -> Stream[str]:
    return generate(question, model="smart")


def asked(models: Deployed, question: str = "why?", caller: Caller = ADA) -> Simulation[str]:
    run = simulate(ask, World(models=models, caller=caller), question=question)
    check_laws(run)
    return run


def test_a_budget_for_one_call_has_no_room_for_a_second() -> None:
    counted = UsageReport(Usage(input_tokens=10, output_tokens=900))
    model = ScriptedModel(((0, TextDelta("yes")), (0, counted), (0, Stopped(StopReason.END))))
    models = deployed(said(PRICED + '[budgets.user]\nday = "0.011"\n'), {"gpt": model})
    first, second, other = asked(models), asked(models), asked(models, caller=BOB)
    end = first.events[-1]
    assert isinstance(end, RunFinished)
    assert end.usage == Usage(10, 900, cost_nanodollars=10 * 1000 + 900 * 10_000)
    assert isinstance(second.error, BudgetExceededError)
    assert other.value == "yes", "the budget is each user's own"


@step
async def twice(question: str, *, context: Context = injected) -> str:
    return await context.run(ask, question) + await context.run(ask, question)


@pipeline
def ask_twice(question: str) -> str:
    return twice(question)


def test_what_a_step_runs_is_paid_for_once_by_the_runs_own_budget() -> None:
    counted = UsageReport(Usage(input_tokens=10, output_tokens=900))
    model = ScriptedModel(((0, TextDelta("yes")), (0, counted), (0, Stopped(StopReason.END))))
    cost = 10 * 1000 + 900 * 10_000
    for dollars, calls in (("0.011", 1), ("0.021", 2)):
        models = deployed(said(PRICED + f'[budgets]\nrequest = "{dollars}"\n'), {"gpt": model})
        run = simulate(ask_twice, World(models=models, caller=ADA), question="why?")
        check_laws(run)
        end = run.events[-1]
        assert isinstance(end, RunFinished | RunFailed)
        assert end.usage == Usage(10 * calls, 900 * calls, cost_nanodollars=cost * calls)
        assert run.value == "yesyes" if calls == 2 else isinstance(run.error, BudgetExceededError)


def waiting(pause_s: float) -> Pipeline[..., Any]:
    """A pipeline that asks its model after a while."""

    @step
    async def later(question: str) -> str:
        await trio.sleep(pause_s)
        return question

    @pipeline
    def waits(question: str) -> Stream[str]:
        return generate(later(question), model="gpt", output_tokens_max=1000)

    return waits


def test_a_budget_is_there_anew_on_the_next_day_of_virtual_time() -> None:
    waits = waiting(86_400)
    long = ScriptedModel.saying("a" * 3000)
    models = deployed(said(PRICED + '[budgets.user]\nday = "0.011"\n'), {"gpt": long})
    assert asked(models).error is None
    assert isinstance(asked(models).error, BudgetExceededError)
    assert simulate(waits, World(models=models, caller=ADA), question="why?").error is None


def test_a_route_falls_back_while_its_first_model_is_down() -> None:
    models = deployed(said(GPT + CLAUDE + ROUTE), {"gpt": DOWN, "claude": YES})
    run = simulate(ask_route, World(models=models), question="why?")
    check_laws(run)
    assert run.value == "yes"
    assert "step.routed" in [event.type for event in run.events]


def test_a_breaker_stays_open_from_one_run_to_the_next() -> None:
    models = deployed(said(GPT + "breaker = { calls_min = 5 }\n"), {"gpt": DOWN})
    errors = [type(asked(models).error) for _ in range(8)]
    assert errors[0] is ModelConnectionError
    assert errors[-1] is BreakerOpenError


def test_calls_wait_for_the_limits_of_their_model() -> None:
    @pipeline
    def asks(questions: list[str]) -> list[str]:
        return each(questions, lambda question: collect(ask(question)), at_once=9)

    slow = ScriptedModel.saying("yes", every_s=2)
    models = deployed(said(GPT + "limits = { concurrency = 2, wait_max_s = 30 }\n"), {"gpt": slow})
    run = simulate(asks, World(models=models), questions=["a", "b", "c", "d"])
    check_laws(run)
    assert (run.value, run.lasted_s) == (["yes"] * 4, 4)


def test_callers_keep_their_limits_with_several_runs_at_once() -> None:
    """In an engine of one's own, in virtual time."""
    text = GPT + "[limits.user]\nconcurrency = 1\nwait_max_s = 1\n"
    world = World(models=deployed(said(text), {"gpt": ScriptedModel.saying("yes", every_s=5)}))

    async def main() -> list[object]:
        async with open_engine(world) as engine:
            runs = [engine.start(ask, {"question": "?"}, caller=each) for each in (ADA, ADA, BOB)]
            found: list[object] = []
            for run in runs:
                try:
                    found.append(await run.result())
                except LimitReachedError as error:
                    found.append(type(error))
            return found

    assert sorted(map(str, virtual(main))) == sorted(map(str, ["yes", "yes", LimitReachedError]))


def test_a_cache_expires_in_virtual_time_and_turns_begin_anew() -> None:
    waits = waiting(601)
    turns = ScriptedTurns.saying("one")
    models = deployed(said(GPT + "cache = { ttl_s = 600 }\n"), {"gpt": turns})
    for expected in (1, 0):
        assert asked(models).value == "one"
        assert len(turns.asked) == expected
    assert asked(models, "who?").value == "one", "its turns begin anew"
    assert simulate(waits, World(models=models, caller=ADA), question="why?").value == "one"
    assert len(turns.asked) == 1, "what was kept has expired"


def test_what_was_cut_is_estimated_as_it_is_in_production() -> None:
    cut = ScriptedModel(((0.0, TextDelta("a" * 30)),))
    run = asked(deployed(said(PRICED), {"gpt": cut}))
    assert isinstance(run.error, TruncatedStreamError)
    end = run.events[-1]
    assert isinstance(end, RunFailed)
    assert end.usage is not None
    assert end.usage.certainty is Certainty.ESTIMATED
    assert end.usage.cost_nanodollars > 0


def test_what_a_model_can_do_is_what_the_deployment_says() -> None:
    models = deployed(said(GPT + "capabilities = { tools = false }\n"), {"gpt": YES})
    assert not models["gpt"].capabilities.tools
    assert deployed(said(GPT), {"gpt": YES})["gpt"].capabilities.tools


def test_vectors_come_from_what_stands_in() -> None:
    class Vectors(Model):
        stream = YES.stream

        async def embed(self, request: EmbedRequest) -> Embeddings:
            await trio.lowlevel.checkpoint()
            return Embeddings((Vector.of([1.0]),) * len(request.texts), Usage(7))

    models = deployed(said(GPT), {"gpt": Vectors()})

    async def main() -> Embeddings:
        return await models["gpt"].embed(EmbedRequest(("a", "b")))

    assert len(virtual(main).vectors) == 2


def test_an_embedder_over_a_network_needs_one_that_stands_in() -> None:
    class Same:
        dimensions = 1

        async def embed(self, texts: object, *, purpose: object = None) -> list[Vector]:
            await trio.lowlevel.checkpoint()
            return [Vector.of([1.0])] * len(texts)  # type: ignore[arg-type]

    text = (
        GPT
        + 'cache = { semantic = { embedder = "small" } }\n'
        + '[embedders.small]\nprovider = "openai"\nmodel = "text-embedding-3-small"\n'
    )
    models = deployed(said(text), {"gpt": YES}, embedders={"small": Same()})
    assert asked(models, "What is the price?").value == "yes"
    again = asked(models, "what is the price")
    assert "step.cached" in [event.type for event in again.events]
    local = deployed(said(GPT + "coalesce = { similarity = 0.9 }\n"), {"gpt": YES})
    assert "gpt" in local
    shared = text.replace(
        "cache = { semantic = { embedder", "coalesce = { similarity = 0.9, embedder"
    )
    with pytest.raises(BindingError, match=r"'small' is reached over a network; .*embedders="):
        deployed(said(shared.replace('"small" } }', '"small" }')), {"gpt": YES})


def test_what_is_not_stood_for_is_not_there() -> None:
    text = said(GPT + CLAUDE + ROUTE + '[models.quotes]\nprovider = "extractive"\n')
    models = deployed(text, {"claude": YES})
    assert sorted(models) == ["claude", "quotes"]
    assert len(models) == 2
    with pytest.raises(CheckError, match="smart"):
        simulate(ask_route, World(models=models), question="why?")


def test_a_name_that_stands_for_nothing_is_refused() -> None:
    with pytest.raises(BindingError, match=r"'gtp': ...}\): .* no such model.* one of: 'gpt'"):
        deployed(said(GPT), {"gtp": YES})


def test_it_is_printed_with_its_file_and_what_stands_in() -> None:
    models = deployed(said(GPT), {"gpt": DOWN})
    assert (
        repr(World(models=models))
        == f"World(models=deployed(<orchestra.toml>, {{'gpt': {DOWN!r}}}))"
    )


@given(worlds(cancels=True))
def test_the_laws_hold_whatever_the_schedule(world: World) -> None:
    models = deployed(
        said(GPT + "cache = {}\ncoalesce = true\n" + CLAUDE + ROUTE),
        {"gpt": DOWN, "claude": ScriptedModel.saying("y", "es", every_s=3)},
    )
    drawn = World(schedule=world.schedule, cancel_at_s=world.cancel_at_s, models=models)
    check_laws(simulate(ask_route, drawn, question="why?"))


FIRST = """
import sys
import orchestra.testing.simulate
assert "orchestra.config.assembly" not in sys.modules, "simulate alone needs no deployment"
from tests.testing.test_deployed import ADA, EVERYTHING, World, YES, ask_route, deployed, said, simulate
there = set(sys.modules)
models = deployed(said(EVERYTHING), {"gpt": YES, "claude": YES})
assert simulate(ask_route, World(models=models, caller=ADA), question="why?").value == "yes"
print(sorted(set(sys.modules) - there))
"""
PRICES = "prices = { input = 1, output = 10 }\n"
EVERYTHING = (
    f"{PRICED}coalesce = true\ncache = {{ ttl_s = 9 }}\nlimits = {{ concurrency = 2 }}\n"
    f"{CLAUDE}{PRICES}{ROUTE}"
    '[budgets.user]\nday = "1"\n[limits.user]\nconcurrency = 1\n'
)


def test_the_first_example_imports_nothing() -> None:
    """It would take most of the 200 ms that Hypothesis gives it, and be flaky of that."""
    asked = [sys.executable, "-c", FIRST]
    answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.stdout == "[]\n", answer.stderr
