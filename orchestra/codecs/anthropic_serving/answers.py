"""Writes answers in Anthropic's format, for clients that use our server as if it were Anthropic.

A stream is written while the answer arrives. It ends with `message_stop` only if the answer has a
stop reason. If the answer failed, an `error` is the last event.

As at Anthropic, blocks are written one after another, and clients take a block that has ended for
complete. So while a tool call may still receive arguments, the blocks after it wait: until its
arguments are complete JSON, or the answer has stopped.

A passage with citations is a text block of its own. Its citations are written after its text, when
they are known. Citations from other providers may cover only a part of the block.

Rules of the file: the bytes that all pieces of a text have in common are encoded once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import attrs
import msgspec

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.citations import Citation, Cited, passages
from orchestra.codecs.anthropic.citations import location_records
from orchestra.codecs.anthropic.dialect import REASONS
from orchestra.codecs.anthropic_serving.errors import anthropic_error
from orchestra.codecs.raw_json import encode
from orchestra.codecs.seals import ANTHROPIC, REDACTED, google_content, opened
from orchestra.codecs.serving.errors import error_reply, not_stopped
from orchestra.codecs.tool_calls import arguments_object
from orchestra.values import (
    Json,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    UsageReport,
)

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
"""The event that keeps an idle stream alive."""
_WORDS: Mapping[StopReason, str] = {
    StopReason.END: "end_turn",
    StopReason.STOP_SEQUENCE: "stop_sequence",
    StopReason.TOOL_CALLS: "tool_use",
    StopReason.CONTENT_FILTER: "refusal",
    StopReason.PAUSED: "pause_turn",
}
_NOT_WHOLE = "max_tokens"
"""The word for all other reasons: an answer that may be incomplete never looks complete."""
_CHECKS_MAX = 16
"""The most checks whether a call is complete; after these, the blocks after it wait for the end."""


@attrs.define(eq=False)
class _Block:
    """A block that has not ended yet."""

    start: Json
    waiting: list[Json] = attrs.field(factory=list)
    """Deltas that have not been written yet."""
    arguments: list[str] = attrs.field(factory=list)
    begun: bool = False
    sealed: bool = False
    """Whether no further deltas are accepted: they go to a new block, even one of the same kind."""
    checks_left: int = _CHECKS_MAX

    @property
    def kind(self) -> str:
        return str(self.start["type"])

    def may_go_on(self) -> bool:
        """Whether further deltas may arrive although the next block has begun."""
        if self.kind != "tool_use":
            return False
        if not self.checks_left or not "".join(self.arguments[-1:]).rstrip().endswith("}"):
            return True
        self.checks_left -= 1
        try:
            msgspec.json.decode("".join(self.arguments))
        except (msgspec.DecodeError, RecursionError):
            return True
        return False


class MessageWriter:
    """Writes an answer as Server-Sent Events while it arrives."""

    __slots__ = (
        *("_begun", "_blocks", "_calls", "_cited", "_id", "_index", "_model", "_refusals"),
        *("_request_id", "_stopped", "_text", "_usage"),
    )

    def __init__(self, message_id: str, model: str, request_id: str = "") -> None:
        self._id, self._model, self._request_id = message_id, model, request_id
        self._begun = False
        self._index = 0
        """The index of the first block in `_blocks`."""
        self._blocks: deque[_Block] = deque()
        """The blocks that have not ended: the first is written now, the others wait for its end."""
        self._calls: dict[int, _Block] = {}
        self._cited: list[Citation] = []
        """Citations that wait for a text block."""
        self._refusals: list[str] = []
        self._stopped: Stopped | None = None
        self._text = b""
        """The bytes before each piece of the growing text; b"" if no text is growing."""
        self._usage: Usage | None = None

    def write(self, events: Iterable[ModelEvent], choice: int = 0) -> bytes:
        """The frames for these events; `choice` is ignored, since there is only one answer."""
        del choice
        frames: list[bytes] = []
        for event in events:
            if type(event) is TextDelta and self._text and event.text:  # nearly all
                frames.append(self._text + encode(event.text) + b"}}\n\n")
            else:
                self._take(event)
                frames += self._ready()
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def close(self, usage: Json | None = None) -> bytes:
        """The end of the stream, with the stop reason and the usage.

        `usage` is the record of the usage of the whole request; without it, the answer's own is
        used.

        Raises:
            TruncatedStreamError: the answer has no stop reason; write `failed` instead.
        """
        if self._stopped is None:
            raise not_stopped()
        delta = _ending(self._stopped, "".join(self._refusals))
        counted = usage or message_usage(self._usage or Usage())
        return b"".join(
            (
                *self._begin(),
                _frame("message_delta", delta=delta, usage=counted),
                _frame("message_stop"),
            )
        )

    def failed(self, error: BaseException) -> bytes:
        """The error, as the last event of the stream."""
        return _framed("error", anthropic_error(error_reply(error), self._request_id))

    def _take(self, event: ModelEvent) -> None:
        match event:
            case TextDelta(text=text) if text:
                block = self._growing("text", text="")
                block.waiting += self._citation_deltas()
                block.waiting.append({"type": "text_delta", "text": text})
            case ReasoningDelta(text=text, signature=signature):
                self._take_thought(text, signature)
            case ToolCallDelta():
                self._take_call(event)
            case Cited(citations=citations):
                self._take_citations(citations)
            case RefusalDelta(text=text):
                self._refusals.append(text)
            case UsageReport(usage=usage):
                self._usage = usage
            case Stopped():
                self._stopped = event

    def _take_citations(self, citations: tuple[Citation, ...]) -> None:
        """End the passage with its citations; if no text block is open, they go to the next one."""
        self._cited += citations
        if self._blocks and (last := self._blocks[-1]).kind == "text":
            last.waiting += self._citation_deltas()
            last.sealed = True

    def _citation_deltas(self) -> list[Json]:
        cited, self._cited = self._cited, []
        return [{"type": "citations_delta", "citation": each} for each in location_records(cited)]

    def _take_thought(self, text: str, signature: str) -> None:
        origin, data = opened(signature)
        redacted = origin == REDACTED
        seal = "" if redacted else _seal(signature)
        if text or seal:
            block = self._growing("thinking", thinking="", signature="")
            if text:
                block.waiting.append({"type": "thinking_delta", "thinking": text})
            if seal:
                block.waiting.append({"type": "signature_delta", "signature": seal})
                block.sealed = True
        if redacted:
            self._new("redacted_thinking", data=data)

    def _take_call(self, event: ToolCallDelta) -> None:
        block = self._calls.get(event.index)
        if block is None:
            google = google_content(event.signature)
            block = self._new("tool_use", id=event.id, name=event.name, input={}, **google)
            self._calls[event.index] = block
        if event.arguments:
            block.arguments.append(event.arguments)
            delta = {"type": "input_json_delta", "partial_json": event.arguments}
            block.waiting.append(delta)

    def _growing(self, kind: str, **start: object) -> _Block:
        """The last block, if it is of this kind and accepts further deltas; else a new one."""
        last = self._blocks[-1] if self._blocks else None
        same = last is not None and last.kind == kind and not last.sealed
        return last if last is not None and same else self._new(kind, **start)

    def _new(self, kind: str, **start: object) -> _Block:
        block = _Block({"type": kind, **start})
        self._blocks.append(block)
        self._text = b""
        return block

    def _ready(self) -> Iterator[bytes]:
        """The frames that need not wait for the end of a call."""
        while self._blocks:
            first, only = self._blocks[0], len(self._blocks) == 1
            if not first.begun:
                first.begun = True
                yield from self._begin()
                yield self._frame("content_block_start", content_block=first.start)
            for delta in first.waiting:
                yield self._frame("content_block_delta", delta=delta)
            first.waiting.clear()
            if self._stopped is None and (only or first.may_go_on()):
                grows = only and first.kind == "text" and not first.sealed
                self._text = self._prefix() if grows else b""
                return
            yield self._frame("content_block_stop")
            self._blocks.popleft()
            self._index += 1
            self._text = b""

    def _prefix(self) -> bytes:
        """The bytes before each piece of the first block's text."""
        piece = self._frame("content_block_delta", delta={"type": "text_delta", "text": ""})
        return piece.removesuffix(b'""}}\n\n')

    def _begin(self) -> Iterator[bytes]:
        """The first events of the message; none if they have been written."""
        if self._begun:
            return
        self._begun = True
        usage = message_usage(self._usage or Usage())
        yield _frame("message_start", message=_record(self._id, self._model, usage))
        yield PING

    def _frame(self, kind: str, **fields: object) -> bytes:
        return _frame(kind, index=self._index, **fields)


