"""Nesting: what a pipeline that a step runs has from the step: its deadlines, cuts and thread."""

from __future__ import annotations

from math import inf
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra import (
    Context,
    Pipeline,
    Stream,
    collect,
    each,
    fallback,
    injected,
    pipeline,
    route,
    step,
)
from orchestra.engine.engine import open_engine
from orchestra.errors import DeadlineError
from orchestra.events import Event, StepCancelled, StepSkipped
from orchestra.steps import generate, tool
from orchestra.steps.conversation import calling
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import worlds
from orchestra.testing.turns import ScriptedAnswers, ScriptedTurns
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import ChatRequest, Stopped, StopReason, TextDelta, ToolCall, ToolResult


@step
async def upper(text: str) -> str:
    await trio.sleep(1)
    return text.upper()


@step
def joined(one: str, other: str) -> str:
    return one + other


# ---------------------------------------------------------------------------------- deadlines


@pipeline
def all_upper(text: str) -> list[str]:
    return each([text], lambda item: joined(upper(item), "!"), at_once=1)


@step
async def middle(text: str, *, context: Context = injected) -> list[str]:
    return await context.run(all_upper, text)


@pipeline(deadline_s=0.5)
def hurried(text: str) -> list[str]:
    return middle(text)


@step
async def outer(text: str, *, context: Context = injected) -> list[str]:
    return await context.run(hurried, text)


@pipeline
def begins(text: str) -> list[str]:
    return outer(text)


def test_steps_name_the_deadline_that_stops_them_also_one_around_their_own_pipeline() -> None:
    simulation = simulate(begins, World(), "a")
    check_laws(simulation)
    assert isinstance(simulation.error, DeadlineError)
    ended = [e for e in simulation.events if isinstance(e, StepCancelled | StepSkipped)]
    prefix = "outer[0]/hurried/"
    assert {e.step for e in ended} == {
        f"{prefix}middle",
        f"{prefix}middle[0]/all_upper/each",
        f"{prefix}middle[0]/all_upper/each[0]/upper",
        f"{prefix}middle[0]/all_upper/each[0]/joined",
    }
    assert {(e.reason, e.at_s) for e in ended} == {
        ("deadline_s=0.5 s of pipeline 'hurried' passed", 0.5)
    }


def test_a_step_that_is_stopped_earlier_does_not_blame_the_deadline() -> None:
    @step
    async def impatient(text: str, *, context: Context = injected) -> list[str]:
        with trio.move_on_after(0.25):
            return await context.run(hurried, text)
        return []

    @pipeline
    def top(text: str) -> list[str]:
        return impatient(text)

    simulation = simulate(top, World(), "a")
    check_laws(simulation)
    assert {e.reason for e in simulation.events if isinstance(e, StepCancelled)} == {
        "the task that ran it was cancelled"
    }


def test_a_deadline_that_passes_before_a_pipeline_begins_is_the_error_of_that_deadline() -> None:
    """Trio cancels what is late in the next turn of its loop; the clock shows it before."""
    clock = trio.testing.MockClock()

    @step
    async def dawdles(text: str, *, context: Context = injected) -> list[str]:
        clock.jump(1)
        return await context.run(all_upper, text)

    @pipeline(deadline_s=0.5)
    def hastened(text: str) -> list[str]:
        return dawdles(text)

    @step
    async def waits(text: str, *, context: Context = injected) -> str:
        with pytest.raises(DeadlineError, match="'hastened', which step 'waits' ran"):
            await context.run(hastened, text)
        return text

    @pipeline
    def top(text: str) -> str:
        return waits(text)

    async def main() -> tuple[Event, ...]:
        async with open_engine() as engine:
            run = engine.start(top, {"text": "a"})
            assert await run.result() == "a"
            return run.journal.kept

    events = trio.run(main, clock=clock)
    assert [e.step for e in events if isinstance(e, StepCancelled)] == ["waits[0]/hastened/dawdles"]


# ---------------------------------------------------------------------------------------- cuts

CUT = ScriptedModel(((0.0, TextDelta("a")), (0.0, Stopped(StopReason.LENGTH))))
BOTH = World(models={"cut": CUT, "whole": ScriptedModel.saying("b")})


@pipeline
def asks(text: str) -> str:
    return collect(generate(text, model="cut", output_tokens_max=9))


@pipeline
def asks_another(text: str) -> str:
    return collect(generate(text, model="whole"))


@pipeline
def beside(text: str) -> str:
    return joined(text, asks_another("Go on."))


@pipeline
def beside_each(text: str) -> list[str]:
    return each(["1"], lambda item: joined(text, asks_another(item)), at_once=1)


@step
def listed(text: str) -> list[str]:
    return [text, "."]


@step
def joined_all(texts: list[str]) -> str:
    return "".join(texts)


@step
async def refusing(text: str) -> str:
    raise ValueError(text)


