"""What `generate` tells of an answer's citations."""

from __future__ import annotations

from typing import Any

from orchestra import Stream, pipeline
from orchestra.citations import Citation, Cited, Span
from orchestra.events import StepTold
from orchestra.graph.pipelines import Pipeline
from orchestra.steps import generate
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import World
from orchestra.values import ModelEvent, TextDelta, ToolCall


def look(word: str) -> str:
    """Look a word up."""
    return word


@pipeline
def plain(question: str) -> Stream[str]:
    return generate(question, tools=[look])


@pipeline
def citing(question: str) -> Stream[str]:
    return generate(question, tools=[look], citations=True)


WITH_ALL = Citation(6, 9, "Quoted.", "T", "https://a.test/", 2, Span("pages", 1, 2))


def run_of(which: Pipeline[..., Stream[str]], *cited: Citation) -> Simulation[Any]:
    first: list[ModelEvent | ToolCall] = [
        TextDelta("Let us see."),
        Cited((Citation(0, 3, title="first"),)),
    ]
    last: list[ModelEvent | ToolCall] = [
        TextDelta("It is "),
        Cited(),
        TextDelta("so."),
        Cited(cited),
    ]
    turns = ScriptedTurns.saying([*first, ToolCall("c", "look", '{"word": "x"}')], last)
    run = simulate(which, World(models={"default": turns}), question="?")
    assert run.value == "Let us see.\n\nIt is so.", "the text is the same, told or not"
    return run


def told(run: Simulation[Any]) -> list[Any]:
    return [event.data for event in run.events if isinstance(event, StepTold)]


def test_citations_are_told_in_the_places_of_the_output() -> None:
    run = run_of(citing, WITH_ALL)
    first, second = told(run)
    assert first == {
        "start": 0,
        "end": 3,
        "quote": "",
        "title": "first",
        "source": "",
        "index": None,
        "span": None,
    }
    assert second == {
        "start": 19,
        "end": 22,
        "quote": "Quoted.",
        "title": "T",
        "source": "https://a.test/",
        "index": 2,
        "span": {"unit": "pages", "start": 1, "end": 2},
    }
    assert str(run.value)[19:22] == "so."


def test_who_has_not_asked_for_them_is_told_none() -> None:
    assert told(run_of(plain, WITH_ALL)) == []


def test_a_long_quote_is_told_shortened_and_never_fails_the_run() -> None:
    long = "\x01" * 50_000  # six bytes each, as JSON
    _, second = told(run_of(citing, Citation(0, 1, long, long, long)))
    assert [len(second[name]) for name in ("quote", "title", "source")] == [1200, 200, 1000]
