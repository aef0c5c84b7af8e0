"""The beginning of an answer, up to its first content: until then, another model may be asked."""

from __future__ import annotations

from collections.abc import Iterable

from orchestra.accounts import Usage
from orchestra.answers import ANSWER_CHARS_MAX
from orchestra.citations import Cited
from orchestra.errors import MalformedStreamError, TruncatedStreamError
from orchestra.logprobs import Logprobs
from orchestra.policies.answers.sizes import held_bytes
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
"""The most batches without content at the beginning of an answer; pings come every few seconds."""


class Opening:
    """Waits for the first content of an answer.

    Of the events before it, the last `Began`, the last `UsageReport`, and all `Logprobs` and
    `Cited` are kept.
    """

    def __init__(self) -> None:
        self._held: dict[type[ModelEvent], ModelEvent] = {}
        self._beside: list[ModelEvent] = []
        self._beside_bytes = 0

    @property
    def usage(self) -> Usage | None:
        """The usage that was reported before the first content; None without a report."""
        held = self._held.get(UsageReport)
        return held.usage if isinstance(held, UsageReport) else None

    async def wait(self, reply: ModelReply) -> tuple[ModelEvent, ...]:
        """Wait for the first content or the stop reason.

        Returns the kept events, followed by the events from there to the end of the batch.

        Raises:
            TruncatedStreamError: the answer ended without a stop reason.
            MalformedStreamError: `BATCHES_MAX` batches had no content, or the kept `Logprobs` and
                `Cited` are longer than `ANSWER_CHARS_MAX`.
            ModelError: the answer failed.
        """
        for _ in range(BATCHES_MAX):
            batch = await reply.receive()
            if not batch:
                raise TruncatedStreamError("the answer was cut: it ended before its first content")
            for at, event in enumerate(batch):
                if says(event):
                    return (*self._held.values(), *self._beside, *batch[at:])
                if isinstance(event, Began | UsageReport):
                    self._held[type(event)] = event
                elif isinstance(event, Logprobs | Cited):
                    self._keep(event)
        raise MalformedStreamError(f"the first {BATCHES_MAX} batches of the answer had no content")

    def _keep(self, event: Logprobs | Cited) -> None:
        self._beside.append(event)
        self._beside_bytes += held_bytes(event)
        if self._beside_bytes > ANSWER_CHARS_MAX:
            self._beside.clear()  # the raised error keeps this frame in memory
            raise MalformedStreamError(
                f"the answer began with {ANSWER_CHARS_MAX} bytes of citations and logprobs, "
                "without content"
            )


def refusal_in(opening: Iterable[ModelEvent]) -> str | None:
    """Why the answer was refused, if it begins with a refusal or a content filter's stop."""
    match next(filter(says, opening), None):
        case RefusalDelta(text=why):
            return why
        case Stopped(reason=StopReason.CONTENT_FILTER, raw=raw):
            return stopped_for(raw)
        case _:
            return None


def stopped_for(raw: str | None) -> str:
    """The reason to show if a content filter stopped an answer; `raw` is the provider's reason."""
    return f"it stopped for {(raw or StopReason.CONTENT_FILTER.value)!r}"


def says(event: ModelEvent) -> bool:
    """Whether an event is content or the stop reason, after which no other model may be asked."""
    if isinstance(event, TextDelta):  # most events
        return event.text != ""
    match event:
        case RefusalDelta(text="") | ReasoningDelta(text="", signature=""):
            return False
        case Began() | UsageReport() | Logprobs() | Cited():
            return False
        case _:
            return True
