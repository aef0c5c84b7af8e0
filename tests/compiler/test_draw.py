"""Drawings show every node, every edge and every region, in three forms."""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

import pytest
from hypothesis import given

from orchestra.compiler.draw import as_json, as_mermaid, as_text
from orchestra.compiler.naming import paths_of
from orchestra.compiler.plan import plan
from orchestra.compiler.regions import divide
from orchestra.graph.nodes import Constant, EachItem, Input
from orchestra.graph.pipelines import Pipeline
from tests.compiler.graphs import pipelines
from tests.graph.written import written

SOURCE = """
from orchestra import chunks
@step
async def find(text: str, *, top: int = 3) -> list[Passage]: ...
@step
async def say(asked: str, *, policy: Policy | None = None) -> AsyncIterator[str]: yield ""
@step
async def up(chunks: Stream[str]) -> AsyncIterator[str]: yield ""
@step
async def tidy(text: str) -> str: return text
@step
async def join(texts: list[str], *, last: str) -> str: return last
@pipeline
def answer(question: str, flag: bool) -> str:
    found = find(question, top=8)
    tidied = each(found, lambda one: fallback(tidy(one.text), one.id, validate=str.strip, on=ValueError), at_once=4, ordered=False)
    asked = prompt("{q}\\n{n}", q=question, n=tidied)
    said = race(say(asked, policy=Policy(idle_s=2)), up(say(asked)), commit=chunks(2), stagger_s=0.5)
    return join([collect(said), question], last=route(flag, {True: question, False: "<no>"}))
"""

TEXT = """\
answer(question: str, flag: bool) ──> str   {where}
├─ find(text ── question, top=8)                             ──> list[Passage]
├─ each(── find, at_once=4, ordered=False)                   ──> list[str]
│  └─ item
│     └─ each[]/fallback(validate=str.strip, on=ValueError)  ──> str
│        ├─ 1:tidy
│        │  └─ each[]/tidy(text ── each[]/item.text)         ──> str
│        └─ 2:item ── each[]/item.id
├─ prompt(template='{{q}}\\n{{n}}', q ── question, n ── each)     ──> str
├─ race(commit=chunks(2), stagger_s=0.5)                     ══> Stream[str]
│  ├─ 1:say
│  │  └─ say(asked ── prompt, idle_s=2)                      ══> Stream[str]
│  └─ 2:up
│     ├─ say#2(asked ── prompt)                              ══> Stream[str]
│     └─ up(chunks ══ say#2)                                 ══> Stream[str]
├─ collect(══ race)                                          ──> str
├─ route(── flag)                                            ──> str
│  ├─ True ── question
│  └─ False ── '<no>'
└─ join(texts ── [collect, question], last ── route)         ──> str
output ── join

── one value   ══ chunk by chunk"""


@pytest.fixture(scope="module")
def answer() -> Any:
    return written(SOURCE)["answer"]


def test_the_text_is_a_tree_in_the_order_of_the_data(answer: Any) -> None:
    assert as_text(answer) == TEXT.format(where=answer.where)


def test_a_long_line_pushes_only_its_own_type() -> None:
    names = ", ".join(f"parameter_{n}={n}" for n in range(9))
    source = f"""
    @step
    def short(n): return n
    @step
    def long(n, **more): return n
    @pipeline
    def p(n: int): return long(short(n), {names})
    """
    lines = as_text(written(textwrap.dedent(source))["p"]).splitlines()
    assert lines[1] == "├─ short(n ── n)  ──> Any"
    assert lines[2].endswith(")  ──> Any")
    assert len(lines[2]) > 100


def test_a_pipeline_that_only_passes_on_is_drawn_too() -> None:
    made = written("@pipeline\ndef p(n: int) -> int: return n")["p"]
    assert as_text(made).splitlines()[1:] == ["output ── n", "", "── one value   ══ chunk by chunk"]


def test_a_pipeline_with_problems_is_drawn_too() -> None:
    made = written(
        "@step\ndef a(n: int, m: int) -> int: return n\n"
        "@pipeline\ndef p(n: int, unused: int): return a(n.nope)"
    )["p"]
    assert "a(n ── n.nope)  ──> int" in as_text(made)
    assert as_json(made)["edges"][0]["type"] == "?"
    assert "unused" not in as_mermaid(made)


def test_a_long_constant_is_shortened_to_one_line() -> None:
    made = written("@step\ndef a(n, m): ...\n@pipeline\ndef p(n): return a(n, 'x' * 99)")["p"]
    (constant,) = as_json(made)["nodes"][1]["constants"].values()
    assert len(constant) == 40
    assert constant.endswith("x…")


def test_a_constant_that_cannot_be_shown_is_drawn_by_its_class() -> None:
    made = written(
        "class Mute:\n    def __repr__(self): raise RuntimeError('not yet')\n"
        "@step\ndef a(n, m): ...\n@pipeline\ndef p(n): return a(n, Mute())"
    )["p"]
    (constant,) = as_json(made)["nodes"][1]["constants"].values()
    assert constant.startswith("<")
    assert "Mute object" in constant
    assert "Mute object" in as_text(made)


