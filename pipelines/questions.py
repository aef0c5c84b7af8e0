"""Answer several questions at once, each from the documents."""

from __future__ import annotations

from orchestra import collect, each, pipeline
from pipelines.answer import answer


@pipeline
def answers(questions: list[str]) -> list[str]:
    """An answer to each question, in their order; four are in hand at once."""
    return each(questions, lambda question: collect(answer(question)), at_once=4)
