"""Reasoning that a server sends within the text of an answer, in tags: `<think>...</think>`.

Pure. It is taken out of the text and becomes `ReasoningDelta`s. Only reasoning at the start of an
answer counts: what comes later may be an answer about such tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto

import attrs

from orchestra.codecs.dialect import Decoder
from orchestra.values import (
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    TextDelta,
    ToolCallDelta,
)

_ENDS_TEXT = (ToolCallDelta, RefusalDelta, Stopped)
"""Events after which a held beginning of a tag can no longer be completed."""


@attrs.frozen
class ReasoningTags:
    """The tags around the reasoning; `opening` is "" if each answer begins with reasoning.

    Many templates of models end with the opening tag, so that the model sends only the other one.
    """

    opening: str
    closing: str


class TaggedDecoder(Decoder):
    """A decoder that also takes the reasoning out of the text."""

    def __init__(self, decoder: Decoder, tags: ReasoningTags) -> None:
        self._decoder = decoder
        self._splitter = _Splitter(tags)

    @property
    def done(self) -> bool:
        return self._decoder.done

    def feed(self, data: bytes) -> list[ModelEvent]:
        return self._splitter.split(self._decoder.feed(data))

    def close(self) -> list[ModelEvent]:
        return [*self._splitter.split(self._decoder.close()), *self._splitter.rest()]


def untagged(events: Iterable[ModelEvent], tags: ReasoningTags) -> list[ModelEvent]:
    """The events of a whole answer, with its reasoning taken out of the text."""
    splitter = _Splitter(tags)
    return [*splitter.split(events), *splitter.rest()]


class _At(Enum):
    """Where in an answer the next text is."""

    START = auto()
    """Before or within the opening tag, if there is one."""
    REASONING = auto()
    GAP = auto()
    """Behind the closing tag, in the white space before the answer."""
    ANSWER = auto()


class _Splitter:
    """Splits the text of one answer; the result does not depend on how the text is cut."""

    def __init__(self, tags: ReasoningTags) -> None:
        self._tags = tags
        self._at = _At.START if tags.opening else _At.REASONING
        self._held = ""
        """Text that is not passed on yet, since it may be white space or part of a tag."""

    def split(self, events: Iterable[ModelEvent]) -> list[ModelEvent]:
        """The events, with reasoning in place of the text in tags."""
        found: list[ModelEvent] = []
        for each in events:
            if isinstance(each, TextDelta):
                if self._at is _At.ANSWER:
                    found.append(each)
                else:
                    found += self._take(self._held + each.text)
                continue
            if self._held and isinstance(each, _ENDS_TEXT):
                found += self.rest()
            found.append(each)
        return found

    def rest(self) -> Sequence[ModelEvent]:
        """The held text, once it is clear that it is no part of a tag."""
        held, self._held = self._held, ""
        if not held or self._at is _At.GAP:
            return ()
        return [TextDelta(held) if self._at is _At.START else ReasoningDelta(held)]

    def _take(self, text: str) -> list[ModelEvent]:
        """The events of the held text and the next one; sets what is held now."""
        self._held = ""
        match self._at:
            case _At.START:
                return self._at_start(text)
            case _At.REASONING:
                return self._in_reasoning(text)
            case _:
                return self._in_gap(text)

    def _at_start(self, text: str) -> list[ModelEvent]:
        opening, begun = self._tags.opening, text.lstrip()
        if begun.startswith(opening):
            self._at = _At.REASONING
            return self._in_reasoning(begun[len(opening) :])
        if opening.startswith(begun):
            self._held = text
            return []
        self._at = _At.ANSWER
        return [TextDelta(text)]

    def _in_reasoning(self, text: str) -> list[ModelEvent]:
        reasoning, closing, answer = text.partition(self._tags.closing)
        if closing:
            self._at = _At.GAP
            return [*_reasoning(reasoning), *self._in_gap(answer)]
        kept = len(text) - _begun(text, self._tags.closing)
        self._held = text[kept:]
        return _reasoning(text[:kept])

    def _in_gap(self, text: str) -> list[ModelEvent]:
        answer = text.lstrip()
        if not answer:
            return []
        self._at = _At.ANSWER
        return [TextDelta(answer)]


def _reasoning(text: str) -> list[ModelEvent]:
    return [ReasoningDelta(text)] if text else []


def _begun(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of the tag."""
    longest = min(len(text), len(tag) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(tag[:n])), 0)
