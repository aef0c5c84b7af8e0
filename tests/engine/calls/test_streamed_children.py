"""`context.stream`: a step passes on the chunks of a pipeline that it has chosen, as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
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
    Stream,
    collect,
    fallback,
    injected,
    pipeline,
    race,
    step,
)
from orchestra.accounts import Usage
from orchestra.engine.engine import open_engine
from orchestra.errors import (
    DeadlineError,
    DefinitionError,
    EdgeTypeError,
    LimitExceededError,
    RunError,
)
from orchestra.events import (
    Delta,
    Event,
    RunFailed,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
)
from orchestra.steps import generate
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Gives
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Stopped, StopReason, TextDelta
from tests.engine.freed import assert_freed_when_done


class RefusalError(Exception):
    """A step was told to fail."""


# ------------------------------------------------------------------------------------- laws


@attrs.frozen
class Do:
    """What a step says and does: it waits, passes on what children say, in turn, and fails, or not.

    It takes at most `most` chunks of each child. `inside` names the pipeline that it is a step of.
    """

    says: int = 0
    inside: str = "direct"
    wait_s: float = 0.25
    children: tuple[Do, ...] = ()
    fails: bool = False
    forgives: bool = False
    most: int | None = None
    deadline_s: float | None = None


@step
async def act(do: Do, streamed: bool, *, context: Context = injected) -> AsyncIterator[int]:
    context.used(Usage(1, 0))
    yield do.says
    await trio.sleep(do.wait_s)
    for child in do.children:
        chosen = INSIDE[child.inside].using(deadline_s=child.deadline_s)
        try:
            if streamed:
                async with context.stream(chosen, child, streamed) as chunks:
                    left = do.most
                    async for chunk in chunks:
                        yield chunk
                        left = None if left is None else left - 1
                        if left == 0:
                            break
            else:
                for chunk in await context.run(chosen, child, streamed):
                    yield chunk
        except RefusalError:
            if not do.forgives:
                raise
        except DeadlineError:
            assert child.deadline_s is not None
    if do.fails:
        raise RefusalError(context.step)
    yield -do.says


@step
async def passed_on(chunks: Stream[int]) -> AsyncIterator[int]:
    async for chunk in chunks:
        yield chunk


@step
async def nothing(do: Do) -> AsyncIterator[int]:
    await trio.sleep(1000)
    yield do.says


@step
async def ready(do: Do) -> Do:
    await trio.sleep(0.25)
    return do


@pipeline
def direct(do: Do, streamed: bool) -> Stream[int]:
    return act(do, streamed)


@pipeline
def after(do: Do, streamed: bool) -> Stream[int]:
    return passed_on(act(ready(do), streamed))


@pipeline
def in_race(do: Do, streamed: bool) -> Stream[int]:
    return race(nothing(do), act(do, streamed))


INSIDE: dict[str, Pipeline[..., Stream[int]]] = {
    each.name: each for each in (direct, after, in_race)
}
WAITS = st.sampled_from([0.25, 1.0])
NONE = st.none()


def deeds(
    *,
    most: st.SearchStrategy[int | None] = NONE,
    deadlines: st.SearchStrategy[float | None] = NONE,
) -> st.SearchStrategy[Do]:
    """Trees of children."""

    def above(children: st.SearchStrategy[Do]) -> st.SearchStrategy[Do]:
        several = st.lists(children, max_size=3).map(tuple)
        flags = st.booleans()
        return st.builds(Do, says, inside, WAITS, several, flags, flags, most, deadlines)

    says, inside = st.integers(1, 9), st.sampled_from([*INSIDE])
    leaves = st.builds(Do, says, inside, WAITS, fails=st.booleans(), deadline_s=deadlines)
    return st.recursive(leaves, above, max_leaves=6)


def kinds(simulation: Simulation[Any]) -> dict[str, list[str]]:
    """The types of the events of each step, in order."""
    found: dict[str, list[str]] = {}
    for event in simulation.events:
        if isinstance(event, StepStarted | StepFinished | StepFailed | StepCancelled | StepSkipped):
            found.setdefault(event.step, []).append(event.type)
    return found


def usage(simulation: Simulation[Any]) -> Usage:
    return getattr(simulation.events[-1], "usage", None) or Usage()


@given(deeds(), worlds())
def test_a_tree_of_streams_gives_what_a_tree_of_runs_does(do: Do, world: World) -> None:
    """The chunks before an error that is forgiven are the only difference."""
    streamed = simulate(INSIDE[do.inside], world, do, True)
    whole = simulate(INSIDE[do.inside], world, do, False)
    check_laws(streamed)
    check_laws(whole)
    assert repr(streamed.error) == repr(whole.error)
    assert kinds(streamed) == kinds(whole)
    assert usage(streamed) == usage(whole)
    assert streamed.lasted_s == whole.lasted_s
    if not any(isinstance(event, StepFailed) for event in whole.events):
        assert streamed.value == whole.value


SOON = st.none() | st.sampled_from([0.25, 0.75, 1.25])


@given(
    deeds(most=st.none() | st.integers(1, 3), deadlines=SOON), worlds(cancels=True) | worlds(), SOON
)
def test_whatever_ends_a_step_ends_what_it_streams_and_all_is_counted_once(
    do: Do, world: World, deadline_s: float | None
) -> None:
    simulation = simulate(INSIDE[do.inside].using(deadline_s=deadline_s), world, do, True)
    check_laws(simulation)
    begun = [e for e in simulation.events if isinstance(e, StepStarted) and e.step.endswith("act")]
    assert usage(simulation).input_tokens == len(begun)
    stopped = [e for e in simulation.events if isinstance(e, StepCancelled | StepSkipped)]
    assert "the task that ran it was cancelled" not in {e.reason for e in stopped}


# --------------------------------------------------------------------------------- examples


@step
async def upper(text: str) -> str:
    if not text:
        raise RefusalError("it is empty")
    return text.upper()


@step
async def letters(text: str) -> AsyncIterator[str]:
    for letter in text:
        await trio.sleep(1)
        if letter == "!":
            raise RefusalError("it is loud")
        yield letter


@pipeline
def loud(text: str) -> str:
    return upper(text)


@pipeline
def spelled(text: str) -> Stream[str]:
    return letters(upper(text))


@pipeline(deadline_s=2.5)
def hurried(text: str) -> Stream[str]:
    return letters(text)


@pipeline
def asks(text: str) -> Stream[str]:
    return generate(text, output_tokens_max=9)


@pipeline
def spelled_out(text: str) -> Stream[str]:
    return letters(collect(generate(text, output_tokens_max=9)))


@step
async def broken(text: str) -> AsyncIterator[str]:
    yield text
    await trio.sleep(1)
    raise RefusalError("cut")


@pipeline
def anew(text: str) -> Stream[str]:
    return fallback(broken(text), letters(text), restart=True)


KNOWN: dict[str, Pipeline[..., Any]] = {
    each.name: each for each in (loud, spelled, hurried, asks, anew, spelled_out)
}


@step
async def agent(
    name: str, text: str, most: int = 1000, *, context: Context = injected
) -> AsyncIterator[str]:
    """Passes on what the pipeline says, up to `most` chunks."""
    async with context.stream(KNOWN[name], text) as chunks:
        async for chunk in chunks:
            yield chunk
            most -= 1
            if not most:
                break
    await trio.sleep(1)


@pipeline
def top(name: str, text: str, most: int = 1000) -> Stream[str]:
    return agent(name, text, most)


def outcome(name: str, text: str, most: int = 1000, *, world: World = World()) -> Simulation[str]:
    simulation = simulate(top, world, name, text, most)
    check_laws(simulation)
    return simulation


def of(simulation: Simulation[Any], kind: type[Event]) -> Iterator[Any]:
    return (each for each in simulation.events if isinstance(each, kind))


def test_each_chunk_is_passed_on_at_its_own_time() -> None:
    simulation = outcome("spelled", "abc")
    assert [(each.chunk, each.at_s) for each in of(simulation, Delta)] == [
        ("A", 1.0),
        ("B", 2.0),
        ("C", 3.0),
    ]
    assert [each.step for each in of(simulation, StepFinished)] == [
        "agent[0]/spelled/upper",
        "agent[0]/spelled/letters",
        "agent",
    ]


def test_leaving_the_block_stops_the_pipeline_at_once() -> None:
    simulation = outcome("spelled", "abc", 1)
    assert simulation.value == "A"
    (stopped,) = of(simulation, StepCancelled)
    assert (stopped.step, stopped.at_s) == ("agent[0]/spelled/letters", 1.0)
    assert stopped.reason == "nobody reads its stream any more"


def test_an_error_arrives_as_it_was_raised_and_the_innermost_step_is_blamed() -> None:
    simulation = outcome("spelled", "ab!c")
    error, end = simulation.error, simulation.events[-1]
    assert isinstance(error, RefusalError)
    assert error.__context__ is None
    assert error.__cause__ is None
    (note,) = error.__notes__
    assert note.startswith("in step 'agent[0]/spelled/letters' of pipeline 'top', called at ")
    assert isinstance(end, RunFailed)
    assert (end.step, end.at_s) == ("agent[0]/spelled/letters", 3.0)
    assert [each.chunk for each in of(simulation, Delta)] == ["A", "B"]


def test_an_error_before_the_first_chunk_is_raised_by_the_first_read() -> None:
    simulation = outcome("spelled", "")
    assert repr(simulation.error) == "RefusalError('it is empty')"
    assert [each.step for each in of(simulation, StepSkipped)] == ["agent[0]/spelled/letters"]


def test_the_step_may_catch_the_error_in_the_block() -> None:
    @step
    async def forgiving(text: str, *, context: Context = injected) -> AsyncIterator[str]:
        async with context.stream(spelled, text) as chunks:
            try:
                async for chunk in chunks:
                    yield chunk
            except RefusalError as error:
                yield f" ({error})"

    @pipeline
    def forgives(text: str) -> Stream[str]:
        return forgiving(text)

    simulation = simulate(forgives, World(), "a!")
    check_laws(simulation)
    assert simulation.value == "A (it is loud)"


def test_what_the_step_raises_in_the_block_is_its_own_error() -> None:
    @step
    async def choosy(text: str, *, context: Context = injected) -> AsyncIterator[str]:
        async with context.stream(spelled, text) as chunks:
            async for chunk in chunks:
                yield chunk
                raise RefusalError("choosy")

    @pipeline
    def chooses(text: str) -> Stream[str]:
        return choosy(text)

    simulation = simulate(chooses, World(), "ab")
    check_laws(simulation)
    assert repr(simulation.error) == "RefusalError('choosy')"
    (stopped,) = of(simulation, StepCancelled)
    assert (stopped.step, stopped.at_s) == (
        "agent[0]/spelled/letters".replace("agent", "choosy"),
        1,
    )


def test_the_deadline_of_the_pipeline_is_raised_in_the_block() -> None:
    simulation = outcome("hurried", "abc")
    error = simulation.error
    assert isinstance(error, DeadlineError)
    assert str(error) == (
        "pipeline 'hurried', which step 'agent' ran, was not done within deadline_s=2.5 s"
    )
    assert [each.chunk for each in of(simulation, Delta)] == ["a", "b"]
    assert simulation.lasted_s == 2.5


def test_a_restart_is_an_error_for_what_was_read_cannot_be_taken_back() -> None:
    simulation = outcome("anew", "ab")
    error = simulation.error
    assert isinstance(error, RunError)
    assert str(error) == (
        "step 'agent' streams a pipeline that restarts its output: 'agent[0]/anew/fallback' goes "
        "on to arm 2:letters, and the chunks before are void; use context.run, or write the "
        "fallback without restart=True"
    )
    assert [each.chunk for each in of(simulation, Delta)] == ["ab"]


def test_a_pipeline_that_gives_a_value_is_refused() -> None:
    error = outcome("loud", "a").error
    assert isinstance(error, EdgeTypeError)
    assert str(error) == (
        "step 'agent' streams pipeline 'loud', whose result is a value, not a stream; write `await "
        "context.run(loud, ...)`"
    )


def test_what_is_no_pipeline_is_refused() -> None:
    @step
    async def misused(text: str, *, context: Context = injected) -> AsyncIterator[str]:
        step_itself: Any = letters
        async with context.stream(step_itself, text) as chunks:
            async for chunk in chunks:
                yield chunk

    @pipeline
    def misuse(text: str) -> Stream[str]:
        return misused(text)

    error = simulate(misuse, World(), "a").error
    assert isinstance(error, DefinitionError)
    assert "step 'letters' is not a pipeline" in str(error)


CUT = ScriptedModel(
    ((0.0, TextDelta("a")), (0.0, TextDelta("b")), (0.0, Stopped(StopReason.LENGTH)))
)


@pytest.mark.parametrize(
    ("name", "most", "expected"),
    [("asks", 9, True), ("spelled_out", 9, True), ("spelled_out", 1, True), ("spelled", 9, False)],
)
def test_what_is_made_of_a_cut_answer_is_cut(name: str, most: int, expected: bool) -> None:
    """Also if the step leaves before the last chunk."""
    simulation = outcome(name, "a", most, world=World(models={"default": CUT}))
    assert getattr(simulation.events[-1], "cut", None) is expected


def test_the_reader_of_the_step_holds_back_the_pipeline() -> None:
    made: list[int] = []

    @step
    async def numbers(most: int) -> AsyncIterator[int]:
        for number in range(most):
            made.append(number)
            yield number

    @pipeline
    def counted(most: int) -> Stream[int]:
        return numbers(most)

    @step
    async def relayed(most: int, *, context: Context = injected) -> AsyncIterator[int]:
        async with context.stream(counted, most) as chunks:
            async for chunk in chunks:
                yield chunk

    @step
    async def slow(chunks: Stream[int]) -> int:
        async for _ in chunks:
            await trio.sleep(1)
            return len(made)
        return 0

    @pipeline
    def held(most: int) -> int:
        return slow(relayed(most))

    simulation = simulate(held, World(limits=Limits(lane_chunks=4)), 1000)
    check_laws(simulation)
    assert simulation.value is not None
    assert 4 <= simulation.value <= 3 * 4 + 4  # three lanes, and a chunk in each hand
    assert len(made) == simulation.value


def test_chunks_cannot_be_read_outside_the_block() -> None:
    @step
    async def late(text: str, *, context: Context = injected) -> AsyncIterator[str]:
        async with context.stream(spelled, text) as chunks:
            pass
        async for chunk in chunks:
            yield chunk

    @pipeline
    def too_late(text: str) -> Stream[str]:
        return late(text)

    simulation = simulate(too_late, World(), "a")
    check_laws(simulation)
    assert isinstance(simulation.error, RunError)
    assert "can be read only inside its block" in str(simulation.error)


def test_bounds_are_those_of_run() -> None:
    @step
    async def deeper(levels: int, *, context: Context = injected) -> AsyncIterator[int]:
        yield levels
        if levels:
            async with context.stream(dive, levels - 1) as chunks:
                async for chunk in chunks:
                    yield chunk

    @pipeline
    def dive(levels: int) -> Stream[int]:
        return deeper(levels)

    world = World(limits=Limits(pipelines_deep=3))
    assert simulate(dive, world, 3).value == [3, 2, 1, 0]
    simulation = simulate(dive, world, 4)
    check_laws(simulation)
    assert isinstance(simulation.error, LimitExceededError)
    assert simulation.error.limit == "pipelines_deep"


def test_a_chunk_counts_although_the_step_was_busy_when_its_time_was_over() -> None:
    @step(policy=Policy(first_chunk_s=1.5, idle_s=1.5))
    async def busy(text: str, *, context: Context = injected) -> AsyncIterator[str]:
        async with context.stream(spelled, text) as chunks:
            async for chunk in chunks:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.75)
                yield chunk

    @pipeline
    def hesitant(text: str) -> Stream[str]:
        return busy(text)

    simulation = simulate(hesitant, World(), "abc")
    check_laws(simulation)
    assert (simulation.value, simulation.lasted_s) == ("ABC", 3.75)


@pytest.mark.parametrize("patience_s", [0.5, 1.5])
def test_a_scope_of_the_step_stops_the_pipeline_with_the_block(patience_s: float) -> None:
    @step
    async def patient(text: str, *, context: Context = injected) -> AsyncIterator[str]:
        said = []
        with trio.move_on_after(patience_s):
            async with context.stream(spelled, text) as chunks:
                said += [chunk async for chunk in chunks]
        await trio.sleep(1)
        yield "".join(said) + "."

    @pipeline
    def gives_up(text: str) -> Stream[str]:
        return patient(text)

    simulation = simulate(gives_up, World(), "abc")
    check_laws(simulation)
    assert (simulation.value, simulation.lasted_s) == (".", patience_s + 1)
    (stopped,) = of(simulation, StepCancelled)
    assert (stopped.at_s, stopped.reason) == (patience_s, "nobody reads its stream any more")


def test_several_are_read_at_the_same_time() -> None:
    @step
    async def both(text: str, *, context: Context = injected) -> str:
        said: list[str] = []
        async with context.stream(spelled, text) as one, context.stream(spelled, text) as other:
            async for chunk in one:
                said += [chunk, await anext(other)]
        return "".join(said)

    @pipeline
    def doubled(text: str) -> str:
        return both(text)

    simulation = simulate(doubled, World(), "ab")
    check_laws(simulation)
    assert (simulation.value, simulation.lasted_s) == ("AABB", 2.0)


@pytest.mark.parametrize("most", [9, 1])
def test_a_run_that_is_done_is_freed_with_its_last_reference(most: int) -> None:
    assert_freed_when_done({"name": "spelled", "text": "ab", "most": most}, top)


def test_of_two_that_fail_the_one_whose_error_is_raised_is_blamed() -> None:
    @step
    async def both(text: str, *, context: Context = injected) -> str:
        async with context.stream(spelled, text) as one, context.stream(spelled, "a!"):
            await trio.sleep(9)
            return "".join([chunk async for chunk in one])

    @pipeline
    def doubled(text: str) -> str:
        return both(text)

    simulation = simulate(doubled, World(), "!")
    check_laws(simulation)
    assert getattr(simulation.events[-1], "step", "") == "both[0]/spelled/letters"


def test_a_world_scripts_the_steps_of_a_streamed_pipeline() -> None:
    world = World(children=[spelled], steps={"upper": Gives("xy")})
    assert outcome("spelled", "abc", world=world).value == "xy"


def test_a_step_in_a_thread_streams_in_its_own_task() -> None:
    @step
    async def shouted(text: str) -> AsyncIterator[str]:
        for letter in text:
            yield letter.upper()

    @pipeline
    def shouts(text: str) -> Stream[str]:
        return shouted(text)

    @step(thread=True)
    def blocking(text: str, *, context: Context = injected) -> str:
        async def read() -> str:
            async with context.stream(shouts, text) as chunks:
                return "-".join([chunk async for chunk in chunks])

        return trio.from_thread.run(read)

    @pipeline
    def threaded(text: str) -> str:
        return blocking(text)

    async def main() -> str:
        async with open_engine() as engine:
            return await engine.run(threaded, "ab")

    assert trio.run(main) == "A-B"


def test_a_shield_does_not_wait_for_what_cannot_start_any_more() -> None:
    found: list[tuple[float, str]] = []

    @step
    async def half(text: str) -> str:
        await trio.sleep(0.5)
        return text

    @pipeline
    def late(text: str) -> Stream[str]:
        return letters(half(half(text)))

    @step
    async def stubborn(text: str, *, context: Context = injected) -> AsyncIterator[str]:
        with trio.CancelScope(shield=True):
            async with context.stream(late, text) as chunks:
                try:
                    async for chunk in chunks:
                        yield chunk
                except RunError as error:
                    found.append((trio.current_time(), str(error)))

    @pipeline
    def stopped(text: str) -> Stream[str]:
        return stubborn(text)

    simulate(stopped, World(cancel_at_s=0.25), "abc")
    ((at_s, message),) = found
    assert at_s == 0.25
    assert "is being stopped" in message
    assert "so pipeline 'late' was stopped; clean up in the step itself" in message
