"""Pipelines: a function called once, used as a value, alone and inside others."""

from __future__ import annotations

import copy
import inspect
from functools import wraps
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.annotations.facts import spell
from orchestra.compiler.check import check
from orchestra.errors import DefinitionError
from orchestra.graph.nodes import type_of
from tests.graph.mending import result
from tests.graph.written import Written, written

STEPS = """
@step
def add(a: int, b: int = 1) -> int: return a + b
@step
def text(n: int) -> str: return str(n)
@step
async def count(n: int) -> AsyncIterator[str]:
    for i in range(n): yield str(i)
"""


def run(source: str, **inputs: object) -> object:
    """The result of the pipeline `p` of this module."""
    return result(written(STEPS + source)["p"], inputs)


# --- what a pipeline returns -------------------------------------------------------------------

leaves = st.sampled_from(["a", "b", "add(a)", "7", "'x'", "None"])
shapes = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]")
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({', '.join(parts)},)")
        | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3).map(
            lambda parts: "{" + ", ".join(f"{key!r}: {part}" for key, part in parts.items()) + "}"
        )
    ),
    max_leaves=8,
)


@given(shapes)
def test_a_container_of_wires_is_filled_as_it_was_written(shape: str) -> None:
    source = f"@pipeline\ndef p(a: int, b: int) -> Any: return [a, b, {shape}]"
    names: dict[str, Any] = {"a": 3, "b": 4, "add": lambda a: a + 1}
    assert run(source, a=3, b=4) == eval(f"[a, b, {shape}]", names)


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        ("[a, text(a)]", "list[int | str]"),
        ("(a, text(a))", "tuple[int, str]"),
        ("{'n': a, 'm': 3}", "dict[str, int]"),
        ("{'n': [a]}", "dict[str, list[int]]"),
        ("[[], [a]]", "list[list[Any] | list[int]]"),
        ("[a.nope]", "list[Any]"),
        ("collect(count(a))", "str"),
        ("a", "int"),
        ("3", "int"),
    ],
)
def test_the_type_of_what_is_returned_is_known(returned: str, kind: str) -> None:
    source = f"{STEPS}\n@pipeline\ndef p(a: int): return {returned}"
    assert spell(type_of(written(source)["p"].output)) == kind


def test_the_containers_type_is_held_against_the_annotation() -> None:
    module = written(STEPS + "@pipeline\ndef p(a: int) -> dict[str, int]: return [a, a]")
    (problem,) = check(module["p"])
    assert "returns [...], which is list[int]" in problem.message
    assert problem.fix == "annotate it `-> list[int]`"


# --- inputs ------------------------------------------------------------------------------------


def test_inputs_have_defaults_and_may_be_by_name_only() -> None:
    source = "@pipeline\ndef p(a: int, b: int = 5, *, c: int = 7) -> list[int]: return [a, b, c]"
    assert run(source, a=1) == [1, 5, 7]
    assert run(source, a=1, c=2) == [1, 5, 2]


def test_a_pipeline_is_named_documented_and_bounded() -> None:
    module = written(
        '''
        @pipeline(name="renamed", deadline_s=3)
        def p(a: int) -> int:  # HERE
            """What it does.

            And how.
            """
            return a
        '''
    )
    made = module["p"]
    assert (made.name, made.deadline_s) == ("renamed", 3)
    assert made.doc == "What it does.\n\nAnd how."
    assert made.where == module.where("HERE")
    assert made.using(deadline_s=None).deadline_s is None
    assert made.inputs["a"].origin.where == made.where
    assert written("@pipeline\ndef p(a): return a")["p"].doc == ""


def test_tools_take_a_pipeline_for_its_function() -> None:
    source = """
@pipeline(name="renamed")
def p(a: int, *, b: int = 2) -> int:  # HERE
    'What it does.'
    return add(a, b)
"""
    module = written(STEPS + source)
    for made in (module["p"], module["p"].using(deadline_s=3)):
        assert repr(made) == f"<pipeline 'renamed' at {module.where('HERE')}>"
        assert str(inspect.signature(made)) == "(a: int, *, b: int = 2) -> int"
        assert (made.__name__, made.__doc__, made.__module__) == ("p", "What it does.", "written")


