"""LangGraph: a compiled `StateGraph` without a checkpointer, its leanest form."""

# The peers are installed for a benchmark only; where they are not, mypy has nothing to read.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from benchmarks.stopwatch import Stopwatch, Taken

WIDTH = 8


class Diamond(TypedDict, total=False):
    """The state of a diamond."""

    x: int
    found: Annotated[list[int], operator.add]
    total: int


class Chain(TypedDict):
    """The state of a chain."""

    x: int


async def _increment(state: Chain) -> dict[str, int]:
    return {"x": state["x"] + 1}


async def _find(state: Diamond) -> dict[str, list[int]]:
    return {"found": [state["x"] + 1]}


async def _total(state: Diamond) -> dict[str, int]:
    return {"total": sum(state["found"])}


def _compiled_diamond() -> Any:
    graph: Any = StateGraph(Diamond)
    graph.add_node("head", _increment)
    graph.add_node("join", _total)
    graph.add_edge(START, "head")
    arms = [f"arm{n}" for n in range(WIDTH)]
    for arm in arms:
        graph.add_node(arm, _find)
        graph.add_edge("head", arm)
    graph.add_edge(arms, "join")  # a list: the join waits for all of them
    graph.add_edge("join", END)
    return graph.compile()


def _compiled_chain() -> Any:
    graph: Any = StateGraph(Chain)
    names = [f"step{n}" for n in range(10)]
    for name in names:
        graph.add_node(name, _increment)
    for source, target in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(source, target)
    return graph.compile()


def diamond(runs: int) -> Taken:
    """The time for so many diamonds."""
    return asyncio.run(_seconds(_compiled_diamond(), runs, "total", 24))


def chain(runs: int) -> Taken:
    """The time for so many chains."""
    return asyncio.run(_seconds(_compiled_chain(), runs, "x", 11))


async def _seconds(graph: Any, runs: int, key: str, expected: int) -> Taken:
    found = await graph.ainvoke({"x": 1})
    if found[key] != expected:
        raise AssertionError(f"the shape gave {found}, not {key} = {expected}")
    watch = Stopwatch()
    for _ in range(runs):
        await graph.ainvoke({"x": 1})
    return watch.taken()
