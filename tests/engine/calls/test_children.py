"""Children: what a step runs with `context.run` is a part of its run, and ends with the step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from math import inf
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchestra import (
    Context,
    Limits,
    Pipeline,
    Policy,
    Retry,
    Stream,
    best_of,
    collect,
    each,
    fallback,
    injected,
    pipeline,
    quorum,
    race,
    step,
)
from orchestra.accounts import Usage
from orchestra.engine.engine import Engine, open_engine
from orchestra.errors import (
    CheckError,
    DeadlineError,
    DefinitionError,
    EdgeTypeError,
    LimitExceededError,
    RunError,
)
from orchestra.events import (
    ArmRestarted,
    Event,
    RunFailed,
    RunFinished,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
)
from orchestra.observe.names import RELEASED
from orchestra.observe.spans import spans
from orchestra.steps import generate
from orchestra.testing.laws import check_laws
from orchestra.testing.playing.task_tree import all_tasks
from orchestra.testing.scripts import Fails, Gives
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import moments, worlds
from orchestra.testing.together import Start, simulate_all
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Stopped, StopReason, TextDelta

END_S = 0.5


class RefusalError(Exception):
    """A step was told to fail."""


@attrs.frozen
class Do:
    """What a step does: it waits, runs children, in turn or together, and fails, or not.

    `inside` names the pipeline that it is a step of.
    """

    inside: str = "part"
    wait_s: float = 0.0
    children: tuple[Do, ...] = ()
    together: bool = False
    forgives: bool = False
    fails: bool = False
    patience_s: float | None = None
    deadline_s: float | None = None
    """That of the pipeline, where a step runs it."""

    @property
    def value(self) -> int:
        """How many steps there are, where nothing fails."""
        return 1 + sum(child.value for child in self.children)

    @property
    def lasts_s(self) -> float:
        """How long its pipeline lasts, where nothing fails."""
        times = [child.lasts_s for child in self.children]
        return self.wait_s + (max(times, default=0.0) if self.together else sum(times)) + END_S


@step
async def act(do: Do, *, context: Context = injected) -> int:
    context.used(Usage(1, 0))
    await trio.sleep(do.wait_s)
    values: list[int] = []

    async def one(child: Do) -> None:
        began_s = trio.current_time()
        with trio.move_on_after(inf if do.patience_s is None else do.patience_s):
            try:
                chosen = INSIDE[child.inside].using(deadline_s=child.deadline_s)
                values.append(await context.run(chosen, child))
            except DeadlineError:
                assert child.deadline_s is not None
                assert trio.current_time() == pytest.approx(began_s + child.deadline_s)
            except RefusalError:
                if not do.forgives:
                    raise

    if do.together:
        async with trio.open_nursery() as nursery:
            for child in do.children:
                nursery.start_soon(one, child)
    else:
        for child in do.children:
            await one(child)
    if do.fails:
        raise RefusalError(context.step)
    return 1 + sum(values)


@step
async def rest(value: int) -> int:
    await trio.sleep(END_S)
    return value


@pipeline
def part(do: Do) -> int:
    return rest(act(do))


@step
async def act_in_turn(do: Do, *, context: Context = injected) -> AsyncIterator[int]:
    """As `act`, between chunks."""
    yield 0
    yield await act.call(do, context=context)
    yield 0


@step
async def slow(do: Do) -> int:
    await trio.sleep(1000)
    return do.value


@step
async def broken_off(do: Do) -> int:
    raise ValueError(do)


@step
def least_of_all(do: Do) -> int:
    return -do.value


def highest(values: list[int]) -> int:
    return values.index(max(values))


@step
def total(values: list[int]) -> int:
    return sum(values)


@pipeline
def in_each(do: Do) -> int:
    return rest(total(each([do], act, at_once=1)))


@pipeline
def in_race(do: Do) -> int:
    return race(slow(do), rest(act(do)))


@pipeline
def in_quorum(do: Do) -> int:
    return rest(quorum(1, slow(do), act(do)))


@pipeline
def in_best(do: Do) -> int:
    return rest(best_of(least_of_all(do), act(do), judge=highest, least=2))


@pipeline
def in_fallback(do: Do) -> int:
    return rest(fallback(broken_off(do), act(do)))


@pipeline
def in_stream(do: Do) -> int:
    return rest(total(collect(act_in_turn(do))))


INSIDE: dict[str, Pipeline[[Do], int]] = {
    each.name: each for each in (part, in_each, in_race, in_quorum, in_best, in_fallback, in_stream)
}


@pipeline
def raced(do: Do) -> int:
    return race(rest(act(do)), rest(rest(rest(do.value))))


ACTS = ("act", "act_in_turn")
WAITS = st.sampled_from([0.0, 0.25, 1.0])


NEVER = st.none()


def deeds(
    *,
    calm: bool = False,
    patience: st.SearchStrategy[float | None] = NEVER,
    deadlines: st.SearchStrategy[float | None] = NEVER,
) -> st.SearchStrategy[Do]:
    """Trees of children; calm ones do not fail."""
    flags = st.just(False) if calm else st.booleans()

    def above(children: st.SearchStrategy[Do]) -> st.SearchStrategy[Do]:
        several = st.lists(children, max_size=3).map(tuple)
        together = st.booleans()
        return st.builds(Do, inside, WAITS, several, together, flags, flags, patience, deadlines)

    inside = st.sampled_from([*INSIDE])
    leaves = st.builds(Do, inside, WAITS, fails=flags, deadline_s=deadlines)
    return st.recursive(leaves, above, max_leaves=6)


# ------------------------------------------------------------------------------------- laws


SOON = st.none() | st.sampled_from([0.25, 0.75, 1.25])
ALL = deeds(patience=st.none() | WAITS, deadlines=SOON)
TOPS = st.sampled_from([raced, *INSIDE.values()])


@given(ALL, worlds(cancels=True) | worlds(), TOPS)
def test_whatever_ends_a_step_ends_what_it_runs_and_all_is_counted_once(
    do: Do, world: World, top: object
) -> None:
    simulation: Simulation[int] = simulate(top, world, do)  # type: ignore[call-overload]
    check_laws(simulation)
    begun = [e for e in simulation.events if isinstance(e, StepStarted) and e.step.endswith(ACTS)]
    told = getattr(simulation.events[-1], "usage", None) or Usage()
    assert told.input_tokens == len(begun)


@given(deeds(calm=True), worlds())
def test_a_tree_of_pipelines_gives_what_a_tree_of_calls_would(do: Do, world: World) -> None:
    simulation = simulate(INSIDE[do.inside], world, do)
    check_laws(simulation)
    assert (simulation.value, simulation.lasted_s) == (do.value, do.lasts_s)


@given(deeds(calm=True, deadlines=SOON), worlds(cancels=True) | worlds(), TOPS)
def test_a_step_that_a_deadline_a_race_or_a_cancellation_stops_says_so(
    do: Do, world: World, top: object
) -> None:
    simulation: Simulation[int] = simulate(top, world, do)  # type: ignore[call-overload]
    stopped = [e for e in simulation.events if isinstance(e, StepCancelled | StepSkipped)]
    assert "the task that ran it was cancelled" not in {e.reason for e in stopped}


@given(ALL, st.lists(moments(4), min_size=2, max_size=3), worlds())
def test_runs_that_meet_keep_their_children_apart(
    do: Do, starts: list[float], world: World
) -> None:
    for simulation in simulate_all([Start(part, {"do": do}, at_s=at_s) for at_s in starts], world):
        check_laws(simulation)


# --------------------------------------------------------------------------------- examples


@step
async def upper(text: str) -> str:
    await trio.sleep(1)
    if not text:
        raise RefusalError("it is empty")
    return text.upper()


@step
async def letters(text: str) -> AsyncIterator[str]:
    for letter in text:
        yield letter


@step
async def numbers(most: int) -> AsyncIterator[int]:
    for number in range(most):
        yield number


@pipeline
def loud(text: str) -> str:
    return upper(text)


@pipeline
def spelled(text: str) -> Stream[str]:
    return letters(upper(text))


@pipeline
def counted(most: int) -> Stream[int]:
    return numbers(most)


@pipeline(deadline_s=0.25)
def hurried(text: str) -> str:
    return upper(text)


@pipeline
def asks(text: str) -> Stream[str]:
    return generate(text, output_tokens_max=9)


@pipeline
def asks_another(text: str) -> Stream[str]:
    return generate(text, model="whole")


@step
async def broken(text: str) -> AsyncIterator[str]:
    yield text
    raise RefusalError("cut")


@pipeline
def anew(text: str) -> Stream[str]:
    return fallback(broken(text), letters(text), restart=True)


KNOWN: dict[str, Pipeline[..., Any]] = {
    each.name: each for each in (loud, spelled, counted, hurried, asks, asks_another, anew)
}


@step
async def agent(asked: list[tuple[str, object]], *, context: Context = injected) -> list[object]:
    """Runs the pipelines that it is asked for, in turn."""
    return [await context.run(KNOWN[name], value) for name, value in asked]


@pipeline
def top(asked: list[tuple[str, object]]) -> list[object]:
    return agent(asked)


def outcome(*asked: tuple[str, object], world: World = World()) -> Simulation[list[object]]:
    simulation = simulate(top, world, list(asked))
    check_laws(simulation)
    return simulation


def error_of(*asked: tuple[str, object], world: World = World()) -> Exception:
    error = outcome(*asked, world=world).error
    assert error is not None
    return error


def paths(simulation: Simulation[object], kind: type) -> Iterator[str]:
    return (str(getattr(e, "step", "")) for e in simulation.events if isinstance(e, kind))


def test_a_value_is_given_as_it_is_and_a_stream_as_a_whole() -> None:
    simulation = outcome(("loud", "a"), ("spelled", "bc"), ("counted", 3))
    assert simulation.value == ["A", "BC", [0, 1, 2]]
    assert list(paths(simulation, StepFinished)) == [
        "agent[0]/loud/upper",
        "agent[1]/spelled/upper",
        "agent[1]/spelled/letters",
        "agent[2]/counted/numbers",
        "agent",
    ]
    end = simulation.events[-1]
    assert isinstance(end, RunFinished)
    assert list(end.timings_s) == ["agent"]


def test_an_error_arrives_as_it_was_raised_and_the_innermost_step_is_blamed() -> None:
    simulation = outcome(("loud", "a"), ("loud", ""))
    error, end = simulation.error, simulation.events[-1]
    assert isinstance(error, RefusalError)
    assert error.__context__ is None
    (note,) = error.__notes__
    assert note.startswith("in step 'agent[1]/loud/upper' of pipeline 'top', called at ")
    assert isinstance(end, RunFailed)
    assert end.step == "agent[1]/loud/upper"
    assert str(end.where) in note


@step
async def forgiving(text: str, *, context: Context = injected) -> str:
    try:
        return await context.run(loud, text)
    except RefusalError:
        await trio.sleep(1)
        raise


@pipeline
def later(text: str) -> str:
    return forgiving(text)


def test_an_error_that_the_step_raises_again_is_still_that_of_the_innermost() -> None:
    simulation = simulate(later, World(), "")
    check_laws(simulation)
    assert getattr(simulation.events[-1], "step", "") == "forgiving[0]/loud/upper"


def test_wrong_inputs_are_the_steps_fault() -> None:
    """Not an InputError: a server would answer that the client's inputs are wrong."""
    error = error_of(("loud", 1))
    assert isinstance(error, EdgeTypeError)
    assert str(error) == (
        "step 'agent' runs a pipeline wrongly: input 'text' of pipeline 'loud' takes str, and was "
        "given 1"
    )


