"""Ollama's own dialect: `/chat` and `/embed` below `http://localhost:11434/api`.

A stream is JSON lines. Answers of `/generate`, which have the text in `response` and not in a
message, are read as well. A tool call comes complete, often without an id; an answer with tool
calls has the usual stop reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.dialect import Call, Dialect, not_answered
from orchestra.codecs.faults import as_error, read_error
from orchestra.codecs.framing.frames import FrameDecoder, json_text
from orchestra.codecs.framing.jsonlines import JsonLinesFraming
from orchestra.codecs.framing.mending import JsonReader, read_whole
from orchestra.codecs.ollama.request import chat_body, embed_body
from orchestra.codecs.raw_json import NOT_JSON, NOTHING
from orchestra.codecs.tool_calls import next_call
from orchestra.codecs.usage_counts import input_usage, token_count
from orchestra.codecs.vectors import vectors_of
from orchestra.values import (
    Began,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    ReasoningDelta,
    Stopped,
    StopReason,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)

_REASONS: Mapping[str | None, StopReason] = {
    None: StopReason.END,  # older versions send none
    "stop": StopReason.END,
    "length": StopReason.LENGTH,
}


class _Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = NOTHING


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Line(msgspec.Struct):
    """A line of a stream, or a complete answer, of `/chat` or `/generate`."""

    model: str | None = None
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: object = None


class _Embedded(msgspec.Struct):
    model: str | None = None
    embeddings: list[list[float]] | None = None
    embedding: list[float] | None = None
    prompt_eval_count: int | None = None


_LINE = msgspec.json.Decoder(_Line)
_EMBEDDED = msgspec.json.Decoder(_Embedded)
_RECORD = msgspec.json.Decoder(dict[str, object])
_MEASURED = ("_count", "_duration")


class OllamaDialect(Dialect):
    """The requests and answers of Ollama."""

    texts_max = 512
    """Ollama has no limit; with this one, a call on a slow machine ends before its timeout."""

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        return Call("/chat", msgspec.json.encode(chat_body(model, request, stream=stream)))

    def decoder(self) -> OllamaDecoder:
        return OllamaDecoder()

    def decode(self, body: bytes) -> list[ModelEvent]:
        decoder = OllamaDecoder()
        decoder.take_line(body)
        return decoder.close()

    def ask_embeddings(self, model: str, request: EmbedRequest) -> Call:
        return Call("/embed", msgspec.json.encode(embed_body(model, request)))

    def decode_embeddings(self, body: bytes) -> Embeddings:
        found = read_whole(_EMBEDDED, body, "Ollama's embeddings")
        rows = found.embeddings
        if rows is None and found.embedding is not None:  # of the old `/embeddings`
            rows = [found.embedding]
        if rows is None:
            raise not_answered(body, "Ollama's answer has no embeddings")
        usage = input_usage(found.prompt_eval_count)
        return Embeddings(vectors_of(rows), usage, found.model or "")


class OllamaDecoder(FrameDecoder):
    """Decodes a streamed answer, which ends with the line whose `done` is true."""

    def __init__(self) -> None:
        super().__init__(JsonLinesFraming())
        self._reader = JsonReader()
        self._began = False
        self._calls = 0

    def take_line(self, payload: bytes) -> None:
        """Take a line, or a complete unstreamed answer; `close` returns its events.

        Raises:
            ModelError: the line is an error, or is not in Ollama's format.
        """
        line = self._reader.read(_LINE, payload, "Ollama's answer")
        if line.error:
            raise as_error(read_error(payload))
        if not self._began:
            self._began = True
            self._emit(Began("", line.model or ""))
        message = line.message
        if message is None:
            self._say(line.thinking, line.response)
        else:
            self._say(message.thinking, message.content)
            for call in message.tool_calls or ():
                self._call(call)
        if line.done:
            self._end_answer(line, payload)

    def _take(self, name: str, payload: bytes) -> None:
        del name  # no line has one
        self.take_line(payload)

    def _say(self, thinking: str | None, text: str | None) -> None:
        if thinking:
            self._events.append(ReasoningDelta(thinking))
        if text:
            self._events.append(TextDelta(text))

    def _call(self, call: _ToolCall) -> None:
        at = next_call(self._calls)
        self._calls += 1
        arguments = json_text(call.function.arguments) or "{}"  # some servers send a string
        self._emit(ToolCallDelta(at, call.id or f"call_{at}", call.function.name, arguments))

    def _end_answer(self, line: _Line, payload: bytes) -> None:
        self._emit(*_usage(line, payload))
        reason = _REASONS.get(line.done_reason, StopReason.OTHER)
        if self._calls and reason is StopReason.END:
            reason = StopReason.TOOL_CALLS
        self._emit(Stopped(reason, line.done_reason))
        self.done = True


def _usage(line: _Line, payload: bytes) -> list[UsageReport]:
    """The reported usage; Ollama omits a count if the prompt was in its cache."""
    counts = (token_count(line.prompt_eval_count), token_count(line.eval_count))
    if counts == (None, None):
        return []
    certainty = Certainty.PARTIAL if None in counts else Certainty.EXACT
    usage = Usage(counts[0] or 0, counts[1] or 0, certainty)
    raw = {name: value for name, value in _last_fields(payload) if name.endswith(_MEASURED)}
    return [UsageReport(usage, raw)]


def _last_fields(payload: bytes) -> Iterable[tuple[str, object]]:
    """All fields of the last line; empty if the line needed repairs."""
    try:
        return _RECORD.decode(payload).items()
    except NOT_JSON:
        return ()
