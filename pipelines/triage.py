"""Tell what a message is, and answer each kind in its own way."""

from __future__ import annotations

from collections.abc import AsyncIterator

from orchestra import Stream, pipeline, route, step
from orchestra.steps import classify
from pipelines.answer import answer

KINDS = {
    "question": "asks what something is, how it works, or how to do it",
    "bug": "reports an error, a crash, or something that does not work",
    "thanks": "says thank you, or that something is good",
}


@step
async def reply(text: str) -> AsyncIterator[str]:
    """A text that needs no model, word by word."""
    for word in text.split():
        yield f"{word} "


@pipeline
def triage(message: str) -> Stream[str]:
    """Answer a question from the documents, and anything else with a fixed text."""
    return route(
        classify(message, labels=KINDS),
        {
            "question": answer(message),
            "bug": reply("This is being looked at. Which version is it, and what does it say?"),
        },
        default=reply("Thank you. That is good to hear."),
    )
