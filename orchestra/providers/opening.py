"""The beginning of an answer: what comes before its first content, and can still be taken back."""

from __future__ import annotations

from collections.abc import Iterable

from orchestra.accounts import Usage
from orchestra.errors import MalformedStreamError, TruncatedStreamError
from orchestra.logprobs import Logprobs
from orchestra.protocols import ModelReply
from orchestra.values import (
    Began,
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
)

BATCHES_MAX = 10_000
"""Batches without any content before an answer is none; pings come every few seconds."""


class Opening:
    """Waits for an answer's first content.

    Of what comes before it, the last word on who answers and on the usage is kept; the rest says
    nothing by itself.
    """

    def __init__(self) -> None:
        self._held: dict[type[ModelEvent], ModelEvent] = {}

    @property
    def usage(self) -> Usage | None:
        """What has been consumed before the first content, as far as was told."""
        held = self._held.get(UsageReport)
        return held.usage if isinstance(held, UsageReport) else None

    async def wait(self, reply: ModelReply) -> tuple[ModelEvent, ...]:
        """Everything up to and with the batch that has the first content, or the end.

        Raises:
            TruncatedStreamError: the answer is over, and did not say so.
            MalformedStreamError: `BATCHES_MAX` batches had no content.
            ModelError: it failed.
        """
        for _ in range(BATCHES_MAX):
            batch = await reply.receive()
            if not batch:
                raise TruncatedStreamError("the answer ended before it began: it was cut")
            for at, event in enumerate(batch):
                if says(event):
                    return (*self._held.values(), *batch[at:])
                if isinstance(event, Began | UsageReport):
                    self._held[type(event)] = event
                elif isinstance(event, Logprobs):
                    before = self._held.get(Logprobs)
                    self._held[Logprobs] = before + event if isinstance(before, Logprobs) else event
        raise MalformedStreamError(f"there was no content in {BATCHES_MAX} batches of the answer")


def refusal_in(opening: Iterable[ModelEvent]) -> str | None:
    """Why an answer is none, if a refusal or a content filter is the first that it says."""
    match next(filter(says, opening), None):
        case RefusalDelta(text=why):
            return why
        case Stopped(reason=StopReason.CONTENT_FILTER, raw=raw):
            return stopped_for(raw)
        case _:
            return None


def stopped_for(raw: str | None) -> str:
    """How a content filter is told that gave no words, but perhaps the provider's own."""
    return f"it stopped for {(raw or StopReason.CONTENT_FILTER.value)!r}"


def says(event: ModelEvent) -> bool:
    """Whether an event is content, or the end: what cannot be taken back once it was passed on."""
    if isinstance(event, TextDelta):  # most of them are
        return event.text != ""
    match event:
        case RefusalDelta(text="") | ReasoningDelta(text="", signature=""):
            return False
        case Began() | UsageReport() | Logprobs():
            return False
        case _:
            return True
