"""A plan is a checked pipeline with its names resolved; it says of every edge what it does."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from orchestra.compiler.plan import Plan, plan
from orchestra.errors import CheckError
from orchestra.protocols import Bindings
from tests.graph.written import written

STEPS = """
from orchestra import complete
from orchestra.protocols import EmbedderName, ModelName, StoreName
@step
async def one(x: int) -> int: return x
@step
async def gen(n: int) -> AsyncIterator[str]: yield ""
@step
async def up(chunks: Stream[str]) -> AsyncIterator[str]: yield ""
@step
async def ask(text: str, *, model: ModelName = "default", store: StoreName = "handbook",
              embedder: EmbedderName = "default") -> str: return text
"""


class Bound(Bindings):
    """A deployment that has these names, and nothing behind them."""

    def __init__(self, **names: tuple[str, ...]) -> None:
        self._names = names

    def names(self, seam: str) -> tuple[str, ...]:
        return self._names.get(seam, ())

    def model(self, name: str) -> Any:
        raise NotImplementedError(name)

    def embedder(self, name: str) -> Any:
        raise NotImplementedError(name)

    def store(self, name: str) -> Any:
        raise NotImplementedError(name)


def explained(body: str, takes: str = "n: int") -> list[str]:
    made = written(f"{STEPS}\n@pipeline\ndef p({takes}):\n    return {body}  # HERE")
    where = made.where("# HERE")
    return plan(made["p"]).explain().replace(where, "HERE").splitlines()


def test_the_report_says_of_every_edge_whether_it_streams_and_why() -> None:
    assert explained("race(up(gen(one(n))), gen(n))") == [
        "p: the output streams, chunks of str",
        "  value    n -> one(x=...): one value, int",
        "  value    one -> gen(n=...): one value, int",
        "  streams  gen -> up(chunks=...): both ends take chunks of str",
        "  value    n -> gen#2(n=...): one value, int",
        "  streams  up -> race(arm 1:up): passed on as it comes, once race has chosen this arm",
        "  streams  gen#2 -> race(arm 2:gen): passed on as it comes, once race has chosen this arm",
        "  streams  race -> the output: the output streams, chunks of str",
    ]


def test_the_report_shows_where_streaming_stops() -> None:
    assert explained("race(gen(n), gen(n), commit=complete())")[3] == (
        "  streams  gen -> race(arm 1:gen): held until this arm of race is complete, then passed "
        "on as a whole"
    )
    assert explained("collect(gen(n))") == [
        "p: collected into str at HERE",
        "  value    n -> gen(n=...): one value, int",
        "  streams  gen -> collect(...): chunks of str arrive, but HERE waits for the last one",
        "  value    collect -> the output: collected into str at HERE",
    ]


def test_the_report_tells_an_each_over_a_list_from_one_over_a_stream() -> None:
    listed = explained("each(each(ns, one, at_once=2), one, at_once=2)", "ns: list[int]")
    assert (
        "  value    each -> each#2(items): a list is complete only with its last item: list[int]"
        in (listed)
    )
    streamed = explained("each(gen(n), lambda chunk: (chunk, 1), at_once=3)")
    assert "  streams  gen -> each(items): each str starts its own body, 3 at once" in streamed
    assert streamed[0] == "p: the output streams, chunks of tuple[str, int]"


def test_a_plan_knows_whether_its_output_streams() -> None:
    assert plan(written(f"{STEPS}\n@pipeline\ndef p(n: int): return gen(n)")["p"]).streams
    assert not plan(written(f"{STEPS}\n@pipeline\ndef p(n: int): return one(n)")["p"]).streams


def test_the_edges_of_a_plan_are_what_its_report_tells() -> None:
    made = plan(written(f"{STEPS}\n@pipeline\ndef p(n: int): return up(gen(one(n)))")["p"])
    assert [each.streams for each in made.edges] == [False, False, True, True]
    for edge, line in zip(made.edges, made.explain().splitlines()[1:], strict=True):
        assert edge.why in line


def test_problems_keep_a_plan_from_being_made() -> None:
    with pytest.raises(CheckError) as caught:
        plan(written(f"{STEPS}\n@pipeline\ndef p(n: int): return one('x')")["p"])
    assert [problem.code for problem in caught.value.problems] == ["unused-input", "type-clash"]


ASKING = """
@pipeline
def p(q: str) -> list[str]:
    return [
        ask(q, model="fsat", store="nowhere"),  # FIRST
        ask(q, embedder="other"),  # SECOND
    ]
"""


def test_names_that_the_deployment_does_not_have_are_told_with_the_nearest() -> None:
    made = written(STEPS + ASKING)
    bound = Bound(model=("fast", "smart"), store=("handbook",))
    with pytest.raises(CheckError) as caught:
        plan(made["p"], bound)
    first, second = made.where("FIRST"), made.where("SECOND")
    assert [(each.where, each.message, each.fix) for each in caught.value.problems] == [
        (
            first,
            "ask(model='fsat'): there is no model 'fsat'",
            "did you mean 'fast'? this deployment has: 'fast', 'smart'",
        ),
        (
            first,
            "ask(store='nowhere'): there is no store 'nowhere'",
            "this deployment has: 'handbook'",
        ),
        (
            first,
            "ask(embedder='default'): there is no embedder 'default'",
            "this deployment has: none; add [embedders.default] to orchestra.toml, or in a test "
            "World(embedders={'default': ...})",
        ),
        (
            second,
            "ask(model='default'): there is no model 'default'",
            "this deployment has: 'fast', 'smart'; add [models.default] to orchestra.toml, or in a "
            "test World(models={'default': ...})",
        ),
        (
            second,
            "ask(embedder='other'): there is no embedder 'other'",
            "this deployment has: none; add [embedders.other] to orchestra.toml, or in a test "
            "World(embedders={'other': ...})",
        ),
    ]
    assert {each.code for each in caught.value.problems} == {"unknown-name"}


def test_names_are_left_alone_without_bindings_and_where_a_wire_gives_them() -> None:
    made = written(STEPS + ASKING)
    assert isinstance(plan(made["p"]), Plan)
    named = written(f"{STEPS}\n@pipeline\ndef p(q: str, name: str): return ask(q, model=name)")
    made_too = plan(named["p"], Bound(store=("handbook",), embedder=("default",)))
    assert made_too.pipeline is named["p"]


def test_a_deployment_that_has_all_names_has_no_problem() -> None:
    made = written(f"{STEPS}\n@pipeline\ndef p(q: str): return ask(q)")
    names = {"model": ("default",), "store": ("handbook",), "embedder": ("default",)}
    assert plan(made["p"], Bound(**names)).pipeline is made["p"]


def calls_to_plan(doubled: str, times: int) -> int:
    """The calls of functions that it takes to define and plan a pipeline with such an argument."""
    source = f"""
held = "x"
for _ in range({times}): held = {doubled}
@step
def take(held: object, x: int) -> str: return ""
@pipeline
def p(x: int) -> str: return take(held, x)
"""
    made = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal made
        made += event == "call"

    sys.setprofile(count)
    try:
        plan(written(source)["p"], Bound())
    finally:
        sys.setprofile(None)
    return made


@pytest.mark.parametrize("doubled", ["[held, held]", "(held, held)", "{1: held, 2: held}"])
def test_a_container_that_an_argument_holds_many_times_is_searched_once(doubled: str) -> None:
    """Nested 14 deep, it is there 16,000 times."""
    assert calls_to_plan(doubled, 14) < 2 * calls_to_plan(doubled, 7)