@step
async def misused(given: str, *, context: Context = injected) -> None:
    if given == "step":
        await context.run(upper, "a")  # type: ignore[call-overload]
    elif given == "missing":
        await context.run(loud)  # type: ignore[call-overload]
    else:
        await context.run(loud, "a", speed=2)  # type: ignore[arg-type, call-arg]


@pipeline
def misuse(given: str) -> None:
    return misused(given)


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ("step", DefinitionError, "step 'upper' is not a pipeline"),
        ("missing", EdgeTypeError, "pipeline 'loud' was not given 'text', str"),
        ("unknown", EdgeTypeError, "pipeline 'loud' has no input 'speed'"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(given: str, kind: type, said: str) -> None:
    error = simulate(misuse, World(), given).error
    assert isinstance(error, kind)
    assert said in str(error)


def test_a_name_that_the_deployment_does_not_have_is_told_where_it_is_run() -> None:
    error = error_of(("asks", "a"))
    assert isinstance(error, CheckError)
    assert "there is no model 'default'" in str(error)


def test_the_deadline_of_a_pipeline_bounds_it_as_a_child_too() -> None:
    error = error_of(("hurried", "a"))
    assert isinstance(error, DeadlineError)
    assert error.limit == "deadline_s"
    assert str(error) == (
        "pipeline 'hurried', which step 'agent' ran, was not done within deadline_s=0.25 s"
    )


CUT = ScriptedModel(((0.0, TextDelta("a")), (0.0, Stopped(StopReason.LENGTH))))
BOTH = World(models={"default": CUT, "whole": ScriptedModel.saying("b")})


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["asks"], True),
        (["asks", "asks_another"], False),
        (["asks", "loud"], True),  # where no model answers, none answers better
        (["asks_another", "loud"], False),
    ],
)
def test_a_child_is_cut_with_its_model_and_so_is_what_is_made_of_it(
    asked: list[str], expected: bool
) -> None:
    simulation = outcome(*[(name, "a") for name in asked], world=BOTH)
    assert getattr(simulation.events[-1], "cut", None) is expected