@attrs.frozen
class Tree:
    """An expression that makes a text of a text."""

    what: str
    of: tuple[Tree, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether it asks a model."""
        return self.what in ("cut", "whole") or any(each.asks for each in self.of)

    @property
    def uses(self) -> bool:
        """Whether it has the text in it anywhere."""
        parts = self.of[:1] if self.what in ("each", "nested") else self.of
        return self.what == "text" or any(each.uses for each in parts)

    def built(self, text: str, *, nests: bool) -> str:
        """The expression, in a pipeline in which the text is a wire."""

        def part(index: int, text: str) -> str:
            return self.of[index].built(text, nests=nests)

        match self.what:
            case "text":
                return text
            case "joined":
                return joined(part(0, text), part(1, text))
            case "cut":
                return asks(part(0, text))
            case "whole":
                return asks_another(part(0, text))
            case "fallback":
                made = part(0, text)
                return fallback(refusing(made), joined(made, made))
            case "each":
                items = listed(part(0, text))
                return joined_all(each(items, lambda item: part(1, item), at_once=1))
            case "each_beside":
                items = listed("word")
                return joined_all(each(items, lambda item: part(0, joined(item, text)), at_once=1))
            case "nested":
                given = part(0, text)
                return runs_tree(given, self.of[1]) if nests else part(1, given)
        return joined("word", "")


@step
async def runs_tree(text: str, tree: Tree, *, context: Context = injected) -> str:
    @pipeline(name=f"inner{hash(tree)}")  # by names, the laws know pipelines from one another
    def inner(text: str) -> str:
        return tree.built(text, nests=True)

    return await context.run(inner, text)


def above(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    using = inner.filter(lambda tree: tree.uses)
    return st.one_of(
        st.builds(Tree, st.sampled_from(["cut", "whole", "fallback"]), st.tuples(inner)),
        st.builds(Tree, st.just("joined"), st.tuples(inner, inner)),
        st.builds(Tree, st.just("each_beside"), st.tuples(using)),
        st.builds(Tree, st.sampled_from(["each", "nested"]), st.tuples(inner, using)),
    )


TEXT = Tree("text")
ASKED_IN_ITEMS = Tree(
    "nested", (Tree("cut", (TEXT,)), Tree("each_beside", (Tree("whole", (TEXT,)),)))
)
TREES = st.recursive(st.sampled_from([TEXT, Tree("word")]), above, max_leaves=8)


@given(TREES.filter(lambda tree: tree.uses), worlds())
@example(ASKED_IN_ITEMS, World())
def test_cut_is_what_would_be_cut_in_place(tree: Tree, world: World) -> None:
    """A step that runs a pipeline gives half a text where the pipeline in its place would.

    Where neither a model answered in the pipeline nor its result was made of the input, the step
    counts by its own inputs, since it may pass those on.
    """
    found = []
    for nests in (False, True):

        @pipeline
        def top(text: str) -> str:
            return tree.built(text, nests=nests)

        simulation = simulate(top, attrs.evolve(world, models=BOTH.models), "a")
        check_laws(simulation)
        assert simulation.error is None
        found.append(getattr(simulation.events[-1], "cut", None))
    in_place, nested = found
    assert nested == in_place


INNER: dict[str, Pipeline[..., Any]] = {
    each.name: each for each in (asks_another, beside, beside_each)
}


@step
async def runs(text: str, name: str, *, context: Context = injected) -> object:
    return await context.run(INNER[name], text)


@pipeline
def nested(name: str) -> object:
    return runs(asks("?"), name)


@pipeline
def in_place(name: str) -> object:
    text = asks("?")
    return route(name, {name: inner(text) for name, inner in INNER.items()})


@pytest.mark.parametrize(
    ("name", "cut"), [("beside", True), ("beside_each", True), ("asks_another", False)]
)
@pytest.mark.parametrize("top", [nested, in_place])
def test_half_a_text_in_an_input_counts_as_where_the_pipeline_is_called_in_place(
    top: Pipeline[[str], object], name: str, *, cut: bool
) -> None:
    simulation = simulate(top, BOTH, name)
    check_laws(simulation)
    assert simulation.error is None
    assert getattr(simulation.events[-1], "cut", None) is cut


def test_what_a_pipeline_makes_of_the_cut_answer_of_an_earlier_one_is_cut() -> None:
    @step
    async def both(text: str, *, context: Context = injected) -> str:
        return await context.run(beside, await context.run(asks, text))

    @pipeline
    def one_after_the_other(text: str) -> str:
        return both(text)

    simulation = simulate(one_after_the_other, BOTH, "a")
    check_laws(simulation)
    assert getattr(simulation.events[-1], "cut", None) is True


def test_half_a_text_stays_half_beside_a_pipeline_that_neither_reads_it_nor_asks_a_model() -> None:
    @pipeline
    def constant() -> str:
        return upper("b")

    @step
    async def adds(text: str, *, context: Context = injected) -> str:
        return text + await context.run(constant)

    @pipeline
    def added(text: str) -> str:
        return adds(asks(text))

    simulation = simulate(added, BOTH, "?")
    check_laws(simulation)
    assert simulation.value == "aB"
    assert getattr(simulation.events[-1], "cut", None) is True


# -------------------------------------------------------------------------------------- threads


@step(thread=True)
def lower(text: str) -> str:
    return text.lower()


@pipeline
def lowered(text: str) -> str:
    return lower(text)


@tool(thread=True)
def look_up(text: str, *, context: Context = injected) -> str:
    """A tool that waits, in its thread, for a pipeline with a step in a thread."""
    return trio.from_thread.run(context.run, lowered, text)


@pipeline
def looks_up(text: str) -> Stream[str]:
    return generate(text, model="inner", tools=[look_up])


@step(thread=True)
def blocking(text: str, *, context: Context = injected) -> str:
    return trio.from_thread.run(context.run, looks_up, text)


@pipeline
def blocked(text: str) -> str:
    return blocking(text)


@tool(thread=True)
def ask(text: str, *, context: Context = injected) -> str:
    """A tool that waits, in its thread, for a pipeline with steps and tools in threads."""
    return trio.from_thread.run(context.run, blocked, text)


@pipeline
def asking(text: str) -> Stream[str]:
    return generate(text, model="outer", tools=[ask])


@pytest.mark.parametrize("top", [asking, blocked])
def test_tools_and_steps_in_threads_lend_theirs_to_what_they_wait_for(
    top: Pipeline[[str], Any],
) -> None:
    """Otherwise, if all threads are held by tools that wait for tools, none ever ends."""
    outside = ScriptedTurns.saying(ToolCall("1", "ask", '{"text": "A"}'), "Done.")
    inside = ScriptedTurns.saying(ToolCall("1", "look_up", '{"text": "B"}'), "Found.")

    async def main() -> None:
        async with open_engine(World(models={"outer": outside, "inner": inside})) as engine:
            engine.shared.threads.places.total_tokens = 1
            calling._THREADS.get().places.total_tokens = 1
            with trio.fail_after(10):
                await engine.run(top, "?")

    trio.run(main)
    assert inside.asked[1].messages[-1].parts[0] == ToolResult("1", "look_up", "b")


@tool(thread=True)
def look_up_all(text: str, *, context: Context = injected) -> list[str]:
    """A tool that waits, in its thread, for a pipeline with several steps in threads."""
    return trio.from_thread.run(context.run, all_lowered, text)


@pipeline
def all_lowered(text: str) -> list[str]:
    return each([text, text], lower, at_once=2)


@pipeline
def looks_all_up(text: str) -> Stream[str]:
    return generate(text, model="inner", tools=[look_up_all])


@step(thread=True)
def inside(text: str, *, context: Context = injected) -> object:
    return trio.from_thread.run(run_twice, context, looks_all_up, text)


@pipeline
def insides(text: str) -> list[object]:
    return each([text], inside, at_once=1)


@step(thread=True)
def outside(text: str, *, context: Context = injected) -> object:
    return trio.from_thread.run(run_twice, context, insides, text)


@pipeline
def outsides(text: str) -> list[object]:
    return each([text, text], outside, at_once=2)


async def run_twice(context: Context, inner: Pipeline[[str], Any], text: str) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(context.run, inner, text)
        nursery.start_soon(context.run, inner, text)


def by_turns(request: ChatRequest) -> str | list[ToolCall]:
    """Two calls of the tool at once; text for their results."""
    if isinstance(request.messages[-1].parts[0], ToolResult):
        return "Found."
    return [ToolCall(number, "look_up_all", '{"text": "B"}') for number in ("1", "2")]


def test_one_thread_is_enough_for_threads_in_threads_wherever_these_are_cancelled() -> None:
    """No place is left behind, either."""

    async def events_until(most: float) -> int:
        world = World(models={"inner": ScriptedAnswers(by_turns)})
        async with open_engine(world) as engine:
            shares = engine.shared.threads, calling._THREADS.get()
            for each_of in shares:
                each_of.places.total_tokens = 1
            run = engine.start(outsides, {"text": "a"})
            with trio.fail_after(30), run.journal.attach() as reader:
                while not run.ended:
                    await reader.after(run.journal.seq)
                    if run.journal.seq >= most:
                        run.cancel("enough")
            assert [(each_of.places.borrowed_tokens, len(each_of)) for each_of in shares] == [
                (0, 0)
            ] * 2
            assert run.ended
            return run.journal.seq

    whole = trio.run(events_until, inf)
    for most in range(1, whole, 7):
        trio.run(events_until, most)
