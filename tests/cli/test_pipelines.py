"""The examples: each can be imported, has no problems, and does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from orchestra.compiler.check import check
from orchestra.config import default_bindings
from orchestra.documents import Document
from orchestra.engine.engine import open_engine
from orchestra.errors import InputError
from orchestra.graph.pipelines import Pipeline
from orchestra.steps.ingest import ingest
from orchestra.values import Passage
from pipelines import answer, questions, review, triage
from tests.pdfs import pdf

MODULES = (answer, questions, review, triage)
PIPELINES = [
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, Pipeline) and value.function.__module__ == module.__name__
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


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment whose store `docs` knows of bees and cars."""
    folder = tmp_path_factory.mktemp("examples")
    docs = folder / "docs"
    docs.mkdir()
    (docs / "bees.md").write_text("# Bees\n\nBees make honey from the nectar of flowers.\n")
    (docs / "cars.md").write_text("# Cars\n\nA car needs fuel, or a battery, to be driven.\n")

    async def main() -> None:
        with default_bindings(folder, environ={}) as bindings:
            store, embedder = bindings.stores.collection("docs"), bindings.embedder("default")
            await ingest(docs, store, embedder)

    trio.run(main)
    return folder


def run(data: Path, pipeline: Pipeline[..., Any], **inputs: object) -> Any:
    async def main() -> Any:
        with default_bindings(data, environ={}) as bindings:
            async with open_engine(bindings) as engine:
                return await engine.run(pipeline, **inputs)

    return trio.run(main)


def test_a_question_is_answered_with_its_sources(data: Path) -> None:
    said = run(data, answer.answer, question="What do bees make?")
    assert said.startswith("Bees make honey from the nectar of flowers. [1]")
    assert "bees.md — Bees" in said


def test_several_questions_are_answered_in_their_order(data: Path) -> None:
    asked = ["What does a car need to be driven?", "What do bees make?"]
    first, second = run(data, questions.answers, questions=asked)
    assert first.startswith("A car needs fuel")
    assert second.startswith("Bees make honey")


TEXT = "Bees make honey from the nectar of flowers."
CARS = "A car needs fuel, or a battery, to be driven."


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (Document("notes.txt", f"{CARS}\n\n{TEXT}\n".encode()), "notes.txt — page 1"),
        (
            Document("notes.md", f"# Cars\n\n{CARS}\n\n# Bees\n\n{TEXT}\n".encode()),
            "notes.md — page 1",
        ),
        (Document("notes.pdf", pdf(CARS, TEXT)), "notes.pdf — page 2"),
    ],
    ids=lambda value: value.name if isinstance(value, Document) else "",
)
def test_a_document_is_answered_from(data: Path, document: Document, place: str) -> None:
    said = run(data, review.review, document=document, question="What do bees make?")
    assert said.startswith(TEXT)
    assert place in said


@pytest.mark.parametrize("document", [Document("empty.md", b""), Document("scan.pdf", pdf(""))])
def test_a_document_without_text_is_refused(data: Path, document: Document) -> None:
    with pytest.raises(InputError, match="is it a scan"):
        run(data, review.review, document=document, question="What do bees make?")


@pytest.mark.parametrize(
    ("message", "beginning"),
    [
        ("What do bees make?", "Bees make honey"),
        ("It crashes with an error as soon as I start it.", "This is being looked at."),
        ("Thank you so much, this is great!", "Thank you."),
    ],
)
def test_each_kind_of_message_is_answered_in_its_own_way(
    data: Path, message: str, beginning: str
) -> None:
    assert run(data, triage.triage, message=message).startswith(beginning)
