"""Answer a question about a document that was handed in: text, Markdown or PDF."""

from __future__ import annotations

from orchestra import Stream, pipeline, prompt, step
from orchestra.documents import Document
from orchestra.errors import InputError
from orchestra.steps import cut, generate, nearest, pages
from orchestra.values import Passage


@step
def quote(passages: list[Passage]) -> str:
    """The passages as numbered sources: `[1] report.pdf — page 3: text`."""
    if not passages:
        raise InputError("it has no text; is it a scan?", field="document")
    return "\n".join(
        f"[{i}] {p.source} — page {p.metadata['page']}: {p.text}" for i, p in enumerate(passages, 1)
    )


@pipeline
def review(document: Document, question: str) -> Stream[str]:
    """Answer a question about a document, from the places in it that are nearest to it."""
    sources = quote(nearest(cut(pages(document)), question, top=5))
    asked = prompt("question: {question}\n\n{sources}", question=question, sources=sources)
    return generate(asked, model="smart")
