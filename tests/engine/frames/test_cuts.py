"""Cuts: a result that was made from a cut answer says so, and no other does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import (
    Context,
    Pipeline,
    Stream,
    best_of,
    collect,
    complete,
    each,
    fallback,
    injected,
    pipeline,
    prompt,
    quorum,
    race,
    route,
    step,
)
from orchestra.errors import OverloadedError
from orchestra.events import RunFinished, StepCut
from orchestra.steps import generate
from orchestra.testing.simulate import simulate
from orchestra.testing.turns import ScriptedAnswers, ScriptedTurns
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Stopped, StopReason, TextDelta, ToolCall

LENGTH = Stopped(StopReason.LENGTH)
MODELS = {
    "cut": ScriptedAnswers(lambda _: ["Half", LENGTH]),
    "whole": ScriptedAnswers(lambda _: "Whole"),
    "late": ScriptedAnswers(lambda _: ["Half", LENGTH], every_s=1.0),
    "slow": ScriptedAnswers(lambda _: "Whole", every_s=1.0),
    "broken": ScriptedModel(((0.0, TextDelta("Ha")),), OverloadedError("no room")),
}


def says(model: str, asked: Any = "Why?") -> Stream[str]:
    return generate(asked, model=model, output_tokens_max=5)


@step
async def shouted(text: str) -> str:
    return text.upper()


@step
def joined(texts: list[str]) -> str:
    return " ".join(texts)


@step
async def passed(chunks: Stream[str]) -> AsyncIterator[str]:
    async for chunk in chunks:
        yield chunk


@step
def words(text: str) -> list[str]:
    return text.split()


def is_whole(text: object) -> bool:
    return not str(text).startswith("Half")


@attrs.frozen
class Says:
    cut: bool
    passed: bool
    """Whether a step passes its chunks on."""


@attrs.frozen
class Of:
    """What a construct makes of others."""

    kind: str
    of: tuple[Drawn, ...]
    chosen: int = 0


Drawn: TypeAlias = Says | Of
CHOOSING = ("route", "fallback")
ASKING = ("asks-cut", "asks-whole")


def beside(text: Any) -> Any:
    """The body of an `each` that uses a text from outside, in one more within it."""

    def inner(item: str) -> str:
        return joined([item, text])

    def body(item: str) -> str:
        return joined(each([item], inner, at_once=1))

    return body


def made(drawn: Drawn) -> Any:
    """A text, in a pipeline's function."""
    if isinstance(drawn, Says):
        said = says("cut" if drawn.cut else "whole")
        return collect(passed(said) if drawn.passed else said)
    of = [made(inner) for inner in drawn.of]
    match drawn.kind:
        case "shouted":
            return shouted(of[0])
        case "joined":
            return joined(of)
        case "each":
            return joined(each(words(of[0]), shouted, at_once=2))
        case "within":
            return joined(each(["a", "b"], beside(of[0]), at_once=2))
        case "route":
            return route(str(drawn.chosen), {str(key): arm for key, arm in enumerate(of)})
        case "fallback":
            return fallback(*of, commit=complete())
        case kind:
            asked = prompt("{of}?", of=of[0])
            return collect(says(kind.removeprefix("asks-"), asked))


def foreseen(drawn: Drawn) -> bool:
    """By hand: whether it is cut."""
    if isinstance(drawn, Says):
        return drawn.cut
    if drawn.kind in CHOOSING:
        return foreseen(drawn.of[drawn.chosen])
    if drawn.kind in ASKING:
        return drawn.kind == "asks-cut"
    return any(map(foreseen, drawn.of))


SAYS = st.builds(Says, st.booleans(), st.booleans())


def many(inner: st.SearchStrategy[Drawn]) -> st.SearchStrategy[Drawn]:
    some = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Of, st.sampled_from(("shouted", "each", "within", *ASKING)), st.tuples(inner)),
        st.builds(Of, st.just("joined"), some),
        st.builds(Of, st.just("route"), some, st.integers(0, 1)),
        st.builds(Of, st.just("fallback"), some),
    )


DRAWN = st.recursive(SAYS, many, max_leaves=8)


def end_of(asked: Pipeline[..., Any], **inputs: Any) -> RunFinished:
    last = simulate(asked, World(models=MODELS), **inputs).events[-1]
    assert isinstance(last, RunFinished)
    return last


@given(DRAWN)
def test_a_result_is_cut_if_what_it_was_made_from_is(drawn: Drawn) -> None:
    """Through steps, streams, `each` and choices; but not through a model that was asked anew."""

    @pipeline
    def asked() -> str:
        return cast("str", made(drawn))

    assert end_of(asked).cut is foreseen(drawn)


@pipeline
def streamed(model: str) -> Stream[str]:
    return route(model, {"cut": says("cut"), "whole": says("whole")})


def test_the_cut_stands_before_the_end() -> None:
    run = simulate(streamed, World(models=MODELS), model="cut")
    assert run.value == "Half"
    (cut,) = [event for event in run.events if isinstance(event, StepCut)]
    assert (cut.step, cut.model, cut.output_tokens_max) == ("generate", "cut", 5)
    assert end_of(streamed, model="cut").cut
    assert not end_of(streamed, model="whole").cut


