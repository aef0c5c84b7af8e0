"""Reads OpenAI's answers: chunks of a stream, and complete answers as a single chunk.

Rules of the file: only the choice with index 0 is read, and of a complete answer the first. The
stop reason is reported at the very end, since servers send more after it (usage, results of a
later filter, even text); of several reasons the last counts. A complete answer without a reason
is complete, since its JSON is, and has stopped for an unknown reason.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.faults import ReportedError, as_error, error_in
from orchestra.codecs.framing.frames import LARGE_BYTES, FrameDecoder
from orchestra.codecs.framing.mending import JsonReader
from orchestra.codecs.framing.sse import SseFraming
from orchestra.codecs.openai.annotations import cited_of, searched
from orchestra.codecs.openai.calls import PiecedCalls
from orchestra.codecs.openai.logprobs import logprobs_of
from orchestra.codecs.openai.quirks import Quirks
from orchestra.codecs.openai.reasoning_details import ReasoningDetails
from orchestra.codecs.openai.shapes import (
    CHUNKS,
    OPENINGS,
    CallPiece,
    Chunk,
    ChunkChoice,
    ChunkDelta,
    ChunkPart,
    GroqRecord,
    Opening,
    repaired_chunk,
    thoughts,
)
from orchestra.codecs.openai.usage import counts_all, usage_of
from orchestra.errors import MalformedStreamError, ModelError, TruncatedStreamError
from orchestra.values import (
    NO_DETAILS,
    Began,
    Json,
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
)

_DONE = b"[DONE]"
_A_CHUNK = "a chunk of the stream"
_CHUNK_KIND = "chat.completion.chunk"
_OLD_CALL = -1
"""The index of the one call that `function_call` can make."""

REASONS: Mapping[str, StopReason] = {
    "stop": StopReason.END,
    "length": StopReason.LENGTH,
    "tool_calls": StopReason.TOOL_CALLS,
    "function_call": StopReason.TOOL_CALLS,
    "content_filter": StopReason.CONTENT_FILTER,
    "model_length": StopReason.LENGTH,  # Mistral
    "max_tokens": StopReason.LENGTH,
    "eos": StopReason.END,  # Together
    "eos_token": StopReason.END,  # Hugging Face
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "end_turn": StopReason.END,  # Anthropic's, that a gateway passes on
    "tool_use": StopReason.TOOL_CALLS,
    "sensitive": StopReason.CONTENT_FILTER,  # Zhipu
    "model_context_window_exceeded": StopReason.LENGTH,
    "repetition_truncation": StopReason.LENGTH,  # Xiaomi
}
"""In lower case, and without Google's suffix: `content_filter: PROHIBITED_CONTENT`."""
_FAILURES: Mapping[str, str] = {
    "error": "server_error",
    "abort": "server_error",  # vLLM and SGLang, for an abandoned request
    "insufficient_system_resource": "overloaded",  # DeepSeek
    "network_error": "server_error",  # Zhipu: the model behind it failed
}
"""Stop reasons of cut answers, each with a code that `faults` knows."""


