"""The examples: each can be imported, has no problems, and does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import orchestra
from orchestra.compiler.check import check
from orchestra.config import default_bindings
from orchestra.engine.engine import open_engine
from orchestra.graph.pipelines import Pipeline
from orchestra.steps.ingest import ingest
from orchestra.values import Passage
from pipelines import answer, summarise

MODULES = (answer, summarise)
PIPELINES = [
    value for module in MODULES for value in vars(module).values() if isinstance(value, Pipeline)
]


def test_every_example_is_tested() -> None:
    folder = Path(answer.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} == {
        module.__name__.rpartition(".")[2] for module in MODULES
    }


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.name)
def test_an_example_has_no_problems(pipeline: Pipeline[..., object]) -> None:
    assert check(pipeline) == ()
    assert pipeline.doc


def test_sources_are_numbered_and_named() -> None:
    passages = [
        Passage("1", "One.", "docs/a.md", metadata={"heading": "Title > Part"}),
        Passage("2", "Two.", "notes.txt", metadata={"heading": ""}),
        Passage("3", "Three.", "docs/c.md"),
    ]
    assert answer.cite.call(passages, most=2) == (
        "[1] docs/a.md — Title > Part: One.\n[2] notes.txt: Two."
    )


def test_a_question_is_answered_with_its_sources(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "bees.md").write_text("# Bees\n\nBees make honey from the nectar of flowers.\n")
    (docs / "cars.md").write_text("# Cars\n\nA car needs fuel, or a battery, to be driven.\n")

    async def main() -> str:
        with default_bindings(tmp_path / "data") as bindings:
            store, embedder = bindings.stores.collection("docs"), bindings.embedder("default")
            await ingest(docs, store, embedder)
            async with open_engine(bindings) as engine:
                return await engine.run(answer.answer, "What do bees make?")

    said = trio.run(main)
    assert said.startswith("Bees make honey from the nectar of flowers. [1]")
    assert "bees.md — Bees" in said


def test_texts_are_summarised_in_their_order() -> None:
    texts = ["Bees make honey from the nectar of flowers.", "A car needs fuel to be driven at all."]
    first, second = orchestra.run(summarise.summarise, texts)
    assert "honey" in first
    assert "fuel" in second
