"""Answers: the events of a model's answer, folded into one value.

Rules of the file: consecutive pieces of text are one part, as are consecutive pieces of
reasoning; empty pieces are ignored; all pieces of a tool call are one part, even if other pieces
come between them; parts are in the order in which they began.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, TypeAlias

import attrs

from orchestra.accounts import Usage
from orchestra.citations import Citation, Cited, cited_chars
from orchestra.errors import MalformedStreamError, TruncatedStreamError
from orchestra.eventclass import frozen
from orchestra.logprobs import Logprobs
from orchestra.values import (
    NO_DETAILS,
    Began,
    Details,
    Message,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    Stopped,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    UsageReport,
)

ANSWER_CHARS_MAX = 64 * 1024 * 1024
"""The most characters in one answer, hidden parts included; equal to the limit in bytes."""
_TOKEN_CHARS = 256  # what a token with its log probabilities is counted as
_NOT_BEGUN = Began("", "")

AnswerPart: TypeAlias = TextPart | ReasoningPart | ToolCall


@frozen
class Completion:
    """A whole answer. `usage` is None if the provider reported no token counts."""

    parts: tuple[AnswerPart, ...]
    stopped: Stopped
    usage: Usage | None = None
    refusal: str = ""
    id: str = ""
    model: str = ""
    logprobs: Logprobs | None = None
    """The log probabilities of its tokens, if the request asked and the provider sent them."""
    details: Details = NO_DETAILS
    """The provider's details about the answering server: see `Began`."""
    citations: tuple[Citation, ...] = ()
    """The sources that its text cites, as far as the provider reported them."""

    @classmethod
    def of(cls, events: Iterable[ModelEvent]) -> Completion:
        """Fold the events of one answer into a completion.

        Raises:
            TruncatedStreamError: the events hold no `Stopped`.
            MalformedStreamError: the answer is over `ANSWER_CHARS_MAX`.
        """
        answer = Answer()
        for event in events:
            answer.add(event)
        return answer.completion()

    def with_usage(self, usage: Usage | None) -> Completion:
        """A copy of this answer with another usage."""
        return Completion(  # faster than `attrs.evolve`, which looks up the fields each time
            *(self.parts, self.stopped, usage, self.refusal),
            *(self.id, self.model, self.logprobs, self.details),
            citations=self.citations,
        )

    @property
    def text(self) -> str:
        """Its text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def reasoning(self) -> str:
        """Its reasoning parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, ReasoningPart))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def message(self) -> Message:
        """The answer as an assistant's turn, to send back with the next request."""
        return Message("assistant", self.parts)


@attrs.define(eq=False)
class _Piece:
    """A part that is still growing."""

    kind: type[AnswerPart]
    texts: list[str] = attrs.field(factory=list)
    signatures: list[str] = attrs.field(factory=list)
    id: str = ""
    name: str = ""

    def whole(self) -> AnswerPart:
        text, signature = "".join(self.texts), "".join(self.signatures)
        if self.kind is ToolCall:
            arguments = text if text.strip() else "{}"
            return ToolCall(self.id, self.name, arguments, signature)
        return ReasoningPart(text, signature) if self.kind is ReasoningPart else TextPart(text)


def _size(event: ModelEvent) -> int:
    match event:
        case ReasoningDelta(text=text, signature=signature):
            return len(text) + len(signature)
        case ToolCallDelta():
            return sum(map(len, (event.id, event.name, event.arguments, event.signature)))
        case RefusalDelta(text=text):
            return len(text)
        case Logprobs(content=content, refusal=refusal):
            return _TOKEN_CHARS * (len(content) + len(refusal))
        case Cited():
            return cited_chars(event)
    return 0


class Answer:
    """An answer that grows event by event; the cost of adding one does not depend on its length."""

    def __init__(self) -> None:
        self.chars = 0
        """The characters so far, hidden parts included."""
        self.usage: Usage | None = None
        self.stopped: Stopped | None = None
        self._pieces: list[_Piece] = []
        self._calls: dict[int, _Piece] = {}
        self._refusals: list[str] = []
        self._began = _NOT_BEGUN
        self.logprobs: list[Logprobs] = []
        self._citations: list[Citation] = []

    def add(self, event: ModelEvent) -> None:
        """Add the next event.

        Raises:
            MalformedStreamError: the answer is over `ANSWER_CHARS_MAX`; its parts are dropped.
        """
        if type(event) is TextDelta:  # the fast path: nearly all events are text
            self.chars += len(event.text)
            if event.text:
                self._growing(TextPart).texts.append(event.text)
        else:
            self.chars += _size(event)
            self._take(event)
        if self.chars > ANSWER_CHARS_MAX:
            self._refuse()

    def _take(self, event: ModelEvent) -> None:
        match event:
            case UsageReport(usage=usage):
                self.usage = usage
            case Stopped():
                self.stopped = event
            case Began():
                self._began = event
            case ReasoningDelta(text="", signature=""):
                pass
            case ReasoningDelta(text=text, signature=signature):
                piece = self._growing(ReasoningPart)
                piece.texts.append(text)
                if signature:
                    piece.signatures.append(signature)
            case ToolCallDelta():
                self._call(event)
            case RefusalDelta(text=text):
                self._refusals.append(text)
            case Logprobs():
                self.logprobs.append(event)
            case Cited(citations=citations):
                self._citations += citations

    def _refuse(self) -> NoReturn:
        # the error may keep this object alive for as long as its run is kept
        self._pieces, self._calls, self._refusals = [], {}, []
        self.logprobs, self._citations = [], []
        raise MalformedStreamError(
            f"the answer is over {ANSWER_CHARS_MAX} characters, including reasoning and "
            "tool arguments; ask for less in one call"
        )

    def completion(self) -> Completion:
        """The whole answer.

        Raises:
            TruncatedStreamError: no `Stopped` was added.
        """
        if self.stopped is None:
            raise TruncatedStreamError("the answer ended without a stop reason: it was cut")
        return Completion(
            tuple(piece.whole() for piece in self._pieces),
            self.stopped,
            self.usage,
            "".join(self._refusals),
            self._began.id,
            self._began.model,
            self._all_logprobs(),
            self._began.details,
            tuple(self._citations),
        )

    @property
    def text(self) -> str:
        """The text so far."""
        texts = (piece.texts for piece in self._pieces if piece.kind is TextPart)
        return "".join(text for each in texts for text in each)

    def _all_logprobs(self) -> Logprobs | None:
        """All log probabilities of its tokens, as one value."""
        pieces = self.logprobs
        if not pieces:
            return None
        content = tuple(each for piece in pieces for each in piece.content)
        return Logprobs(content, tuple(each for piece in pieces for each in piece.refusal))

    def _growing(self, kind: type[AnswerPart]) -> _Piece:
        if self._pieces:
            last = self._pieces[-1]
            sealed = kind is ReasoningPart and last.signatures
            if last.kind is kind and not sealed:
                return last
        piece = _Piece(kind)
        self._pieces.append(piece)
        return piece

    def _call(self, event: ToolCallDelta) -> None:
        piece = self._calls.get(event.index)
        if piece is None:
            piece = self._calls[event.index] = _Piece(ToolCall)
            self._pieces.append(piece)
        piece.id = piece.id or event.id
        piece.name = piece.name or event.name
        piece.texts.append(event.arguments)
        if event.signature:
            piece.signatures.append(event.signature)