@pytest.mark.parametrize("given", ['"5"', "-5", "0", "True", "float('nan')", "[5]"])
def test_a_deadline_that_is_no_number_of_seconds_is_refused_at_its_line(given: str) -> None:
    source = f"@pipeline(deadline_s={given})\ndef p(a: int) -> int: return a"
    says = r"written.*: pipeline 'p' has deadline_s=.*: it must be the number of seconds that a run"
    with pytest.raises(DefinitionError, match=says):
        written(source)
    made = written("@pipeline\ndef p(a: int) -> int: return a")["p"]
    with pytest.raises(
        DefinitionError, match=r"test_pipelines.py:\d+: pipeline 'p' has deadline_s"
    ):
        made.using(deadline_s=eval(given))


@pytest.mark.parametrize("given", [None, 5, 0.5, inf, 10**9])
def test_a_deadline_is_a_number_of_seconds_or_none(given: float | None) -> None:
    module = written(f"from math import inf\n@pipeline(deadline_s={given})\ndef p(a): return a")
    assert module["p"].deadline_s == given
    assert module["p"].using(deadline_s=3).using(deadline_s=given).deadline_s == given


# --- pipelines in pipelines --------------------------------------------------------------------


def test_a_pipeline_in_a_pipeline_is_inlined_each_time() -> None:
    source = """
@pipeline
def inner(a: int, b: int = 10) -> int: return add(a, b)
@pipeline
def p(n: int) -> list[int]: return [inner(n), inner(n, 1), inner(b=n, a=2), inner(inner(n))]
"""
    assert run(source, n=1) == [11, 2, 3, 21]
    made = written(STEPS + source)["p"]
    assert {node.origin.inside for node in made.nodes if node.label == "add"} == {("inner",)}


def test_an_inlined_pipeline_takes_constants_and_containers() -> None:
    source = """
@step
def total(xs: list[int]) -> int: return sum(xs)
@pipeline
def inner(xs: list[int], by: int) -> int: return add(total(xs), by)
@pipeline
def p(n: int) -> list[int]: return [inner([n, 2], 3), inner([1, 2], 3)]
"""
    assert run(source, n=5) == [10, 6]


def test_an_inlined_pipeline_gives_parts_and_containers() -> None:
    source = """
@pipeline
def inner(n: int) -> dict[str, int]: return {"one": n, "two": add(n)}
@pipeline
def p(n: int) -> int: return add(inner(n)["one"], inner(n)["two"])
"""
    assert run(source, n=5) == 11


def test_an_inlined_stream_still_streams() -> None:
    source = """
@step
async def up(chunks: Stream[str]) -> AsyncIterator[str]:
    async for chunk in chunks: yield chunk + "!"
@pipeline
def inner(n: int) -> Stream[str]: return count(n)
@pipeline
def p(n: int) -> Stream[str]: return up(inner(n))
"""
    assert run(source, n=3) == "0!1!2!"


def test_constructs_nest_in_each_other() -> None:
    """An each in a race in a route, and a route in an each, with lambdas and pipelines."""
    source = """
@step
def len_of(ns: list[int]) -> int: return len(ns)
@pipeline
def inner(n: int) -> int: return route(n, {1: add(n, 10)}, default=add(n, 20))
@pipeline
def p(ns: list[int], flag: bool) -> list[int]:
    return route(flag, {
        True: race(each(ns, lambda n: add(inner(n), len_of(ns)), at_once=2)),
        False: fallback(each(ns, inner, at_once=1), ns),
    })
"""
    assert run(source, ns=[1, 2], flag=True) == [13, 24]
    assert run(source, ns=[1, 2], flag=False) == [11, 22]


def test_a_pipeline_can_be_defined_inside_a_function() -> None:
    source = """
def make(by: int):
    @pipeline(name=f"by {by}")
    def made(n: int) -> int: return add(n, by)
    return made
p = make(3)
"""
    assert run(source, n=1) == 4
    assert written(STEPS + source)["p"].name == "by 3"


def test_a_helper_that_is_no_pipeline_may_build_a_part() -> None:
    source = """
def twice(n): return add(add(n))
@pipeline
def p(n: int) -> list[int]: return [twice(n), twice(twice(n))]
"""
    assert run(source, n=1) == [3, 5]