@pipeline
def refused() -> str:
    """The cut answer is dropped."""
    return collect(fallback(says("cut"), says("whole"), commit=complete(), validate=is_whole))


@pipeline
def restarted() -> Stream[str]:
    """The arm that was committed to breaks, and the next is cut."""
    return fallback(says("broken"), says("cut"), restart=True)


@pipeline
def raced() -> Stream[str]:
    return race(says("slow"), says("cut"))


@pipeline
def both() -> list[str]:
    """One of two is cut."""
    note = collect(says("cut"))
    return [note, collect(says("slow"))]


@pipeline
def agreed() -> str:
    said = [collect(says(model)) for model in ("cut", "whole", "whole")]
    return quorum(2, *said)


def second(texts: list[str]) -> int:
    return len(texts) - 1


@pipeline
def best() -> str:
    return best_of(collect(says("cut")), collect(says("whole")), judge=second)


@step
async def guarded(chunks: Stream[str], *, context: Context = injected) -> AsyncIterator[str]:
    """Asks a model about each chunk, and passes it on."""
    async for chunk in chunks:
        verdict = generate.call(f"Is {chunk!r} polite?", model="whole", context=context)
        assert [said async for said in verdict]
        yield chunk


@pipeline
def guards() -> Stream[str]:
    return guarded(says("cut"))


@pipeline
def guards_late() -> list[str]:
    """Another answer was cut before: by then, the steps that ask are noted."""
    first = collect(says("cut"))
    return [collect(says("whole", first)), collect(guarded(says("late")))]


@step
async def unread(chunks: Stream[str]) -> str:
    return "Whole"


@pipeline
def left() -> list[str]:
    """The race is left before an arm has won."""
    first = collect(says("cut"))
    return [unread(race(says("slow", first), says("late", first)))]


@step
async def failing(text: str) -> str:
    raise OverloadedError(f"no room for {text}")


@pipeline
def compared() -> str:
    """The arm with the cut answer fails, so it is not compared."""
    whole = [collect(says("whole")) for _ in range(2)]
    return best_of(failing(collect(says("cut"))), *whole, judge=second)


@pipeline
def labelled() -> str:
    """Which arm a cut answer chooses is whole."""
    return route(collect(says("cut")), {"Half": collect(says("whole"))})


@pipeline
def untaken() -> str:
    """What two arms share is cut, and a third is taken."""
    shared = collect(says("cut"))
    return route("b", {"a": shouted(shared), "b": collect(says("whole")), "c": shouted(shared)})


def written(topic: str) -> str:
    return collect(route(topic, {"a": says("whole", topic), "b": says("cut", topic)}))


@pipeline
def outlined(topics: list[str]) -> list[str]:
    return each(topics, written, at_once=2)


@pytest.mark.parametrize(
    ("asked", "cut"),
    [
        (refused, False),
        (restarted, True),
        (raced, True),
        (both, True),
        (agreed, False),
        (best, True),  # they were compared, and one of them was half
        (guards, True),
        (guards_late, True),
        (left, False),
        (compared, False),
        (labelled, False),
        (untaken, False),
    ],
)
def test_choices(asked: Pipeline[..., Any], cut: bool) -> None:
    assert end_of(asked).cut is cut


def test_an_each_is_cut_if_an_item_is() -> None:
    assert not end_of(outlined, topics=["a", "a"]).cut
    assert end_of(outlined, topics=["a", "b", "a"]).cut


@step
async def looped(models: list[str], *, context: Context = injected) -> str:
    """A loop of one's own: the last answer is what it gives."""
    said = ""
    for model in models:
        text = generate.call("Why?", model=model, output_tokens_max=5, context=context)
        said = "".join([chunk async for chunk in text])
    return said


@pipeline
def looping(models: list[str]) -> str:
    return looped(models)


def test_of_a_step_that_asks_often_the_last_answer_counts() -> None:
    assert end_of(looping, models=["whole", "cut"]).cut
    assert not end_of(looping, models=["cut", "whole"]).cut


async def ask_another(*, context: Context = injected) -> str:
    """Ask another model."""
    text = generate.call("Why?", model="cut", output_tokens_max=5, context=context)
    return "".join([chunk async for chunk in text])


@pipeline
def with_tool() -> Stream[str]:
    return generate("Why?", tools=[ask_another])


def test_a_tool_that_asks_a_model_cuts_no_answer() -> None:
    calls = ScriptedTurns.saying(ToolCall("1", "ask_another"), "Whole")
    run = simulate(with_tool, World(models={**MODELS, "default": calls}))
    assert run.value == "Whole"
    last = run.events[-1]
    assert isinstance(last, RunFinished)
    assert not last.cut


def test_of_many_items_little_is_kept() -> None:
    """An `each` keeps whether it was cut and that models answered, and forgets in which items."""
    from orchestra.engine.engine import open_engine
    from orchestra.testing.virtual import virtual

    async def main() -> None:
        async with open_engine(World(models=MODELS)) as engine:
            run = engine.start(outlined, {"topics": ["b"] * 50})
            await run.wait_ended()
            assert run.cut
            assert run.cuts == {"each": True, "each[*]": False}

    virtual(main)
