"""Scripts: a step does what it is told, and a script that nobody plays is refused."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, Policy, Retry, Stream, each, injected, pipeline, prompt, step
from orchestra.errors import DefinitionError, EdgeTypeError
from orchestra.events import StepFinished
from orchestra.steps.generate import generate
from orchestra.testing.laws import check_laws
from orchestra.testing.scripts import Answers, Attempts, Fails, Gives, Hangs, Script, Streams
from orchestra.testing.simulate import simulate
from orchestra.testing.world import ScriptedModel, World


@step
async def value(n: int, /, *, context: Context = injected) -> str:
    raise AssertionError("it is scripted")


@step
def plain(text: str) -> str:
    return f"<{text}>"


@step
async def chunks(text: str) -> AsyncIterator[str]:
    yield "it is scripted"


@step
async def listed(n: int) -> list[int]:
    return list(range(n))


@pipeline
def inner(n: int) -> str:
    return plain(value(n))


@pipeline
def whole(n: int) -> Stream[str]:
    return chunks(plain(inner(n)))


@pipeline
def of_each(n: int) -> list[str]:
    return each(listed(n), inner, at_once=2)


def world(**steps: Script) -> World:
    return World(steps=steps)


delays_s = st.integers(0, 9).map(float)


@given(delays_s, st.lists(st.tuples(delays_s, st.text())), delays_s)
def test_a_step_gives_what_its_script_says_when_it_says_it(
    after_s: float, said: list[tuple[float, str]], end_s: float
) -> None:
    scripted = world(value=Gives("v", after_s), chunks=Streams(tuple(said), end_s=end_s))
    simulation = simulate(whole, scripted, n=1)
    check_laws(simulation)
    assert simulation.value == "".join(chunk for _, chunk in said)
    assert simulation.lasted_s == after_s + sum(s for s, _ in said) + end_s


@given(delays_s, st.sampled_from(["value", "plain", "chunks"]))
def test_a_step_fails_as_its_script_says(after_s: float, name: str) -> None:
    error = ValueError("scripted")
    steps: dict[str, Script] = {
        "value": Gives("v"),
        "plain": Gives("p"),
        "chunks": Streams(()),
        name: Fails(error, after_s),
    }
    for _ in range(2):
        simulation = simulate(whole, World(steps=steps), n=1)
        check_laws(simulation)
        assert simulation.error is error
        assert simulation.lasted_s == after_s


def test_a_stream_may_fail_after_its_chunks() -> None:
    cut = Streams(((1, "a"), (2, "b")), ValueError("cut"), end_s=3)
    simulation = simulate(whole, world(value=Gives("v"), chunks=cut), n=1)
    assert str(simulation.error) == "cut"
    assert simulation.lasted_s == 6


@pytest.mark.parametrize("name", ["value", "chunks"])
def test_a_step_may_hang_until_it_is_cancelled(name: str) -> None:
    steps: dict[str, Script] = {"value": Gives("v"), "chunks": Streams(()), name: Hangs()}
    simulation = simulate(whole, World(steps=steps, cancel_at_s=3), n=1)
    check_laws(simulation)
    assert simulation.lasted_s == 3


@pipeline
def twice(n: int) -> str:
    return plain(plain(value(n)))


def test_a_name_is_for_every_step_of_it_and_a_path_goes_before_a_name() -> None:
    steps: dict[str, Script] = {"value": Gives("v")}
    assert simulate(twice, World(steps=steps), n=1).value == "<<v>>"
    steps["plain"] = Gives("by name")
    assert simulate(twice, World(steps=steps), n=1).value == "by name"
    steps["plain#2"] = Gives("by path")
    assert simulate(twice, World(steps=steps), n=1).value == "by path"


def test_steps_in_the_body_of_an_each_are_scripted_for_every_item() -> None:
    simulation = simulate(of_each, world(value=Gives("v", 2.0)), n=3)
    check_laws(simulation)
    assert simulation.value == ["<v>"] * 3
    finished = [e.step for e in simulation.events if isinstance(e, StepFinished)]
    assert "each[2]/inner/value" in finished
    assert simulate(of_each, World(steps={"inner/value": Gives("p")}), n=1).value == ["<p>"]


@pipeline
def patient(n: int) -> Stream[str]:
    policy = Policy(retry=Retry(attempts_max=9, delay_s=1, on=(ValueError,)))
    return chunks.using(policy)(value.using(policy)(n))


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_step_may_fail_a_few_times_and_then_work(times: int) -> None:
    error = ValueError("not yet")
    scripted = world(
        value=Attempts.failing(times, error, Gives("v", 1)),
        chunks=Attempts((*[Fails(error, 1)] * times, Streams(((1, "a"), (1, "b"))))),
    )
    for _ in range(2):  # a script is a value: the next run begins with its first attempt again
        simulation = simulate(patient, attrs.evolve(scripted, jitter=0.0), n=1)
        check_laws(simulation)
        assert simulation.value == "ab"
        assert simulation.lasted_s == 1 + times + 2


def test_the_last_script_is_for_every_attempt_after_it() -> None:
    failing = Attempts((Fails(KeyError("first")), Fails(ValueError("again"), 1)))
    policy = Policy(retry=Retry(attempts_max=4, on=(LookupError, ValueError)))

    @pipeline
    def p(n: int) -> str:
        return value.using(policy)(n)

    simulation = simulate(p, World(jitter=0.0, steps={"value": failing}), n=1)
    assert str(simulation.error) == "again"
    assert simulation.lasted_s == 3


def test_a_script_is_held_to_the_steps_annotation() -> None:
    """As the step itself is: a test would otherwise pass with what the step never gives."""
    error = simulate(inner, world(value=Gives(3)), n=1).error
    assert isinstance(error, EdgeTypeError)
    assert "the step is annotated `-> str` and returned 3" in str(error)
    assert simulate(inner, world(value=Gives("3")), n=1).result() == "<3>"


def test_a_script_may_be_a_function_of_what_the_step_is_called_with() -> None:
    answers = Answers(lambda n: Fails(ValueError("odd")) if n % 2 else Gives(f"{n}", n))
    assert simulate(inner, world(value=answers), n=4).value == "<4>"
    assert simulate(inner, world(value=answers), n=4).lasted_s == 4
    assert str(simulate(inner, world(value=answers), n=3).error) == "odd"
    said = Answers(lambda text: Streams(tuple((1, letter) for letter in text)))
    scripted = world(value=answers, plain=Gives("ab"), chunks=said)
    assert simulate(whole, scripted, n=2).value == "ab"


def test_a_function_may_script_an_attempt() -> None:
    scripted = Attempts((Fails(ValueError("no")), Answers(lambda n: Gives(str(n)))))
    steps: dict[str, Script] = {"value": scripted, "chunks": Streams(((0, "x"),))}
    assert simulate(patient, World(steps=steps), n=7).value == "x"


def test_what_a_function_gives_is_a_script() -> None:
    error = simulate(inner, world(value=Answers(cast("Any", str))), n=4).error
    assert isinstance(error, DefinitionError)
    assert "step 'value' is scripted with '4', which is not a script; write" in str(error)


@pipeline
def inner_too(n: int) -> str:
    return value(n)


def test_an_error_tells_of_its_own_run_only() -> None:
    error = ConnectionError("gone")
    error.add_note("the user's own")
    model = ScriptedModel((), error)
    error.__context__ = KeyError("of another run")
    for scripted in (world(value=Fails(error)), world(value=Attempts((Fails(error),)))):
        simulate(inner, scripted, n=1)
        simulation = simulate(inner_too, scripted, n=1)
        assert simulation.error is error
        first, own = error.__notes__
        assert first == "the user's own"
        assert own.startswith("in step 'value' of pipeline 'inner_too'")
        assert error.__context__ is None
    failed = simulate(asking, World(models={"m": model}), n=1).error
    assert failed is error
    assert len(error.__notes__) == 2
    assert "of pipeline 'asking'" in error.__notes__[1]


@pipeline
def asking(n: int) -> Stream[str]:
    return generate(prompt("{n}", n=n), model="m")


def test_attempts_without_a_script_are_refused() -> None:
    with pytest.raises(ValueError, match="write at least one script"):
        Attempts(())


@pytest.mark.parametrize(
    ("scripted", "says"),
    [
        (
            world(nobody=Gives("x")),
            "'nobody', which is not a step of 'whole'; its steps are: chunks, ",
        ),
        (world(value=Streams(())), "step 'value' gives one value: script it with Gives, not Stre"),
        (world(value=Attempts((Streams(()),))), "'value' gives one value: script it with Gives"),
        (
            World(steps=cast("Any", {"value": 3})),
            "step 'value' is scripted with 3, which is not a script; write Gives(3), or",
        ),
        (
            World(steps=cast("Any", {"chunks": "x"})),
            "step 'chunks' is scripted with 'x', which is not a script; write "
            "Streams(((0.0, 'x'),)), or",
        ),
        (world(chunks=Gives("x")), "step 'chunks' gives a stream: script it with Streams, not Giv"),
    ],
)
def test_a_script_that_cannot_be_played_is_refused(scripted: World, says: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        simulate(whole, scripted, n=1)
    assert says in str(caught.value)


def test_a_script_for_a_step_in_a_body_that_is_not_there_lists_the_body_too() -> None:
    with pytest.raises(DefinitionError, match="each, inner/plain, inner/value, listed"):
        simulate(of_each, world(nobody=Gives("x")), n=1)


def test_an_error_that_is_raised_in_many_runs_keeps_none_of_them() -> None:
    error = ValueError("scripted")
    failing = Streams((), error)
    first = simulate(whole, world(value=Gives("v"), chunks=failing), n=1)
    kept = weakref.ref(first.plan)
    del first
    simulate(whole, world(value=Gives("v"), chunks=failing), n=1)
    gc.collect()
    assert kept() is None