def test_what_a_child_without_models_makes_of_half_a_text_is_cut() -> None:
    @pipeline
    def louder(text: str) -> str:
        return forgiving(collect(generate(text, output_tokens_max=9)))

    simulation = simulate(louder, BOTH, "a")
    check_laws(simulation)
    assert getattr(simulation.events[-1], "cut", None) is True


def test_a_child_that_restarts_gives_the_last_answer_and_leaves_the_runs_output_alone() -> None:
    simulation = outcome(("anew", "ab"))
    assert simulation.value == ["ab"]
    assert not list(paths(simulation, ArmRestarted))


def test_a_retry_of_the_step_runs_its_pipelines_again_under_new_paths() -> None:
    @step(policy=Policy(retry=Retry(attempts_max=2, on=(RefusalError,))))
    async def stubborn(text: str, *, context: Context = injected) -> str:
        return await context.run(loud, text)

    @pipeline
    def tries(text: str) -> str:
        return stubborn(text)

    simulation = simulate(tries, World(), "")
    check_laws(simulation)
    assert isinstance(simulation.error, RefusalError)
    assert list(paths(simulation, StepStarted)) == [
        "stubborn",
        "stubborn[0]/loud/upper",
        "stubborn[1]/loud/upper",
    ]


def test_a_lost_race_ends_the_child_at_once() -> None:
    @pipeline
    def outrun(text: str) -> str:
        return race(forgiving(text), rested(text))

    simulation = simulate(outrun, World(), "a")
    check_laws(simulation)
    (stopped,) = [e for e in simulation.events if isinstance(e, StepCancelled) and "[" in e.step]
    assert (stopped.step, stopped.at_s) == ("forgiving[0]/loud/upper", 0.5)
    assert stopped.reason == "2:rested was committed to"


