"""OpenAI's answers, read: chunks of a stream, and whole ones as if they were a single chunk.

Rules of the file: only the choice of index 0 is read. The reason to stop is told at the very
end, since servers send more behind it (usage, what a filter found later, even text); of several
reasons the last counts. Tool calls are told apart by the server's index, or by their ids where
servers count wrong, and are numbered from 0 in the order in which they began. Where a server
does not count them, that number is their index. A custom tool is called with text, not with
JSON, and told as any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.faults import Said, as_error, error_in, read_error
from orchestra.codecs.frames import FrameDecoder
from orchestra.codecs.openai_logprobs import logprobs_of
from orchestra.codecs.openai_shapes import (
    CallPiece,
    Chunk,
    ChunkChoice,
    ChunkDelta,
    ChunkPart,
    ChunkReader,
    GroqRecord,
    Opening,
)
from orchestra.codecs.openai_usage import usage_of
from orchestra.codecs.quirks import Quirks, fingerprint
from orchestra.codecs.sse import SseFraming
from orchestra.errors import MalformedStreamError, TruncatedStreamError
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
    ToolCallDelta,
    UsageReport,
)

_DONE = b"[DONE]"
_A_CHUNK = "a chunk of the stream"
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
}
_FAILURES: Mapping[str, str] = {
    "error": "server_error",
    "abort": "server_error",  # vLLM and SGLang, when they give up a request
    "insufficient_system_resource": "overloaded",  # DeepSeek
}
"""Reasons to stop by which the answer was cut, and a word for each that `faults` knows."""


@attrs.define(eq=False)
class _Calling:
    """A tool call that is arriving; told once its name is known."""

    number: int
    id: str
    given_id: str
    told: bool = False
    held: list[str] = attrs.field(factory=list)


class OpenAiDecoder(FrameDecoder):
    """One streamed answer of a server with these quirks."""

    __slots__ = (
        "_began",
        "_by_index",
        "_calls",
        "_chars",
        "_elsewhere",
        "_finish",
        "_id",
        "_quirks",
        "_reader",
        "_usage",
    )

    def __init__(self, quirks: Quirks) -> None:
        super().__init__(SseFraming())
        self._quirks = quirks
        self._reader = ChunkReader()
        self._began = False
        self._id = ""
        self._finish: Stopped | None = None
        self._usage: UsageReport | None = None
        self._calls: list[_Calling] = []
        self._by_index: dict[int, _Calling] = {}
        self._chars = 0
        self._elsewhere = False

    def _take(self, name: str, payload: bytes) -> None:
        if payload.startswith(_DONE):
            self.done = True
            if not self._stopped and self._quirks.done_is_finish:
                self._finished(None)
            return
        if name == "error":
            raise as_error(read_error(payload))
        chunk = self._reader.read(payload, _A_CHUNK, opening=not self._began)
        if chunk.error or chunk.kind == "error":
            raise as_error(read_error(payload))
        self._read(chunk, stream=True)

    def whole(self, body: bytes) -> list[ModelEvent]:
        """The events of an answer that was not streamed; a decoder is good for one.

        Raises:
            ModelError: the body is an error.
            MalformedStreamError: it is no answer.
            TruncatedStreamError: it does not say why it stops.
        """
        chunk = self._reader.read(body, "the answer", opening=True)
        if chunk.error or chunk.kind == "error":
            raise as_error(read_error(body))
        if not chunk.choices:
            if (error := error_in(body)) is not None:
                raise error
            shown = body[:200].decode("utf-8", "replace")
            raise MalformedStreamError(f"the answer holds no choices: {shown!r}")
        self._read(chunk, stream=False)
        if not self._stopped:
            raw = next((each.finish_reason for each in chunk.choices if not each.index), None)
            if not self._quirks.done_is_finish:
                raise TruncatedStreamError(
                    f"the answer does not say why it stops: its finish_reason is {raw!r}"
                )
            self._finished(raw)
        self._end()
        return self._events

    def _read(self, chunk: Chunk, *, stream: bool) -> None:
        choices = chunk.choices or ()
        # Azure opens with a chunk that has neither an id nor choices.
        if not self._began and (chunk.id or (chunk.model and choices)):
            self._began, self._id = True, chunk.id or ""
            details = chunk.details() if isinstance(chunk, Opening) else NO_DETAILS
            self._events.append(Began(self._id, chunk.model or "", details))
        failed: Said | None = None
        record = chunk.usage
        for choice in choices:
            if choice.index:
                continue
            delta = choice.delta if stream else choice.message
            if choice.text or (choice.message if stream else choice.delta):
                delta = self._beside(delta, choice)
            if choice.logprobs is not None and (likely := logprobs_of(choice.logprobs)):
                self._events.append(likely)
            if delta is not None:
                self._said(delta)
            if choice.finish_reason or choice.error:
                failed = self._why(choice)
            if choice.usage is not None and record is None:
                self._count(choice.usage, {})  # Moonshot
        if record is not None:
            self._count(record, record)
        if chunk.x_groq is not None:
            self._groq(chunk.x_groq)
        if failed is not None:
            raise as_error(failed)

    def _beside(self, delta: ChunkDelta | None, choice: ChunkChoice) -> ChunkDelta | None:
        """What a choice says; where that is nothing, what it says in another's place.

        Some servers stream messages, or texts, and no deltas. Others repeat at the end, in a
        message, all that their deltas have said.

        Raises:
            MalformedStreamError: what it says there is no such repetition, and would be lost.
        """
        if delta is not None and not delta.silent:
            return delta
        others = (choice.message, choice.delta, ChunkDelta(choice.text))
        other = next((each for each in others if each is not None and not each.silent), None)
        if other is None or self._elsewhere:
            return other
        if not (self._chars or self._calls):
            self._elsewhere = True
            return other
        calls = len(other.tool_calls or ())
        if other.chars not in {0, self._chars} or calls not in {0, len(self._calls)}:
            raise MalformedStreamError(
                f"deltas have said {self._chars} characters and {len(self._calls)} calls; behind "
                f"them came a message of {other.chars} and {calls}, which is not the same again"
            )
        return None

    def _said(self, delta: ChunkDelta) -> None:
        content = delta.content
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._events.append(ReasoningDelta(thought))
        elif delta.reasoning_details:
            self._events += [
                ReasoningDelta(each.text) for each in delta.reasoning_details if each.text
            ]
        if content:
            if isinstance(content, str):
                self._events.append(TextDelta(content))
                self._chars += len(content)
            else:
                self._parts(content)
        if delta.refusal:
            self._events.append(RefusalDelta(delta.refusal))
        if delta.tool_calls:
            if len(delta.tool_calls) > 1:
                _count_apart(delta.tool_calls, len(self._calls))
            for call in delta.tool_calls:
                self._call(call)
        if delta.function_call is not None and self._quirks.function_calls:
            function = delta.function_call
            if function.name or function.arguments:
                self._call(CallPiece(_OLD_CALL, None, function))

    def _parts(self, parts: list[ChunkPart]) -> None:
        for part in parts:
            if part.thinking:
                thoughts = part.thinking
                if not isinstance(thoughts, str):
                    thoughts = "".join(each.text or "" for each in thoughts)
                self._events.append(ReasoningDelta(thoughts))
            if part.text:
                self._events.append(TextDelta(part.text))
                self._chars += len(part.text)
            if part.refusal:
                self._events.append(RefusalDelta(part.refusal))

    def _call(self, call: CallPiece) -> None:
        function = call.called()
        arguments = function.arguments or ""
        if not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        calling = self._calling(call, function.name or "")
        if calling.told:
            if arguments:
                self._events.append(ToolCallDelta(calling.number, arguments=arguments))
            return
        calling.held.append(arguments)
        if function.name:
            self._tell(calling, function.name)

    def _tell(self, calling: _Calling, name: str) -> None:
        calling.told = True
        arguments = "".join(calling.held)
        self._events.append(ToolCallDelta(calling.number, calling.id, name, arguments))

    def _calling(self, call: CallPiece, name: str) -> _Calling:
        """The call that this is a piece of."""
        index, given = call.index, call.id or ""
        if index is not None:
            found = self._by_index.get(index)
        elif given:
            found = next((each for each in self._calls if each.given_id == given), None)
        else:
            # A whole call has a name; what has none goes on with the last one.
            found = None if name or not self._calls else self._calls[-1]
        if found is None or (given and name and found.given_id not in {"", given}):
            found = self._new_call(given)
            if index is None:  # its pieces may be counted all the same
                self._by_index.setdefault(found.number, found)
            else:
                self._by_index[index] = found
        return found

    def _new_call(self, given: str) -> _Calling:
        number = len(self._calls)
        made = "call_" + fingerprint(f"{self._id}/{number}", 24)
        calling = _Calling(number, given or made, given)
        self._calls.append(calling)
        return calling

    def _why(self, choice: ChunkChoice) -> Said | None:
        """Keep the reason to stop; or if it is a failure, what the server says of it."""
        raw = choice.finish_reason
        if choice.error:
            return read_error({"error": choice.error})
        if (word := _FAILURES.get(raw or "")) is not None:
            return Said(f"the answer ended with finish_reason {raw!r}", (word,))
        self._finished(raw, isinstance(choice.stop_reason, str))
        return None

    def _finished(self, raw: str | None, by_sequence: bool = False) -> None:
        reason = REASONS.get(raw, StopReason.OTHER) if raw else StopReason.END
        if reason is StopReason.END:
            if self._calls:  # many servers say "stop" of any answer
                reason = StopReason.TOOL_CALLS
            elif by_sequence:  # vLLM: the sequence that it met, or the number of a token
                reason = StopReason.STOP_SEQUENCE
        self._stopped = True
        self._finish = Stopped(reason, raw)

    def _count(self, record: object, raw: object) -> None:
        usage = usage_of(record, Certainty.EXACT if self._stopped else Certainty.PARTIAL)
        if usage is not None and isinstance(raw, dict):
            self._report(usage, raw)

    def _report(self, usage: Usage, raw: Json) -> None:
        self._usage = UsageReport(usage, raw)
        self._events.append(self._usage)

    def _groq(self, groq: GroqRecord) -> None:
        if groq.error:
            raise as_error(read_error({"error": groq.error}))
        if self._usage is None:  # not where OpenAI's record stands: nothing is told as if it did
            self._count(groq.usage, {})

    def _end(self) -> None:
        for calling in self._calls:
            if not calling.told:
                self._tell(calling, "")
        report = self._usage
        if report is not None and self._stopped and report.usage.certainty is Certainty.PARTIAL:
            # The server's last count came before its reason, and nothing was cut.
            self._report(attrs.evolve(report.usage, certainty=Certainty.EXACT), report.raw)
        if self._finish is not None:
            self._events.append(self._finish)


def _count_apart(pieces: list[CallPiece], begun: int) -> None:
    """Count pieces that only their order tells apart: they are of the calls that began last."""
    bare = all(each.index is None and not each.id and not each.called().name for each in pieces)
    if bare and begun >= len(pieces):
        for at, each in enumerate(pieces, begun - len(pieces)):
            each.index = at
