"""Replay of a complete answer as a stream of events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestra.answers import Completion
from orchestra.citations import Citation, Cited, passages
from orchestra.values import (
    Began,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    UsageReport,
)

PIECE_CHARS = 4096
"""The size of a replayed piece of text, in characters."""


def events_of(
    answer: Completion, original_usage: Mapping[str, Any] | None = None
) -> Iterator[ModelEvent]:
    """The events of a replayed answer; `original_usage` is that of the call that gave it."""
    if answer.id or answer.model or answer.details:
        yield Began(answer.id, answer.model, answer.details)
    if answer.logprobs is not None:
        yield answer.logprobs
    calls = 0
    sent: set[Citation] = set()
    texts = (part.text for part in answer.parts if isinstance(part, TextPart))
    cut = passages(texts, answer.citations)
    for part in answer.parts:
        match part:
            case TextPart():
                for passage, cited in next(cut):
                    yield from map(TextDelta, _pieces(passage))
                    if answer.citations:
                        yield Cited(cited)
                        sent.update(cited)
            case ReasoningPart(text=text, signature=signature):
                *before, last = _pieces(text) or [""]
                yield from (ReasoningDelta(piece) for piece in before)
                yield ReasoningDelta(last, signature)
            case ToolCall():
                yield ToolCallDelta(calls, part.id, part.name, part.arguments, part.signature)
                calls += 1
    if rest := tuple(each for each in answer.citations if each not in sent):
        yield Cited(rest)
    if answer.refusal:
        yield RefusalDelta(answer.refusal)
    if answer.usage is not None:
        raw = {"cached": dict(original_usage)} if original_usage else {}
        yield UsageReport(answer.usage, raw)
    yield answer.stopped


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]