@step
async def rested(text: str) -> str:
    await trio.sleep(0.5)
    return text


def test_items_of_an_each_have_children_of_their_own() -> None:
    @pipeline
    def all_of(texts: list[str]) -> list[str]:
        return each(texts, forgiving, at_once=2)

    simulation = simulate(all_of, World(), ["a", "b"])
    check_laws(simulation)
    assert simulation.value == ["A", "B"]
    assert "each[1]/forgiving[0]/loud/upper" in paths(simulation, StepStarted)


@step
async def in_turn(texts: list[str], *, context: Context = injected) -> AsyncIterator[str]:
    for text in texts:
        yield await context.run(loud, text)


@step
async def first(chunks: Stream[str]) -> str:
    async for chunk in chunks:
        return chunk
    return ""


@pipeline
def streamed(texts: list[str]) -> Stream[str]:
    return in_turn(texts)


@pipeline
def left_early(texts: list[str]) -> str:
    return first(in_turn(texts))


def test_a_stream_may_run_a_pipeline_between_its_chunks() -> None:
    simulation = simulate(streamed, World(), ["a", "b"])
    check_laws(simulation)
    assert (simulation.value, simulation.lasted_s) == ("AB", 2.0)


def test_a_pipeline_ends_with_a_stream_that_nobody_reads_any_more() -> None:
    simulation = simulate(left_early, World(), ["a", "b"])
    check_laws(simulation)
    assert (simulation.value, simulation.lasted_s) == ("A", 1.0)
    assert "in_turn[1]/loud/upper" in {
        *paths(simulation, StepCancelled),
        *paths(simulation, StepSkipped),
    }


# ------------------------------------------------------------------------------------ bounds


@step
async def deeper(levels: int, *, context: Context = injected) -> int:
    return 1 + await context.run(dive, levels - 1) if levels else 0


@pipeline
def dive(levels: int) -> int:
    return deeper(levels)