# --- JSON --------------------------------------------------------------------------------------


def test_the_json_says_where_everything_is(answer: Any) -> None:
    drawn = as_json(answer)
    nodes = {node["name"]: node for node in drawn["nodes"]}
    assert nodes["find"] == {
        "id": nodes["find"]["id"],
        "name": "find",
        "kind": "step",
        "runs": "async",
        "type": "list[Passage]",
        "where": nodes["find"]["where"],
        "region": 0,
        "constants": {"top": "8"},
        "options": {},
    }
    assert nodes["say"]["options"] == {"idle_s": 2}
    assert nodes["race"]["options"] == {"commit": "chunks(2)", "stagger_s": 0.5}
    assert nodes["each"]["options"] == {"at_once": 4, "ordered": False}
    kinds = {node["kind"] for node in drawn["nodes"]}
    assert kinds == {
        "input", "constant", "item", "step", "each", "race", "fallback", "route", "collect"
    }  # fmt: skip
    regions = {region["name"]: region for region in drawn["regions"]}
    assert regions["run"] == {"id": 0, "name": "run", "owner": None, "inside": None, "body": False}
    assert regions["item"]["body"] is True
    assert regions["1:tidy"]["inside"] == regions["item"]["id"]
    (into_up,) = (edge for edge in drawn["edges"] if edge["target"] == nodes["up"]["id"])
    assert into_up == {
        "source": nodes["say#2"]["id"],
        "part": "",
        "streams": True,
        "type": "Stream[str]",
        "target": nodes["up"]["id"],
        "into": "chunks",
        "region": None,
    }
    assert drawn["output"] == {
        "source": nodes["join"]["id"],
        "part": "",
        "streams": False,
        "type": "str",
    }


@given(pipelines())
def test_the_json_is_the_graph(pipeline: Pipeline[..., object]) -> None:
    regions = divide(pipeline.output)
    drawn = json.loads(json.dumps(as_json(pipeline)))
    assert drawn == json.loads(json.dumps(as_json(pipeline))), "the same is drawn the same"
    assert [node["id"] for node in drawn["nodes"]] == list(range(len(regions.order)))
    names = [node["name"] for node, each in zip(drawn["nodes"], regions.order, strict=True)
             if not isinstance(each, Input | Constant)]  # fmt: skip
    assert len(names) == len(set(names))
    edges = [(edge["source"], edge["target"]) for edge in drawn["edges"]]
    assert len(edges) == sum(len(node.edges) for node in regions.order)
    assert all(source < target for source, target in edges)
    for region in drawn["regions"]:
        into = [edge for edge in drawn["edges"] if edge["region"] == region["id"]]
        assert len(into) == (region["owner"] is not None)
        assert all(edge["target"] == region["owner"] for edge in into)


# --- all of them -------------------------------------------------------------------------------


@given(pipelines())
def test_every_node_has_one_row_and_one_mermaid_node(pipeline: Pipeline[..., object]) -> None:
    regions = divide(pipeline.output)
    rows = as_text(pipeline).splitlines()
    calls = [row.lstrip("│├└─ ").partition("(")[0] for row in rows[1:] if "(" in row]
    running = [
        path
        for node, path in paths_of(regions).items()
        if not isinstance(node, Input | Constant | EachItem)
    ]
    assert sorted(calls) == sorted(running)
    defined = re.findall(r"^    n(\d+)[^\w ]*\"", as_mermaid(pipeline), re.MULTILINE)
    assert sorted(map(int, defined)) == list(range(len(regions.order)))


LINE = re.compile(
    r"""flowchart\ TD
    | \ \ \ \ (subgraph\ r\d+\["[^"]*"\] | end)
    | \ \ \ \ (n\d+|output)(\(\["[^"]*"\]\)|\("[^"]*"\)|\{"[^"]*"\}|\{\{"[^"]*"\}\}
        |\[\["[^"]*"\]\]|\[/"[^"]*"\\\]|\["[^"]*"\])
    | \ \ \ \ n\d+\ (==>|-->)(\|"[^"]*"\|)?\ (n\d+|output)""",
    re.VERBOSE,
)


@given(pipelines())
def test_every_line_of_mermaid_is_in_its_grammar(pipeline: Pipeline[..., object]) -> None:
    """What Mermaid's own parser was shown, as an expression: it is a package of npm."""
    lines = as_mermaid(pipeline).splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    starts = [line for line in lines if "subgraph" in line]
    assert len(starts) == lines.count("    end")