class OpenAiDecoder(FrameDecoder):
    """One streamed answer of a server with these quirks."""

    __slots__ = (
        "_annotated",
        "_began",
        "_calls",
        "_counted",
        "_details",
        "_finish",
        "_id",
        "_other_event",
        "_quirks",
        "_reader",
        "_searched",
        "_text",
        "_usage",
        "_without_deltas",
    )

    def __init__(self, quirks: Quirks) -> None:
        super().__init__(SseFraming())
        self._quirks = quirks
        self._reader = JsonReader(repaired_chunk)
        self._began = False
        self._id = ""
        self._finish: Stopped | None = None
        self._usage: UsageReport | None = None
        self._counted = False  # whether `_usage` has both counts
        self._other_event = b""  # the last without choice and usage, if no choice came after it
        self._calls = PiecedCalls()
        self._details = ReasoningDetails()
        self._text: list[str] = []
        self._without_deltas = False
        self._searched: Chunk | None = None  # one of the last chunks, with the searched pages
        self._annotated = False  # whether the text itself cites pages

    def _take(self, name: str, payload: bytes) -> None:
        del name
        if payload.startswith(_DONE):
            self.done = True
            if self._quirks.done_is_finish and not self._stopped:
                self._finish_by_done()
            return
        chunk = self._reader.read(CHUNKS if self._began else OPENINGS, payload, _A_CHUNK)
        if chunk.failed:
            raise self._quirks.error_of(payload)
        if chunk.choices:
            self._other_event = b""
        elif chunk.usage is None:
            self._other_event = payload[:LARGE_BYTES]
        self._read(chunk, stream=True)

    def _finish_by_done(self) -> None:
        """Take `[DONE]` for the finish of a text or of tool calls, if no error followed them."""
        if (self._text or self._calls) and self._error_in(self._other_event) is None:
            self._finished(None)

    def whole(self, body: bytes) -> list[ModelEvent]:
        """The events of an unstreamed answer; a decoder can read only one.

        Raises:
            ModelError: the body is an error.
            MalformedStreamError: it is not an answer.
            TruncatedStreamError: it is a chunk of a stream, and not the last.
        """
        chunk = self._reader.read(OPENINGS, body, "the answer")
        if chunk.failed:
            raise self._quirks.error_of(body)
        if not chunk.choices:
            if (error := self._error_in(body)) is not None:
                raise error
            shown = body[:200].decode("utf-8", "replace")
            raise MalformedStreamError(f"the answer has no choices: {shown!r}")
        self._read(_by_place(chunk), stream=False)
        if not self._stopped:
            self._unfinished(chunk)
        self._end()
        return self._events

    def _cut(self) -> ModelError:
        return self._error_in(self._other_event) or super()._cut()

    def _error_of(self, payload: bytes) -> ModelError:
        return self._quirks.error_of(payload)

    def _error_in(self, payload: bytes) -> ModelError | None:
        return error_in(payload, self._quirks.marked_kind(payload))

    def _unfinished(self, chunk: Chunk) -> None:
        """End a complete answer without a stop reason."""
        raw = chunk.choices[0].finish_reason if chunk.choices else None
        if self._quirks.done_is_finish:
            self._finished(raw)
            return
        if chunk.kind == _CHUNK_KIND:
            raise TruncatedStreamError("the answer is a chunk of a stream: it was cut")
        self._stopped = True
        self._finish = Stopped(StopReason.OTHER, raw)

    def _read(self, chunk: Chunk, *, stream: bool) -> None:
        choices = chunk.choices or []
        # Azure opens with a chunk that has neither an id nor choices.
        if not self._began and (chunk.id or (chunk.model and choices)):
            self._began, self._id = True, chunk.id or ""
            details = chunk.details() if isinstance(chunk, Opening) else NO_DETAILS
            self._events.append(Began(self._id, chunk.model or "", details))
        failed: ModelError | None = None
        record = chunk.usage
        for choice in choices:
            # A choice without an index has its position as its index.
            if choice.index != 0 and (choice.index is not None or choice is not choices[0]):
                continue
            delta = choice.delta if stream else choice.message
            if choice.text or (choice.message if stream else choice.delta):
                delta = self._beside(delta, choice)
            if choice.logprobs is not None and (likely := logprobs_of(choice.logprobs)):
                self._events.append(likely)
            if delta is not None:
                self._take_delta(delta)
            if choice.finish_reason or choice.error:
                failed = self._why(choice)
            if choice.usage is not None and record is None:
                self._count(choice.usage, {})  # Moonshot
        if record is not None:
            self._count(record, record)
        if chunk.x_groq is not None:
            self._groq(chunk.x_groq)
        self._searched = chunk if self._stopped and chunk.has_searched else self._searched
        if failed is not None:
            raise failed

    def _beside(self, delta: ChunkDelta | None, choice: ChunkChoice) -> ChunkDelta | None:
        """The delta of a choice; if it is empty, one made from its message or text.

        Some servers stream messages or texts instead of deltas. Others repeat all text of their
        deltas in a message: then only what follows this text is new. If the message is not an exact
        repetition (trimmed, or edited), it is ignored.
        """
        if delta is not None and not delta.silent:
            self._without_deltas = False
            return delta
        others = (choice.message, choice.delta, ChunkDelta(choice.text))
        other = next((each for each in others if each is not None and not each.silent), None)
        if other is None or self._without_deltas:
            return other
        if not (self._text or self._calls):
            self._without_deltas = True
            return other
        rest = self._behind_text(other.text)
        return ChunkDelta(rest, tool_calls=self._calls.beside(other.tool_calls or ()))

    def _behind_text(self, text: str) -> str:
        """The part after all text so far; empty if the text so far is not repeated exactly.

        The text so far is not joined for the comparison, which would be slow for many messages.
        """
        at = 0
        for piece in self._text:
            if not text.startswith(piece, at):
                return ""
            at += len(piece)
        self._text = [text[:at]]
        return text[at:]

    def _take_delta(self, delta: ChunkDelta) -> None:
        content = delta.content
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._events.append(ReasoningDelta(thought))
        if delta.reasoning_details:
            self._take_details(delta.reasoning_details, has_text=bool(thought))
        if content:
            if isinstance(content, str):
                self._events.append(TextDelta(content))
                self._text.append(content)
            else:
                self._parts(content)
        if delta.refusal:
            self._events.append(RefusalDelta(delta.refusal))
        if delta.annotations and (cited := cited_of(delta.annotations)):
            self._annotated = True
            self._events.append(cited)
        if delta.tool_calls:
            self._events += self._calls.take(delta.tool_calls, self._id)
        if delta.function_call is not None and self._quirks.function_calls:
            function = delta.function_call
            if function.name or function.arguments:
                self._events += self._calls.take((CallPiece(_OLD_CALL, None, function),), self._id)

    def _take_details(self, details: list[dict[str, object]], *, has_text: bool) -> None:
        if self._quirks.reasoning_details:
            self._details.take(details)
        if not has_text:
            texts = filter(None, (thoughts(each.get("text")) for each in details))
            self._events += map(ReasoningDelta, texts)

    def _parts(self, parts: list[ChunkPart]) -> None:
        for part in parts:
            if part.thinking:
                thought = part.thinking
                if not isinstance(thought, str):
                    thought = "".join(each.text or "" for each in thought)
                self._events.append(ReasoningDelta(thought))
            if part.text:
                self._events.append(TextDelta(part.text))
                self._text.append(part.text)
            if part.refusal:
                self._events.append(RefusalDelta(part.refusal))

    def _why(self, choice: ChunkChoice) -> ModelError | None:
        """Keep the stop reason; if it is a failure, return its error."""
        raw = choice.finish_reason
        if choice.error:
            return self._quirks.error_of({"error": choice.error})
        if (word := _FAILURES.get(raw or "")) is not None:
            return as_error(ReportedError(f"the answer ended with finish_reason {raw!r}", (word,)))
        # vLLM: the stop sequence that was met, or the number of a token
        met = choice.stop_reason
        self._finished(raw, met if isinstance(met, str) else None)
        return None

    def _finished(self, raw: str | None, met: str | None = None) -> None:
        word = (raw or "stop").partition(":")[0].lower()
        reason = REASONS.get(word, StopReason.OTHER)
        if reason is StopReason.END:
            if self._calls:  # many servers send "stop" for any answer
                reason = StopReason.TOOL_CALLS
            elif met is not None:
                reason = StopReason.STOP_SEQUENCE
        self._stopped = True
        self._finish = Stopped(reason, raw, met if reason is StopReason.STOP_SEQUENCE else None)

    def _count(self, record: object, raw: object) -> None:
        usage = usage_of(record, Certainty.EXACT if self._stopped else Certainty.PARTIAL)
        if usage is None or not isinstance(raw, dict):
            return
        counted = counts_all(record)
        if counted or not self._counted:  # a partial record does not replace a complete one
            self._counted = counted
            self._report(usage, raw)

    def _report(self, usage: Usage, raw: Json) -> None:
        self._usage = UsageReport(usage, raw)
        self._events.append(self._usage)

    def _groq(self, groq: GroqRecord) -> None:
        if groq.error:
            raise self._quirks.error_of({"error": groq.error})
        if self._usage is None:  # only without a record in OpenAI's field
            self._count(groq.usage, {})

    def _end(self) -> None:
        self._events += self._calls.end()
        if (pages := self._searched) is not None and not self._annotated:
            cited = searched(pages.search_results, pages.citations)
            self._events += [cited] if cited is not None else ()
        if seal := self._details.seal():
            self._events.append(ReasoningDelta("", seal))
        report = self._usage if self._stopped and self._counted else None
        if report is not None and report.usage.certainty is Certainty.PARTIAL:
            # The last counts came before the stop reason, and the answer was not cut.
            self._report(attrs.evolve(report.usage, certainty=Certainty.EXACT), report.raw)
        if self._finish is not None:
            self._events.append(self._finish)


def _by_place(chunk: Chunk) -> Chunk:
    """A complete answer with only its first choice, and its calls numbered by position."""
    assert chunk.choices, "it has choices"
    first = chunk.choices[0]
    first.index = 0
    for delta in filter(None, (first.message, first.delta)):
        for at, call in enumerate(delta.tool_calls or ()):
            call.index = at
    chunk.choices = [first]
    return chunk