def test_pipelines_run_one_another_only_so_deep() -> None:
    world = World(limits=Limits(pipelines_deep=3))
    assert simulate(dive, world, 3).value == 3
    simulation = simulate(dive, world, 4)
    check_laws(simulation)
    error = simulation.error
    assert isinstance(error, LimitExceededError)
    assert error.limit == "pipelines_deep"
    assert "runs pipeline 'dive', but is already nested in 3 pipelines" in str(error)


def test_items_of_an_each_are_as_deep_as_it() -> None:
    @pipeline
    def wide(levels: list[int]) -> list[int]:
        return each(levels, dive, at_once=1)

    @step
    async def starts(levels: list[int], *, context: Context = injected) -> list[int]:
        return await context.run(wide, levels)

    @pipeline
    def begins(levels: list[int]) -> list[int]:
        return starts(levels)

    world = World(limits=Limits(pipelines_deep=2))
    assert simulate(begins, world, [1]).value == [1]
    assert isinstance(simulate(begins, world, [2]).error, LimitExceededError)


def test_a_step_runs_only_so_many() -> None:
    world = World(limits=Limits(each_items=2))
    assert outcome(*[("counted", 1)] * 2, world=world).error is None
    error = error_of(*[("counted", 1)] * 3, world=world)
    assert isinstance(error, LimitExceededError)
    assert error.limit == "each_items"
    assert "step 'agent' has run 2 pipelines, and is to run 'counted'" in str(error)


def test_what_a_stream_gives_is_bounded_as_the_output_of_a_run() -> None:
    error = error_of(("counted", 3), world=World(limits=Limits(output_chunks=2)))
    assert isinstance(error, LimitExceededError)
    assert error.limit == "output_chunks"


def test_a_task_that_would_outlive_the_step_runs_nothing() -> None:
    found: list[Exception] = []

    async def use(engine: Engine, nursery: trio.Nursery) -> None:
        async def outside(context: Context) -> None:
            with pytest.raises(RunError, match=r"context\.run of step 'leaks' was called in a"):
                await context.run(loud, "a")
            found.append(RunError("refused"))

        @step
        async def leaks(text: str, *, context: Context = injected) -> str:
            nursery.start_soon(outside, context)
            await trio.sleep(1)
            return text

        @pipeline
        def leaking(text: str) -> str:
            return leaks(text)

        await engine.run(leaking, "a")

    async def main() -> None:
        async with open_engine() as engine, trio.open_nursery() as nursery:
            await use(engine, nursery)

    virtual(main)
    assert found


def test_a_plain_step_runs_nothing_after_its_end() -> None:
    """It has no task of its own: the one that called it may run for much longer."""

    @step
    def hands_on(text: str, *, context: Context = injected) -> list[object]:
        return [context, text]

    @step
    async def uses(given: list[object]) -> object:
        context: Any = given[0]
        return await context.run(loud, given[1])

    @pipeline
    def handed(text: str) -> object:
        return uses(hands_on(text))

    simulation = simulate(handed, World(), "a")
    check_laws(simulation)
    assert isinstance(simulation.error, RunError)
    assert "context.run of step 'hands_on' was called in a task" in str(simulation.error)


def test_a_step_that_is_being_stopped_begins_no_pipeline() -> None:
    @step
    async def stubborn(text: str, *, context: Context = injected) -> str:
        try:
            await trio.sleep(9)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await context.run(loud, text)
        return text

    @pipeline
    def contest(text: str) -> str:
        return race(rested(text), stubborn(text))

    simulation = simulate(contest, World(), "a")
    (failed,) = [e for e in simulation.events if isinstance(e, StepFailed)]
    assert failed.error == "RunError"
    assert "is being stopped (1:rested was committed to), so pipeline 'loud'" in failed.message


@step
async def cleans_up(text: str, *, context: Context = injected) -> str:
    try:
        await trio.sleep(9)
    finally:
        with trio.CancelScope(shield=True):
            await context.run(loud, text)
    return text


@pipeline
def cleans(text: str) -> str:
    return cleans_up(text)


@pipeline
def cleans_first(text: str) -> str:
    return rested(cleans_up(text))


