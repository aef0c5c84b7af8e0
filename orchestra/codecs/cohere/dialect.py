"""Cohere's own dialect, version 2: `/chat`, `/embed` and `/rerank` below `https://api.cohere.com/v2`.

A model's plan before a tool call (`tool_plan`) and its thoughts are both reasoning here. Citations
of text are read, those of plans are not. Usage has the counts of `tokens`, to which Cohere's limits
apply; the record also keeps `billed_units`, which Cohere charges for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.cohere.citations import cited
from orchestra.codecs.cohere.embeddings import VectorsByType
from orchestra.codecs.cohere.request import chat_body, embed_body, rerank_body
from orchestra.codecs.dialect import Call, Dialect, not_answered
from orchestra.codecs.faults import ReportedError, as_error, read_error
from orchestra.codecs.framing.frames import FrameDecoder
from orchestra.codecs.framing.mending import JsonPath, JsonReader, read_whole
from orchestra.codecs.framing.sse import SseFraming
from orchestra.codecs.rankings import ranking_of
from orchestra.codecs.raw_json import object_at
from orchestra.codecs.tool_calls import next_call
from orchestra.codecs.usage_counts import certainty_of, input_usage, token_count
from orchestra.codecs.vectors import vectors_of
from orchestra.rankings import Ranking, RerankRequest
from orchestra.values import (
    Began,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Json,
    ModelEvent,
    ReasoningDelta,
    Stopped,
    StopReason,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)

T = TypeVar("T")

_REASONS: Mapping[str, StopReason] = {
    "COMPLETE": StopReason.END,
    "STOP_SEQUENCE": StopReason.STOP_SEQUENCE,
    "MAX_TOKENS": StopReason.LENGTH,
    "TOOL_CALL": StopReason.TOOL_CALLS,
}
_FAILURES: Mapping[str, str] = {"ERROR": "server_error", "TIMEOUT": "timeout"}
"""Finish reasons that are errors, each with a code that `faults` knows."""
_SPEAKING = frozenset(("content-delta", "content-start", "tool-plan-delta"))
_CALLING = frozenset(("tool-call-start", "tool-call-delta"))
_EVENTS = _SPEAKING | _CALLING | {"message-start", "message-end", "citation-start"}


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Content(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | None = None


class _Message(msgspec.Struct):
    """The message of a complete answer, or of an event, which has single items instead of lists."""

    content: _Content | list[_Content] | str | None = None
    tool_plan: str | None = None
    tool_calls: _ToolCall | list[_ToolCall] | None = None
    citations: object = None


class _Delta(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: Json | None = None
    error: object = None


class _Event(msgspec.Struct):
    type: str = ""
    id: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    message: object = None
    error: object = None


class _Answer(msgspec.Struct):
    id: str | None = None
    message: _Message | str | None = None
    finish_reason: str | None = None
    usage: Json | None = None
    error: object = None


class _Embedded(msgspec.Struct):
    embeddings: VectorsByType | list[list[float]] | None = None
    meta: Json | None = None


_EVENT = msgspec.json.Decoder(_Event)
_ANSWER = msgspec.json.Decoder(_Answer)
_EMBEDDED = msgspec.json.Decoder(_Embedded)


class CohereDialect(Dialect):
    """The requests and answers of Cohere."""

    texts_max = 96

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        return Call("/chat", msgspec.json.encode(chat_body(model, request, stream=stream)))

    def decoder(self) -> CohereDecoder:
        return CohereDecoder()

    def decode(self, body: bytes) -> list[ModelEvent]:
        answer = JsonReader(_repaired).read(_ANSWER, body, "Cohere's answer")
        if not isinstance(answer.message, _Message):
            raise not_answered(body, "Cohere's answer has no message")
        events: list[ModelEvent] = [Began(answer.id or "", ""), *_pieces(answer.message)]
        events += cited(answer.message.citations)
        for at, call in enumerate(_listed(answer.message.tool_calls)):
            events.append(_began_call(next_call(at), call))
        events += _usage(answer.usage)
        reason = _reason(answer.finish_reason, answer.error)
        return [*events, Stopped(reason, answer.finish_reason)]

    def ask_embeddings(self, model: str, request: EmbedRequest) -> Call:
        """The call that embeds texts; the default purpose is `document`."""
        return Call("/embed", msgspec.json.encode(embed_body(model, request)))

    def decode_embeddings(self, body: bytes) -> Embeddings:
        found = read_whole(_EMBEDDED, body, "Cohere's embeddings")
        given = found.embeddings
        rows = given.rows() if isinstance(given, VectorsByType) else given
        if rows is None:
            raise not_answered(
                body,
                "Cohere's answer has no embeddings, or only of an unknown type; ask for `float` or "
                "`base64` in `embedding_types`",
            )
        counts = found.meta or {}
        usage = input_usage(
            object_at(counts, "tokens").get("input_tokens"),
            object_at(counts, "billed_units").get("input_tokens"),
        )
        return Embeddings(vectors_of(rows), usage)

    def ask_ranking(self, model: str, request: RerankRequest) -> Call:
        return Call("/rerank", msgspec.json.encode(rerank_body(model, request)))

    def decode_ranking(self, body: bytes) -> Ranking:
        return ranking_of(body)


class CohereDecoder(FrameDecoder):
    """Decodes a streamed answer, which ends with `message-end` or `[DONE]`."""

    def __init__(self) -> None:
        super().__init__(SseFraming())
        self._reader = JsonReader(_repaired)
        self._calls: dict[int, int] = {}  # Cohere's index of a call to its number
        self._calls_count = 0

    def _take(self, name: str, payload: bytes) -> None:
        if payload == b"[DONE]":
            self.done = True
            return
        if name and name not in _EVENTS:  # ends of citations, and future types
            return
        event = self._reader.read(_EVENT, payload, "an event of Cohere")
        kind = event.type or name
        if event.error or kind == "error" or (not kind and isinstance(event.message, str)):
            raise as_error(read_error(payload))
        delta = event.delta or _Delta()
        message = delta.message or _Message()
        if kind in _SPEAKING:
            self._events += _pieces(message)
        elif kind in _CALLING:
            for call in _listed(message.tool_calls):
                self._call(event.index or 0, call)
        elif kind == "citation-start":
            self._emit(*cited(message.citations))
        elif kind == "message-start":
            self._emit(Began(event.id or "", ""))
        elif kind == "message-end":
            self._end_message(delta)

    def _call(self, index: int, call: _ToolCall) -> None:
        """Take a call or its next piece; a name begins another call, whatever the index."""
        at, function = self._calls.get(index), call.function or _Function()
        if at is None or function.name:
            at = self._calls[index] = next_call(self._calls_count)
            self._calls_count += 1
            self._emit(_began_call(at, call))
        elif function.arguments:
            self._emit(ToolCallDelta(at, arguments=function.arguments))

    def _end_message(self, delta: _Delta) -> None:
        self._emit(*_usage(delta.usage))
        reason = _reason(delta.finish_reason, delta.error)
        if delta.finish_reason is not None:
            self._emit(Stopped(reason, delta.finish_reason))
        self.done = True


def _repaired(path: JsonPath, value: object) -> object:
    """The value; arguments of a call that are an object become text, an empty object ""."""
    if path[-2:] == ("function", "arguments") and isinstance(value, dict):
        return json.dumps(value, separators=(",", ":")) if value else ""
    return value


def _pieces(message: _Message) -> Iterator[TextDelta | ReasoningDelta]:
    if message.tool_plan:
        yield ReasoningDelta(message.tool_plan)
    if isinstance(message.content, str):
        yield from [TextDelta(message.content)] if message.content else []
        return
    for content in _listed(message.content):
        if content.thinking:
            yield ReasoningDelta(content.thinking)
        if content.text:
            yield TextDelta(content.text)


def _began_call(at: int, call: _ToolCall) -> ToolCallDelta:
    function = call.function or _Function()
    return ToolCallDelta(at, call.id or f"call_{at}", function.name or "", function.arguments or "")


def _reason(raw: str | None, error: object) -> StopReason:
    """The stop reason.

    Raises:
        ModelError: the reason is a failure.
    """
    if error or raw in _FAILURES:
        word = _FAILURES.get(raw or "", "server_error")
        message = error if isinstance(error, str) else read_error(error or {}).message
        raise as_error(ReportedError(message or f"Cohere ended the answer with {raw}", (word,)))
    return _REASONS.get(raw or "", StopReason.OTHER)


def _usage(raw: Json | None) -> list[UsageReport]:
    if raw is None:
        return []
    counts = object_at(raw, "tokens") or object_at(raw, "billed_units")
    given, made = token_count(counts.get("input_tokens")), token_count(counts.get("output_tokens"))
    if given is None and made is None:
        return []
    cached = token_count(raw.get("cached_tokens")) or 0
    certainty = certainty_of(counts, ("input_tokens", "output_tokens"), Certainty.EXACT)
    return [UsageReport(Usage(given or 0, made or 0, certainty, cached), raw)]


def _listed(found: T | list[T] | None) -> list[T]:
    if isinstance(found, list):
        return found
    return [] if found is None else [found]
