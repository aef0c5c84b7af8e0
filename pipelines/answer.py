"""Answer a question from documents, from the model that answers first."""

from __future__ import annotations

from orchestra import Policy, Stream, pipeline, prompt, race, step
from orchestra.steps import classify, embed, generate, retrieve
from orchestra.values import Passage

INTENTS = {
    "how-to": "how to do something, which steps to take",
    "explanation": "what something is, how it works, or why it is so",
    "troubleshooting": "an error, or something that does not work",
}


@step
def cite(passages: list[Passage], *, most: int) -> str:
    """The passages as numbered sources: `[1] docs/x.md — Heading: text`."""
    return "\n".join(f"[{i}] {_named(p)}: {p.text}" for i, p in enumerate(passages[:most], 1))


def _named(passage: Passage) -> str:
    """Where a passage is from, as a person would look it up."""
    heading = passage.metadata.get("heading")
    return f"{passage.source} — {heading}" if heading else passage.source


@pipeline
def answer(question: str) -> Stream[str]:
    """Answer a question from the documents, from the model that answers first."""
    sources = cite(retrieve(embed(question), store="docs", top=8), most=5)
    intent = classify(question, labels=INTENTS)  # runs beside the retrieval
    asked = prompt(
        "{intent} question: {question}\n\n{sources}",
        intent=intent,
        question=question,
        sources=sources,
    )
    return race(
        generate(asked, model="fast"),
        generate(asked, model="smart", policy=Policy(first_chunk_s=4, idle_s=10)),
        stagger_s=0.4,
    )