def test_mermaid_frames_regions_and_escapes_what_it_would_read(answer: Any) -> None:
    drawn = as_mermaid(answer)
    assert all(LINE.fullmatch(line) for line in drawn.splitlines())
    assert "(\"'#60;no#62;'<br/>str\")" in drawn
    assert 'say#35;2<br/>Stream[str]"]' in drawn
    assert '["race: 1:say"]' in drawn
    assert re.search(r'n\d+ ==>\|"2:up"\| n\d+', drawn)
    assert re.search(r'n\d+ -->\|"\.id 2:item"\| n\d+', drawn)
    assert drawn.endswith("--> output")


# --- deep and wide -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "    for _ in range(1200): x = one(x)\n    return x",
        "    for _ in range(1100): x = fallback(one(x), x)\n    return x",
        "    return [race(one(x), x) for _ in range(600)]",
        "    said = gen(x)\n    for _ in range(1200): said = up(said)\n    return said",
        "    y = x\n    for _ in range(1100): x, y = two(x, y), two(y, x)\n    return two(x, y)",
    ],
    ids=["chain", "nest", "wide", "stream", "ladder"],
)
def test_no_graph_is_too_deep(body: str) -> None:
    """Checked, planned and drawn without recursion, and in a few seconds, not in hours."""
    from orchestra.compiler.check import check
    from orchestra.compiler.plan import plan

    made = written(
        f"""
@step
async def one(x: int) -> int: return x
@step
async def two(x: int, y: int) -> int: return x
@step
async def gen(x: int) -> AsyncIterator[str]: yield ""
@step
async def up(chunks: Stream[str]) -> AsyncIterator[str]: yield ""
@pipeline
def p(x: int) -> Any:
{body}
"""
    )["p"]
    assert check(made) == ()
    nodes = len(as_json(made)["nodes"])
    assert len([op for op in plan(made).block.operations if op]) == nodes - 1
    assert len(as_text(made).splitlines()) >= nodes
    assert as_mermaid(made).count("\n") > nodes


def test_a_retry_is_drawn_with_its_numbers_and_without_what_is_by_default() -> None:
    module = written(
        SOURCE
        + """
@pipeline
def patient(question: str) -> Stream[str]:
    rule = Retry(attempts_max=3, delay_s=1, on=(KeyError,))
    return say(question, policy=Policy(first_chunk_s=4, retry=rule))
"""
    )
    drawn = as_text(module["patient"])
    assert "say(asked ── question, first_chunk_s=4, attempts_max=3, delay_s=1)" in drawn


def test_a_fallback_shows_how_it_decides() -> None:
    source = """
    @step
    async def say(n: int) -> AsyncIterator[str]: yield ""
    @pipeline
    def p(n: int) -> Stream[str]:
        return fallback(say(n), say(n), on=(ValueError, TimeoutError), restart=True)
    """
    pipeline = written(textwrap.dedent(source))["p"]
    assert "└─ fallback(on=(ValueError, TimeoutError), restart=True)" in as_text(pipeline)
    nodes = {node["name"]: node for node in as_json(pipeline)["nodes"]}
    assert nodes["fallback"]["options"] == {"on": "(ValueError, TimeoutError)", "restart": True}


def test_an_each_shows_how_many_of_its_items_may_fail() -> None:
    source = """
    @step
    async def one(n: int) -> int: return n
    @pipeline
    def p(ns: list[int]) -> list[Any]:
        return each(ns, one, at_once=8, failures_max=3)
    """
    pipeline = written(textwrap.dedent(source))["p"]
    assert "at_once=8, failures_max=3)" in as_text(pipeline)


def test_a_hedge_is_told_with_its_cap() -> None:
    """In the drawing as it was written, with the share also where it is by default."""
    module = written(
        """
@step
async def ask(n: int) -> str: return ""
@pipeline
def p(n: int) -> str: return race(ask(n), ask(n), hedge_at=0.95)
"""
    )
    hedged = module["p"]
    assert "race(hedge_at='p95', hedge_share=0.1)" in as_text(hedged)
    assert "hedge_at='p95'<br/>hedge_share=0.1" in as_mermaid(hedged)
    (node,) = (node for node in as_json(hedged)["nodes"] if node["kind"] == "race")
    assert node["options"] == {"hedge_at": "p95", "hedge_share": 0.1}
    assert "\n  hedge    race: hedge at p95, at most 10 %" in plan(hedged).explain()


@pytest.mark.parametrize(
    ("given", "drawn"),
    [("", ""), (", stagger_s=0", "stagger_s=0.0, "), (", stagger_s=2", "stagger_s=2.0, ")],
)
def test_a_hedge_is_drawn_with_the_delay_that_it_has_until_it_has_learned_one(
    given: str, drawn: str
) -> None:
    """Also where it is 0, which without a hedge is the default."""
    source = f"""
    @step
    async def ask(n: int) -> str: return ""
    @pipeline
    def p(n: int) -> str: return race(ask(n), ask(n), hedge_at=0.95{given})
    """
    pipeline = written(textwrap.dedent(source))["p"]
    assert f"race({drawn}hedge_at='p95', hedge_share=0.1)" in as_text(pipeline)
