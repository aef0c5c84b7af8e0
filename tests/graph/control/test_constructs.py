"""Control: what the constructs make of their arguments, and which they refuse."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.annotations.facts import spell
from orchestra.errors import DefinitionError
from orchestra.graph.nodes import Choice, Each, Race, is_stream, type_of
from orchestra.graph.rules.hedging import Hedge
from orchestra.graph.wires import node_of
from tests.graph.mending import result
from tests.graph.written import Written, written

STEPS = """
@step
def add(a: int, b: int = 1) -> int: return a + b
@step
def text(n: int) -> str: return str(n)
@step
def bits(n: int) -> list[bytes]: return [b"a"] * n
@step
async def count(n: int) -> AsyncIterator[str]:
    for i in range(n): yield str(i)
@step
async def raw(n: int) -> AsyncIterator[bytes]: yield b"x" * n
@step
async def numbers(n: int) -> AsyncIterator[int]:
    for i in range(n): yield i
"""
HEAD = "@pipeline\ndef p(n: int, flag: bool, label: Label, words: list[str], pick: Literal['a', 'b']):\n    "


def made(body: str) -> Any:
    """A pipeline with this body."""
    return written(f"{STEPS}\n{HEAD}return {body}")["p"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("race(n, text(n))", "int | str"),
        ("race(n, add(n))", "int"),
        ("race(count(n), numbers(n))", "Stream[str | int]"),
        ("fallback(text(n), None)", "str | None"),
        ("fallback(count(n), count(n))", "Stream[str]"),
        ("route(flag, {True: n, False: text(n)})", "int | str"),
        ("route(label, {'a': count(n)}, default=count(n))", "Stream[str]"),
        ("race(count(n), text(n))", "Stream[str] | str"),
        ("race(n.nope, n)", "Any"),
        ("collect(count(n))", "str"),
        ("collect(raw(n))", "bytes"),
        ("collect(numbers(n))", "list[int]"),
        ("collect(n)", "int"),
        ("collect(n.nope)", "Any"),
        ("each(words, text, at_once=2)", "list[str]"),
        ("each(words, lambda word: word, at_once=2)", "list[str]"),
        ("each(numbers(n), add, at_once=2)", "Stream[int]"),
        ("each(bits(n), lambda each_: (each_, n), at_once=2)", "list[tuple[bytes, int]]"),
        ("each(n, text, at_once=2)", "list[str]"),
        ("each(words, lambda word: word.nope, at_once=2)", "list[Any]"),
        ("each(words.nope, lambda word: word, at_once=2)", "list[Any]"),
    ],
)
def test_the_type_of_a_construct_follows_from_its_arguments(body: str, kind: str) -> None:
    assert spell(type_of(made(body).output)) == kind


def test_arms_are_called_by_their_place_or_by_their_key() -> None:
    def names(body: str) -> tuple[str, ...]:
        node = node_of(made(body).output)
        assert isinstance(node, Choice)
        return node.arm_names

    assert names("race(add(n), n, 7, words[0])") == ("1:add", "2:n", "3:7", "4:words")
    assert names("route(pick, {'a': n, 'b': 2})") == ("a", "b")
    assert names("route(flag, {True: n}, default=2)") == ("True", "default")


@given(st.integers(0, 5), st.integers(1, 4), st.booleans())
def test_each_keeps_the_order_however_many_run_at_once(
    length: int, at_once: int, ordered: bool
) -> None:
    pipeline = written(
        f"{STEPS}\n@pipeline\ndef p(ns: list[int]) -> list[int]:\n"
        f"    return each(ns, add, at_once={at_once}, ordered={ordered})"
    )["p"]
    found = result(pipeline, {"ns": list(range(length))})
    assert isinstance(found, list)
    assert (found if ordered else sorted(found)) == [n + 1 for n in range(length)]


def test_the_default_of_a_route_may_be_none() -> None:
    pipeline = made("route(flag, {True: n}, default=None)")
    node = node_of(pipeline.output)
    assert node.has_default  # type: ignore[attr-defined]


def test_a_body_of_which_nobody_knows_what_it_takes_is_tried() -> None:
    """Of a function that is written in C, Python cannot always tell."""
    with pytest.raises(DefinitionError, match="`item of ns` cannot be iterated"):
        written(
            "import functools\n@pipeline\n"
            "def p(ns: list[list[int]]): return each(ns, functools.partial(max), at_once=2)"
        )


def test_each_says_what_it_is_over() -> None:
    streamed, listed = (
        node_of(made(body).output)
        for body in ("each(numbers(n), add, at_once=1)", "each([n, 2], add, at_once=1)")
    )
    assert isinstance(streamed, Each)
    assert isinstance(listed, Each)
    assert (is_stream(streamed.items), is_stream(listed.items)) == (True, False)
    assert streamed.item.spelled == "item of numbers(...)"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("race()", "race() has no arms; give it at least one"),
        ("fallback()", "fallback() has no arms; give it at least one"),
        ("route(flag, {})", "route() has no arms; give it at least one"),
        (
            "race(n, stagger_s=-1)",
            "race(stagger_s=-1): stagger_s must be the number of seconds between the starts of two "
            "arms, 0 or more, known when the pipeline is defined: write it as a number",
        ),
        (
            "race(n, commit=3)",
            "race(commit=3): commit must be one of first_content(), chunks(n), chars(n) and "
            "complete()",
        ),
        (
            "race(n, validate=text)",
            "race(validate=<step 'text' at",
        ),
        (
            "fallback(n, validate=n)",
            "fallback(validate=<wire n>): validate must be a plain function, not an async one or a "
            "step, that takes an arm's output and returns whether to accept it; pass it uncalled: "
            "validate=some_function",
        ),
        ("fallback(n, validate=count.call)", "validate must be a plain function"),
        (
            "fallback(n, on=3)",
            "fallback(on=3): on must be one or more exception classes, as after `except`: "
            "on=(ModelError, DeadlineError)",
        ),
        (
            "fallback(n, restart=n)",
            "fallback(restart=<wire n>): restart must be True or False, known when the pipeline is "
            "defined",
        ),
        ("fallback(n, on=())", "fallback(on=()): on must be"),
        ("fallback(n, on=(ValueError('x'),))", "fallback(on=(ValueError('x'),)): on must be"),
        (
            "fallback(n, on=KeyboardInterrupt)",
            "fallback(on=<class 'KeyboardInterrupt'>): on must be",
        ),
        ("fallback(n, commit=n)", "fallback(commit=<wire n>): commit must be one of"),
        ("race(n, stagger_s=float('nan'))", "race(stagger_s=nan): stagger_s must be"),
        ("race(n, stagger_s=n)", "race(stagger_s=<wire n>): stagger_s must be"),
        (
            "race(n, hedge_at=95)",
            "race(hedge_at=95): hedge_at must be a quantile of the first arm's earlier times to "
            'commit, known when the pipeline is defined; write hedge_at="p95", or 0.95: over 0 and '
            "under 1. A delay in seconds is stagger_s",
        ),
        ("race(n, hedge_at='p100')", "race(hedge_at='p100'): hedge_at must be a quantile"),
        ("race(n, hedge_at='p0')", "race(hedge_at='p0'): hedge_at must be a quantile"),
        ("race(n, hedge_at='95')", "race(hedge_at='95'): hedge_at must be a quantile"),
        ("race(n, hedge_at=1.0)", "race(hedge_at=1.0): hedge_at must be a quantile"),
        ("race(n, hedge_at=True)", "race(hedge_at=True): hedge_at must be a quantile"),
        ("race(n, hedge_at=float('nan'))", "race(hedge_at=nan): hedge_at must be a quantile"),
        ("race(n, hedge_at=n)", "race(hedge_at=<wire n>): hedge_at must be a quantile"),
        (
            "race(n, hedge_share=0.1)",
            "race(hedge_share=0.1): it limits hedge_at, which is not given: "
            'race(a, b, hedge_at="p95", hedge_share=0.1)',
        ),
        (
            "race(n, hedge_at='p95', hedge_share=10)",
            "race(hedge_share=10): hedge_share must be the share of races that may start another "
            "arm, over 0 and up to 1, known when the pipeline is defined; write hedge_share=0.1 for "
            "one in ten",
        ),
        ("race(n, hedge_at='p95', hedge_share=0)", "race(hedge_share=0): hedge_share must be"),
        ("race(n, hedge_at='p95', hedge_share=n)", "race(hedge_share=<wire n>): hedge_share must"),
        ("race(n, hedge_at='p95', stagger_s=-1)", "race(stagger_s=-1): stagger_s must be"),
        ("route(flag, [n, n])", "the arms must be a dict from each possible label to the result"),
        ("route(flag, words)", "route(..., <wire words>): the arms must be a dict"),
        (
            "each(words, text(n), at_once=2)",
            "each(items, <wire text(...)>): the body must be a step, a pipeline, or a function of "
            "one item; pass it uncalled: each(items, some_step, at_once=8)",
        ),
        ("each(words, 3, at_once=2)", "each(items, 3): the body must be a step"),
    ],
)
def test_what_cannot_be_built_is_told_at_its_line(body: str, says: str) -> None:
    module = Written(f"{STEPS}\n{HEAD}return {body}  # HERE")
    with pytest.raises(DefinitionError) as caught:
        module.run()
    assert str(caught.value).startswith(module.where("HERE") + ": ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("given", "stagger_s", "hedge"),
    [
        ("", 0.0, None),
        ("stagger_s=2", 2, None),
        ("hedge_at='p95'", inf, Hedge(0.95, 0.1)),
        ("hedge_at=0.95, hedge_share=1", inf, Hedge(0.95, 1.0)),
        ("hedge_at='p99.9', stagger_s=0", 0, Hedge(0.999, 0.1)),
        ("hedge_at='p5', stagger_s=0.4, hedge_share=0.05", 0.4, Hedge(0.05, 0.05)),
    ],
)
def test_a_race_knows_when_its_arms_start(
    given: str, stagger_s: float, hedge: Hedge | None
) -> None:
    node = node_of(made(f"race(n, text(n), {given})").output)
    assert isinstance(node, Race)
    assert (node.stagger_s, node.hedge) == (stagger_s, hedge)


@pytest.mark.parametrize("body", ["lambda i, x: text(x)", "lambda: text(n)", "two"])
def test_a_body_takes_one_item(body: str) -> None:
    source = f"def two(a, b): return text(a)\n@pipeline\ndef p(n: list[int]): return each(n, {body}, at_once=2)  # HERE"
    module = Written(STEPS + source)
    with pytest.raises(
        DefinitionError, match="the body is called with one item, but takes "
    ) as caught:
        module.run()
    assert str(caught.value).startswith(module.where("HERE"))
    assert "each(items, lambda item: some_step(item, other), at_once=8)" in str(caught.value)


@pytest.mark.parametrize("call", ["race(1)", "fallback(1)", "route(1, {1: 2})", "each([], len)"])
def test_constructs_stand_in_pipelines_only(call: str) -> None:
    name = call.partition("(")[0]
    with pytest.raises(DefinitionError, match=rf"{name}\(...\) was called outside a pipeline"):
        written(call)