@pytest.mark.parametrize("top", [cleans, cleans_first])
def test_a_run_that_is_being_stopped_begins_no_pipeline(top: Pipeline[..., Any]) -> None:
    for simulation in (
        simulate(top, World(cancel_at_s=1), "a"),
        simulate(top.using(deadline_s=1), World(), "a"),
    ):
        check_laws(simulation)
        assert list(paths(simulation, StepStarted)) == ["cleans_up"]
        (failed,) = [e for e in simulation.events if isinstance(e, StepFailed)]
        assert failed.message.startswith("step 'cleans_up' is being stopped (")


@pytest.mark.parametrize("top", [cleans, cleans_first])
def test_a_run_in_a_task_that_is_cancelled_begins_no_pipeline(top: Pipeline[..., Any]) -> None:
    observed: list[Event] = []

    async def main() -> None:
        async with open_engine(observe=lambda _: observed.append) as engine:
            with trio.move_on_after(1):
                await engine.run(top, "a")

    virtual(main)
    assert [e.step for e in observed if isinstance(e, StepStarted)] == ["cleans_up"]
    (failed,) = [e for e in observed if isinstance(e, StepFailed)]
    assert "(the task that ran it was cancelled)" in failed.message


@pytest.mark.parametrize("child", [cleans, cleans_first])
def test_a_pipeline_that_is_late_begins_no_pipeline(child: Pipeline[..., Any]) -> None:
    @step
    async def hurries(text: str, *, context: Context = injected) -> object:
        return await context.run(child.using(deadline_s=1), text)

    @pipeline
    def hurrying(text: str) -> object:
        return hurries(text)

    simulation = simulate(hurrying, World(), "a")
    check_laws(simulation)
    path = f"hurries[0]/{child.name}/cleans_up"
    assert list(paths(simulation, StepStarted)) == ["hurries", path]
    failed = next(e for e in simulation.events if isinstance(e, StepFailed))
    reason = f"deadline_s=1 s of pipeline '{child.name}' passed"
    assert failed.message.startswith(f"step '{path}' is being stopped ({reason})")


@pipeline
def twice(text: str) -> str:
    return rested(rested(text))


@pipeline
def of_each(text: str) -> list[str]:
    return each([text, text], lambda item: rested(rested(item)), at_once=2)


@pipeline
def of_a_race(text: str) -> str:
    return race(rested(rested(rested(text))), rested(rested(text)))


@pytest.mark.parametrize("child", [twice, of_each, of_a_race])
def test_a_shield_does_not_wait_for_what_cannot_start_any_more(child: Pipeline[..., Any]) -> None:
    ended_s: list[float] = []

    @step
    async def stubborn(text: str, *, context: Context = injected) -> str:
        with trio.CancelScope(shield=True):
            try:
                await context.run(child, text)
            finally:
                ended_s.append(trio.current_time())
        return text

    @step
    async def soon(text: str) -> str:
        await trio.sleep(0.25)
        return text

    @pipeline
    def contest(text: str) -> str:
        return race(soon(text), stubborn(text))

    simulation = simulate(contest, World(), "a")
    (failed,) = [e for e in simulation.events if isinstance(e, StepFailed)]
    assert "so pipeline" in failed.message
    assert "was stopped; clean up in the step itself" in failed.message
    assert simulation.value == "a"
    assert ended_s == [END_S]

    @pipeline
    def alone(text: str) -> str:
        return stubborn(text)

    @step
    async def hurries(text: str, *, context: Context = injected) -> str:
        return await context.run(alone.using(deadline_s=0.25), text)

    @pipeline
    def hurrying(text: str) -> str:
        return hurries(text)

    for simulation in (
        simulate(alone, World(cancel_at_s=0.25), "a"),
        simulate(alone.using(deadline_s=0.25), World(), "a"),
        simulate(hurrying, World(), "a"),
    ):
        assert simulation.lasted_s == END_S
        failed = next(e for e in simulation.events if isinstance(e, StepFailed))
        assert "was stopped; clean up in the step itself" in failed.message
    assert ended_s == [END_S] * 4


def test_a_step_in_a_thread_runs_pipelines_in_its_own_task() -> None:
    @step(thread=True)
    def blocking(text: str, *, context: Context = injected) -> str:
        return trio.from_thread.run(partial(context.run, asked_back, text))

    @pipeline
    def threaded(text: str) -> str:
        return blocking(text)

    async def main() -> str:
        async with open_engine() as engine:
            return await engine.run(threaded, "a")

    assert trio.run(main) == "a!"


