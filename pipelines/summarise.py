"""Summarise several texts at once, each in a few sentences."""

from __future__ import annotations

from orchestra import collect, each, pipeline, prompt
from orchestra.steps.generate import generate


@pipeline
def gist(text: str) -> str:
    """What a text says, in a few sentences."""
    asked = prompt("Summarise in three sentences:\n\n{text}", text=text)
    return collect(generate(asked, model="fast"))


@pipeline
def summarise(texts: list[str]) -> list[str]:
    """A summary of each text, in their order; four are in hand at once."""
    return each(texts, gist, at_once=4)
