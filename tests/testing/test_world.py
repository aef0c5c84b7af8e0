"""Worlds: everything that a run meets, found by its name; and a model that keeps the contract."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.vendor.pretty import pretty

from orchestra import Context, Stream, injected, open_engine, pipeline, step
from orchestra.accounts import Caller, Usage
from orchestra.errors import (
    BindingError,
    CheckError,
    DeadlineError,
    DefinitionError,
    ModelError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.graph.rules.policy import Limits
from orchestra.policies.account import PRESENT
from orchestra.protocols import Bindings, Model
from orchestra.steps.generate import generate
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Attempts, Fails, Gives, Hangs, Streams
from orchestra.testing.simulate import simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Label,
    Message,
    ModelEvent,
    Passage,
    Stopped,
    StopReason,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    UsageReport,
    Vector,
)

PASTED = (Capabilities, ToolCallDelta)  # what a pasted world is written with


ASKED = ChatRequest((Message("user", "why?"),))


def heard(model: Model) -> list[tuple[float, ModelEvent]]:
    """What a model says, and when."""

    async def main() -> list[tuple[float, ModelEvent]]:
        events: list[tuple[float, ModelEvent]] = []
        async with model.stream(ASKED) as reply:
            while batch := await reply.receive():
                events += [(trio.current_time(), event) for event in batch]
            assert await reply.receive() == ()
        return events

    return virtual(main)


@given(st.lists(st.text(), max_size=5), st.integers(0, 9))
def test_a_model_says_its_texts_in_time_and_then_why_it_stopped(
    texts: list[str], every_s: int
) -> None:
    *said, last = heard(ScriptedModel.saying(*texts, every_s=every_s))
    assert said == [((n + 1) * every_s, TextDelta(text)) for n, text in enumerate(texts)]
    assert last[1] == Stopped(StopReason.END)


def test_a_model_that_was_given_no_end_is_cut() -> None:
    with pytest.raises(TruncatedStreamError):
        heard(ScriptedModel(((1, TextDelta("a")),)))


def test_a_model_fails_as_it_is_told_after_what_it_says() -> None:
    failing = ScriptedModel(((1, TextDelta("a")),), ModelError("overloaded", retryable=True))
    with pytest.raises(ModelError, match="overloaded"):
        heard(failing)
    with pytest.raises(ModelError, match="overloaded"):
        heard(ScriptedModel(((0, Stopped(StopReason.END)),), ModelError("overloaded")))


@pipeline
def ask(question: str) -> Stream[str]:
    return generate(question, model="smart")


def test_a_pipeline_finds_its_model_in_the_world() -> None:
    says = ((1.0, TextDelta("be")), (1.0, UsageReport(Usage(3, 4))), (1.0, TextDelta("cause")))
    model = ScriptedModel((*says, (0.0, Stopped(StopReason.END))))
    simulation = simulate(ask, World(models={"smart": model}), question="why?")
    check_laws(simulation)
    assert simulation.value == "because"
    assert simulation.lasted_s == 3


def test_a_pipeline_that_names_what_the_world_does_not_have_is_refused() -> None:
    with pytest.raises(CheckError, match="there is no model 'smart'"):
        simulate(ask, World(models={"fast": ScriptedModel.saying("a")}), question="why?")


def test_a_world_is_a_deployment() -> None:
    model = ScriptedModel.saying("a")
    world: Bindings = World(models={"m": model}, embedders={}, stores={}, steps={"s": Gives(1)})
    assert [world.names(seam) for seam in ("model", "embedder", "store")] == [("m",), (), ()]
    assert world.model("m") is model
    for find, seam in (
        (world.model, "model"),
        (world.embedder, "embedder"),
        (world.store, "store"),
    ):
        with pytest.raises(BindingError, match=rf"no {seam} 'x'; add one: World\({seam}s="):
            find("x")


def test_a_name_that_only_scripted_steps_give_is_bound_to_none() -> None:
    unbound = World(models={"smart": None})
    scripted = attrs.evolve(unbound, steps={"generate": Streams(((0.0, "so"),))})
    assert simulate(ask, scripted, question="?").value == "so"
    error = simulate(ask, unbound, question="?").error
    assert isinstance(error, BindingError)
    assert "World(models={'smart': ...})" in str(error)


def test_a_world_is_printed_as_it_is_written() -> None:
    """Also by Hypothesis: of a failing example one reads the schedule, and not every default."""
    assert repr(World()) == pretty(World()) == "World()"
    narrow = World(schedule=3, steps={"a": Gives(1)}, limits=Limits(lane_chunks=1))
    assert repr(narrow) == (
        "World(schedule=3, steps={'a': Gives(value=1, after_s=0.0)}, limits=Limits(lane_chunks=1))"
    )
    assert eval(repr(narrow), globals()) == narrow


@pytest.mark.parametrize(
    "world",
    [
        World(models={"a": ScriptedModel.saying("x")}),
        World(models={"a": ScriptedTurns.saying("x", ToolCall("1", "t"))}),
        World(steps={"a": Fails(RateLimitError("slow", retry_after_s=2.0, status=429))}),
        World(steps={"a": Fails(ModelError("odd", retryable=True))}),
        World(steps={"a": Fails(DeadlineError("late", limit="idle_s"))}),
        World(steps={"a": Gives(Vector.of([1.0, 0.1])), "b": Gives(Label("x", 0.5))}),
        World(steps={"a": Gives([Passage(id="1", text="a")]), "b": Streams(((0.5, b"x"),))}),
        World(steps={"a": Attempts((Fails(ModelError("x")), Hangs()))}, jitter=1.0, cancel_at_s=2),
    ],
)
def test_what_a_failing_example_prints_can_be_pasted(world: World) -> None:
    again = eval(repr(world), globals())
    assert repr(again) == repr(world)
    for name, script in world.steps.items():
        if isinstance(script, Gives):
            assert again.steps[name] == script
        elif isinstance(script, Fails):
            assert vars(again.steps[name].error) == vars(script.error)


def test_a_simulation_is_printed_in_a_line() -> None:
    run = simulate(ask, World(models={"smart": ScriptedModel.saying("x")}), question="?")
    assert f"events=<{len(run.events)} events>" in repr(run)
    assert "Plan(" not in repr(run)


@step
async def charges(card: str) -> str:
    return f"charged {card}"


@pipeline
def pays(card: str) -> str:
    return charges(card)


@pytest.mark.parametrize(
    "rest",
    [
        {"steps": {"charges": Gives("nothing")}},
        {"limits": Limits(deadline_s=1)},
        {"cancel_at_s": 1.0},
        {"jitter": 1.0},
        {"schedule": 3},
        {"hedged": {"race": [0.2]}},
        {"caller": Caller("acme", "ada")},
    ],
    ids=lambda rest: next(iter(rest)),
)
def test_an_engine_refuses_what_it_would_not_play(rest: dict[str, Any]) -> None:
    """Nothing is charged that was scripted to be free; what is meant can be said."""
    world = World(models={"m": ScriptedModel.saying("yes")}, **rest)

    async def main(bindings: World) -> str:
        async with open_engine(bindings) as engine:
            return await engine.run(pays, card="7")

    with pytest.raises(DefinitionError, match=rf"{next(iter(rest))}=.*simulate\(pipeline"):
        trio.run(main, world)
    assert trio.run(main, world.bound()) == "charged 7"
    assert world.bound() == World(models=world.models)


def test_a_run_is_on_behalf_of_the_worlds_caller() -> None:
    @step
    async def who(*, context: Context = injected) -> str:
        del context
        caller = PRESENT.get().caller
        return f"{caller.organisation}/{caller.user}"

    @pipeline
    def asks() -> str:
        return who()

    world = World(caller=Caller("acme", "ada"))
    assert simulate(asks, world).value == "acme/ada"
    assert simulate(asks).value == "/"
    assert repr(world) == f"World(caller={world.caller!r})"
    with pytest.raises(TypeError, match=r"World\(caller='ada'\): write Caller\('organisation'"):
        World(caller="ada")  # type: ignore[arg-type]