def test_a_thread_is_lent_to_the_pipelines_that_are_run_from_it() -> None:
    """As many steps as there are threads would otherwise all wait for one more."""

    @step(thread=True)
    def lower(text: str) -> str:
        return text.lower()

    @pipeline
    def lowered(texts: list[str]) -> list[str]:
        return each(texts, lower, at_once=2)

    @step(thread=True)
    def blocking(texts: list[str], *, context: Context = injected) -> list[str]:
        return trio.from_thread.run(lambda: context.run(lowered, texts))

    @pipeline
    def threaded(texts: list[str]) -> list[str]:
        return blocking(texts)

    async def main() -> None:
        async with open_engine() as engine:
            engine.shared.threads.places.total_tokens = 1
            with trio.fail_after(30):
                assert await engine.run(threaded, ["A", "B"]) == ["a", "b"]

    trio.run(main)


def test_the_pipelines_that_a_step_in_a_thread_runs_at_once_share_its_thread() -> None:
    """Otherwise a step that holds one place could have ten thousand threads."""
    waited: list[int] = []

    async def note_waiting() -> None:
        await trio.testing.wait_all_tasks_blocked()
        stacks = [[f.f_code.co_name for f, _ in t.iter_await_frames()] for t in all_tasks()]
        waited.append(sum("acquire_on_behalf_of" in names for names in stacks))

    @step(thread=True)
    def lower(text: str) -> str:
        trio.from_thread.run(note_waiting)
        return text.lower()

    @pipeline
    def lowered(text: str) -> str:
        return lower(text)

    @step(thread=True)
    def blocking(texts: list[str], *, context: Context = injected) -> None:
        async def all_at_once() -> None:
            async with trio.open_nursery() as nursery:
                for text in texts:
                    nursery.start_soon(context.run, lowered, text)

        trio.from_thread.run(all_at_once)

    @pipeline
    def threaded(texts: list[str]) -> None:
        return blocking(texts)

    async def main() -> None:
        async with open_engine() as engine:
            await engine.run(threaded, ["A", "B", "C"])

    trio.run(main)
    assert waited == [2, 1, 0]


@step
async def exclaimed(text: str) -> str:
    return text + "!"


@pipeline
def asked_back(text: str) -> str:
    return exclaimed(text)


# ---------------------------------------------------------------------- simulations, and views


def test_a_world_scripts_the_steps_of_children() -> None:
    scripts = {"upper": Gives("scripted")}
    world = World(children=[loud], steps=scripts)
    assert outcome(("loud", "a"), ("spelled", "b"), world=world).value == ["scripted", "scripted"]
    failing = attrs.evolve(world, steps={"upper": Fails(RefusalError("scripted"))})
    assert repr(error_of(("loud", "a"), world=failing)) == "RefusalError('scripted')"
    with pytest.raises(DefinitionError, match="not a step of 'top'; its steps are: agent"):
        outcome(("loud", "a"), world=World(steps=scripts))


def test_the_children_of_a_world_are_pipelines() -> None:
    with pytest.raises(TypeError, match=r"write children=\[some_pipeline\]"):
        World(children=loud)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="step 'upper' is not a pipeline"):
        World(children=[upper])  # type: ignore[list-item]


def test_in_a_trace_a_child_is_a_group_inside_its_step() -> None:
    simulation = outcome(("spelled", "a"))
    found = spans(simulation.events, [], RELEASED)
    above = {each.path: found[each.parent or 0].path for each in found[1:]}
    assert above == {
        "agent": "",
        "agent[0]": "agent",
        "agent[0]/spelled": "agent[0]",
        "agent[0]/spelled/upper": "agent[0]/spelled",
        "agent[0]/spelled/letters": "agent[0]/spelled",
    }
    assert found[4].name == "agent[*]/spelled/upper"


def test_the_laws_tell_children_of_the_same_name_apart() -> None:
    @pipeline(name="same")
    def one(text: str) -> str:
        return upper(upper(text))

    @pipeline(name="same")
    def other(text: str) -> str:
        return upper(text)

    @step
    async def both(text: str, *, context: Context = injected) -> str:
        return await context.run(one, text) + await context.run(other, text)

    @pipeline
    def runs_both(text: str) -> str:
        return both(text)

    check_laws(simulate(runs_both, World(), "a"))


def test_steps_of_a_child_that_never_began_are_skipped() -> None:
    simulation = outcome(("spelled", ""))
    assert list(paths(simulation, StepSkipped)) == ["agent[0]/spelled/letters"]