def message_record(answer: Completion, message_id: str, model: str, usage: Json | None) -> Json:
    """The body of a response with a complete answer; `usage` is as in `MessageWriter.close`."""
    counted = usage or message_usage(answer.usage or Usage())
    content = [*_blocks(answer)]
    ending = _ending(answer.stopped, answer.refusal)
    return {**_record(message_id, model, counted), "content": content, **ending}


def message_usage(usage: Usage) -> Json:
    """The usage as Anthropic writes it: the input count excludes the tokens of the cache."""
    cached, written = usage.cached_input_tokens, usage.cache_write_input_tokens
    return {
        "input_tokens": max(usage.input_tokens - cached - written, 0),
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _record(message_id: str, model: str, usage: Json) -> Json:
    """A message without content and stop reason."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": usage,
    }


def _ending(stopped: Stopped, refusal: str) -> Json:
    """The fields of the stop reason; an answer with a refusal text has stopped for `refusal`."""
    own = stopped.raw if REASONS.get(stopped.raw or "") is stopped.reason else None
    reason = "refusal" if refusal else own or _WORDS.get(stopped.reason, _NOT_WHOLE)
    refusal_fields = {"category": stopped.category, "explanation": refusal or None}
    return {
        "stop_reason": reason,
        "stop_sequence": stopped.sequence,
        "stop_details": {"type": "refusal", **refusal_fields}
        if any(refusal_fields.values())
        else None,
    }


def _blocks(answer: Completion) -> Iterator[Json]:
    texts = (part.text for part in answer.parts if isinstance(part, TextPart))
    cut = passages(texts, answer.citations)
    for part in answer.parts:
        if not isinstance(part, TextPart):
            yield _whole(part)
            continue
        for text, cited in next(cut):
            citations = {"citations": location_records(cited)} if cited else {}
            yield {"type": "text", "text": text, **citations}


def _whole(part: ReasoningPart | ToolCall) -> Json:
    if isinstance(part, ReasoningPart):
        origin, data = opened(part.signature)
        if origin == REDACTED and not part.text:
            return {"type": "redacted_thinking", "data": data}
        return {"type": "thinking", "thinking": part.text, "signature": _seal(part.signature)}
    google = google_content(part.signature)
    called = {"id": part.id, "name": part.name, "input": arguments_object(part.arguments)}
    return {"type": "tool_use", **called, **google}


def _seal(signature: str) -> str:
    """A seal as clients receive it: Anthropic's own alone, any other with its origin."""
    origin, seal = opened(signature)
    return seal if origin == ANTHROPIC else signature


def _frame(kind: str, **fields: object) -> bytes:
    return _framed(kind, {"type": kind, **fields})


def _framed(kind: str, event: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode(event))