# --- what cannot be defined --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "@pipeline\ndef p(n: int): pass  # HERE",
            "pipeline 'p' returns nothing; return the wire of its result, such as "
            "`return generate(...)`",
        ),
        (
            "@pipeline\nasync def p(n: int): return n  # HERE",
            "pipeline 'p' is `async`, but its function only connects steps and waits for nothing: "
            "write `def p`",
        ),
        (
            "@pipeline\nasync def p(n: int): yield n  # HERE",
            "pipeline 'p' is `async`",
        ),
        (
            "@pipeline\ndef p(n: int):  # HERE\n    yield n",
            "pipeline 'p' has a `yield`, but a pipeline cannot be a generator; return the stream",
        ),
        (
            "async def foo(n: int): return n\n@pipeline\ndef p(n: int):\n"
            "    return race(foo(n), [foo(foo(n))], add(n))  # HERE",
            "foo is not a step, so foo(...) is a coroutine here, which nobody awaits; decorate it "
            "with @step and call it as foo(...)",
        ),
        (
            "async def foo(n: int): return n\n@pipeline\ndef p(n: int):\n"
            "    return add(n, by={'x': foo(n)})  # HERE",
            "foo is not a step",
        ),
        (
            "async def foo(n: int): yield n\nasync def bar(n: int): return n\n@pipeline\n"
            "def p(n: int):\n    made = foo(bar(n))\n    return made  # HERE",
            "foo is not a step",
        ),
        (
            "import asyncio\n@pipeline\ndef p(n: int):\n"
            "    return asyncio.wait_for(add(n), 5)  # HERE",
            "wait_for(...) is a coroutine of asyncio's here, which nobody awaits: a pipeline waits "
            "for nothing. Steps run concurrently anyway; for a time limit, write "
            "some_step.using(Policy(timeout_s=5))(...)",
        ),
        (
            "@step\nasync def foo(n: int): return n\n@pipeline\ndef p(n: int):\n"
            "    return foo.call(n)  # HERE",
            "foo.call(...) is a coroutine here, which nobody awaits: `.call` is the function of the "
            "step, for tests; call the step itself: foo(...)",
        ),
        (
            "@step\nasync def foo(n: int): yield n\n@pipeline\ndef p(n: int):\n"
            "    return add(foo.call(n))  # HERE",
            "foo.call(...) is a coroutine here",
        ),
        *(
            (
                f"@pipeline\ndef p(n: int):\n    made = {made}\n    {more}\n    {read}  # HERE",
                "a list, tuple or dict here contains itself, or is nested too deep to be "
                "searched for wires; make it in a step",
            )
            for made, more in (
                ("[1]", "made.append(made)"),
                ("[n]", "made.append((made,))"),
                ("{}", "made['own'] = [made]"),
                ("[n]", "for _ in range(101): made = [made]"),
                ("{}", "for _ in range(200): made = {'own': made}"),
            )
            for read in ("return add(n, by=made)", "return race(made, n)", "return made")
        ),
        *(
            (
                f"@pipeline\ndef p(n: int): return {read}  # HERE",
                "is an iterator, which the first run would leave empty for the next; write a list",
            )
            for read in (
                "each((x for x in [1, 2]), add, at_once=2)",
                "race(iter([1]), n)",
                "add(n, by=(x for x in [1]))",
                "add(n, by=[map(str, [1])])",
                "add(n, by={'a': (1, zip([1], [2]))})",
                "race(add(n), [enumerate([1]), n])",
            )
        ),
        (
            "made = [1]\nmade.append(made)\n@pipeline\n"
            "def p(n: list[object] = made): return n  # HERE",
            "a list, tuple or dict here contains itself",
        ),
        (
            "@pipeline\ndef p(n: object = (x for x in [1])): return n  # HERE",
            "is an iterator, which the first run would leave empty for the next; write a list",
        ),
        *(
            (
                f"@pipeline\ndef p(n: list[str]): return each(n, {body}, at_once=2)  # HERE",
                f"each(items, {body}): it needs a value, but an item has none while the pipeline is "
                f"being defined\n    right: each(items, {step}, at_once=8)\n    where: @step\n",
            )
            for body, step in (("len", "len_of"), ("str.upper", "upper_of"), ("int", "int_of"))
        ),
        (
            "@pipeline\ndef p(n: list[int]):\n"
            "    return each(n, lambda a, b: add(a, by=b), at_once=2)  # HERE",
            "each(items, lambda a, b: ...): the body is called with one item, but takes (a, b)",
        ),
        (
            "@pipeline\ndef p(n: int): return race(add(n), commit=collect)  # HERE",
            "race(commit=collect): commit must be one of first_content(), ",
        ),
        (
            "async def foo(n: int): return n\n@pipeline\ndef p(n: int):\n"
            "    return each([n], foo, at_once=2)  # HERE",
            "foo is not a step",
        ),
        (
            "@pipeline\ndef p(n: int): return race([n, add(n)])  # HERE",
            "race(...) is given one list, which would be its only arm; give it the arms one by "
            "one: race(a, b), or race(*arms)",
        ),
        (
            "@pipeline\ndef p(n: int): return fallback(add(n) for _ in range(2))  # HERE",
            "fallback(...) is given one generator, which would be its only arm",
        ),
        (
            "@pipeline\ndef p(*ns: int): return ns  # HERE",
            "parameter `*ns: int` of pipeline 'p': each input of a pipeline needs a name of its "
            "own; take a list instead",
        ),
        (
            "@pipeline\ndef p(n: int): return p(add(n))  # HERE",
            "pipeline 'p' calls itself, but a graph has no cycles; repeat inside a step, or pass "
            "the result on to a second pipeline",
        ),
        (
            "@pipeline\ndef p(n: int):\n    @pipeline\n    def q(m: int): return m  # HERE\n    return q(n)",
            "pipeline 'q' is defined inside another pipeline's function; define it at the top of "
            "the module and call it there",
        ),
        (
            "@pipeline\ndef q(m: int): return m\n@pipeline\ndef p(n: int):\n    return q(x=n)  # HERE",
            "pipeline 'q' is called wrongly: missing a required argument: 'm'; it is `q(m: int)`",
        ),
        (
            "@pipeline\ndef p(n: int) -> int: return n\np(3)  # HERE",
            "pipeline 'p' was called outside a pipeline; write `await engine.run(p, ...)`, or "
            "`orchestra.run(p, ...)` in a script; in a step, `await context.run(p, ...)`",
        ),
        (
            "kept = []\n@pipeline\ndef q(m: int):\n    kept.append(m)\n    return m\n"
            "@pipeline\ndef p(n: int):\n    return add(n, kept[0])  # HERE",
            "m is a wire of another pipeline (from ",
        ),
        (
            "kept = []\n@pipeline\ndef q(m: int):\n    kept.append(add(m))\n    return m\n"
            "@pipeline\ndef p(n: int): return kept[0]  # HERE",
            "add(...) is a wire of another pipeline",
        ),
        (
            "collect(3)  # HERE",
            "collect(...) was called outside a pipeline; use it in a function decorated with "
            "@pipeline",
        ),
    ],
)
def test_what_cannot_be_defined_is_told_at_its_line(source: str, says: str) -> None:
    module = Written(STEPS + source)
    with pytest.raises(DefinitionError) as caught:
        module.run()
    assert str(caught.value).startswith(module.where("HERE") + ": ")
    assert says in str(caught.value)


def test_a_name_that_does_not_exist_is_pythons_own_error() -> None:
    with pytest.raises(NameError, match="nobody"):
        written("@pipeline\ndef p(n: int): return nobody(n)")


def test_an_error_of_the_users_own_passes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        written("@pipeline\ndef p(n: int): return 1 / 0")


def test_a_pipeline_says_how_it_is_run_to_who_looks_for_that_in_it() -> None:
    p = written("@pipeline\ndef p(n: int): return n")["p"]
    for name in ("invoke", "run", "ainvoke", "stream", "batch"):
        with pytest.raises(
            AttributeError, match=rf"no `\.{name}`; run it with `orchestra\.run\(p, "
        ):
            getattr(p, name)
    assert not hasattr(p, "__wrapped__")
    assert copy.deepcopy(p) is copy.copy(p) is p


def test_a_decorator_above_hands_on_the_annotations_of_the_function() -> None:
    p = written("@pipeline\ndef p(n: int) -> int: return n")["p"]

    @wraps(p)
    def above(n: int) -> object:
        return p(n)

    assert above.__annotations__ == {"n": int, "return": int}
    with pytest.raises(
        DefinitionError, match="a decorator above @pipeline has made a plain function of "
    ):
        check(above)  # type: ignore[arg-type]
