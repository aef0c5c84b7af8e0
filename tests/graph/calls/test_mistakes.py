"""A wrong call of orchestra's own functions says what was meant, as that of a step does."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import (
    Limits,
    Pipeline,
    Policy,
    Retry,
    Step,
    best_of,
    collect,
    each,
    fallback,
    pipeline,
    quorum,
    race,
    route,
    step,
)
from orchestra.compiler.check import check
from orchestra.errors import DefinitionError
from orchestra.graph.calls.mistakes import explain_wrong_calls, explain_wrong_fields
from tests.graph.mending import STEPS
from tests.graph.written import Written

OURS: list[Callable[..., object]] = [
    best_of,
    collect,
    each,
    fallback,
    quorum,
    race,
    route,
    step,
    pipeline,
]
OURS += [Policy, Retry, Limits, Step.using, Pipeline.using]


@st.composite
def misspelt(draw: st.DrawFn) -> tuple[Callable[..., object], str, str]:
    """One of ours, a keyword of it, and the keyword with a letter too few."""
    ours = draw(st.sampled_from(OURS))
    kinds = inspect.signature(ours).parameters.values()
    names = [each.name for each in kinds if each.kind is each.KEYWORD_ONLY]
    name = draw(st.sampled_from(names or ["stagger_s"]))
    at = draw(st.integers(0, len(name) - 1))
    return ours, name, name[:at] + name[at + 1 :]


@given(misspelt())
def test_a_misspelt_keyword_is_told_with_the_one_that_was_meant(
    wrong: tuple[Callable[..., object], str, str],
) -> None:
    ours, name, written = wrong
    keywords = list(inspect.signature(ours).parameters)
    with pytest.raises((DefinitionError, TypeError)) as caught:
        ours(**{written: 1})
    if name in keywords and written not in keywords:
        assert f"has no parameter {written!r}" in str(caught.value)
        assert f"{name}=..." in str(caught.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            "race(q, stagger=1)",
            "race(...) has no parameter 'stagger'; did you mean 'stagger_s'? it",
        ),
        (
            "each([q], shout, concurrency=8)",
            "did you mean 'at_once'? it is `each(items, body, at_o",
        ),
        ("each([q], shout, 8)", "each(...): too many positional arguments; it is `each(items, bo"),
        (
            "route(q, {'a': q}, otherwise=q)",
            "did you mean 'default'? it is `route(label, arms, def",
        ),
        ("route(q, a=q)", "has no parameter 'a'; it is `route(label, arms, default=...)`"),
        (
            "race(q, timeout_s=3)",
            "give it to the step: `some_step.using(Policy(timeout_s=5))(...)`",
        ),
        (
            "collect()",
            "collect(...): missing a required argument: 'stream'; it is `collect(stream)`",
        ),
        (
            "shout.using(timeout_s=5)(q)",
            "write `policy=Policy(timeout_s=5)`; it is `using(policy)`",
        ),
        ("shout.using(Policy(timeout=5))(q)", "did you mean 'timeout_s'? it is `Policy(timeout_s="),
        ("Retry(3)", "Retry(...): too many positional arguments; it is `Retry(attempts_max=..., "),
        ("inner.using(timeout_s=4)", "did you mean 'deadline_s'? it is `using(deadline_s=...)`"),
        ("step(retries=3)", "write `policy=Policy(retry=Retry(attempts_max=3))`; it is `step(thr"),
    ],
)
def test_a_wrong_call_says_what_to_write(call: str, says: str) -> None:
    module = Written(f"{STEPS}@pipeline\ndef p(q: str):\n    return {call}  # HERE\n")
    with pytest.raises((DefinitionError, TypeError)) as caught:
        module.run()
    assert says in str(caught.value)
    if isinstance(caught.value, DefinitionError):
        assert str(caught.value).startswith(module.where("HERE"))


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        ("generate(q, max_tokens=5)", "did you mean 'output_tokens_max'? it takes: "),
        ("generate(q, stream=True)", "leave it out: models stream anyway, and `collect(...)` give"),
        ("generate(q, timeout=5)", "write `policy=Policy(timeout_s=5)`; it takes: "),
        ("shout(q, policy=Policy())", "give it to the step: `shout.using(policy)(...)`; the step"),
        ("shout(q, retries=2)", "give it to the step: `shout.using(Policy(retry=Retry(attempts_ma"),
    ],
)
def test_a_step_that_has_no_such_parameter_says_what_to_write(call: str, fix: str) -> None:
    head = "from orchestra.steps import generate\n"
    module = Written(f"{head}{STEPS}@pipeline\ndef p(q: str):\n    return {call}\n").run()
    (problem,) = check(module["p"])
    assert problem.code == "unknown-argument"
    assert problem.fix.startswith(fix)


def test_an_error_from_inside_is_left_as_it_is() -> None:
    inside = TypeError("from inside")

    @explain_wrong_calls
    def fails() -> None:
        raise inside

    @explain_wrong_fields
    class Failing:
        def __init__(self) -> None:
            raise inside

    for made in (fails, Failing):
        with pytest.raises(TypeError) as caught:
            made()
        assert caught.value is inside
