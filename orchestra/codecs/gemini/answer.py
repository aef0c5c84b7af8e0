"""Decodes Gemini's responses: the sequence of a stream, or a single one.

Any response may have a stop reason, and the last one counts; an answer with tool calls has the
usual one. A complete answer without a reason has stopped for an unknown reason. A seal on a piece
of text becomes a thought without text, before this piece. Token counts are running totals: a count
that the last record omits keeps its value.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.faults import as_error, read_error
from orchestra.codecs.framing.frames import FRAME_BYTES_MAX, decoded
from orchestra.codecs.framing.mending import JsonReader
from orchestra.codecs.gemini.arguments import Arguments, PartialArgument
from orchestra.codecs.gemini.grounding import grounded, recited
from orchestra.codecs.raw_json import NOTHING, given, text_of
from orchestra.codecs.seals import GEMINI, ON_TEXT, sealed
from orchestra.codecs.tool_calls import fingerprint, next_call
from orchestra.codecs.usage_counts import certainty_of, count, latest_counts
from orchestra.errors import MalformedStreamError
from orchestra.values import (
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

_COUNTS = (
    *("promptTokenCount", "toolUsePromptTokenCount"),
    *("candidatesTokenCount", "thoughtsTokenCount"),
)
_FILTERS = (
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
    *("ESCALATION", "LANGUAGE", "PUP_LIMITED_DISABLED"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
)
_REASONS: Mapping[str, StopReason] = {
    "STOP": StopReason.END,
    "MAX_TOKENS": StopReason.LENGTH,
    "CONTINUATION": StopReason.LENGTH,
    **dict.fromkeys(_FILTERS, StopReason.CONTENT_FILTER),
}
_ID_CHARS = 64
_NO_REASONS = (None, "", "FINISH_REASON_UNSPECIFIED")
"""The stop reasons of an answer that continues; gateways send an empty text."""


class _FunctionCall(msgspec.Struct, rename="camel"):
    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = NOTHING
    partial_args: list[PartialArgument] | None = None
    will_continue: bool | None = None


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    grounding_metadata: object = None
    citation_metadata: object = None
    index: int | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Response(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Json | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: msgspec.Raw = NOTHING


_RESPONSES = msgspec.json.Decoder(_Response)
_OBJECTS = msgspec.json.Decoder(dict[str, object])


class GeminiAnswer:
    """Decodes the responses of one answer, in order, up to its end.

    `stopped` tells whether a response had a stop reason. `origin` is the origin of the seals in
    the responses. `whole` is for an unstreamed answer: it is complete even without a stop reason.
    """

    def __init__(self, origin: str = GEMINI, *, whole: bool = False) -> None:
        self.stopped = False
        self._origin = origin
        self._whole = whole
        self._reader = JsonReader()
        self._blocked = False  # whether the prompt was blocked
        self._reason: str | None = None
        self._id: str | None = None
        self._short_id = ""  # a part of the ids that are made for calls
        self._usage: Json | None = None  # the last record, unchanged
        self._counts: Json = {}  # the last value of each count
        self._calls_count = 0
        self._texts: list[str] = []
        self._seal: list[ModelEvent] = []  # a seal on no text; citations of earlier text come first
        self._grounds: object = None  # the last grounding metadata
        self._recited: list[object] = []  # the citation metadata of the responses
        self._recited_bytes = 0  # of these responses; those over the limit are left out
        self._growing: Arguments | None = None  # of the last call, while they arrive in pieces

    def take(self, payload: bytes) -> list[ModelEvent]:
        """The events of a response.

        Raises:
            ModelError: the payload is an error.
            MalformedStreamError: the payload is not a response.
        """
        response = self._reader.read(_RESPONSES, payload, "a response of Gemini")
        if given(response.error):
            raise as_error(read_error(payload))
        events: list[ModelEvent] = []
        if self._id is None:
            self._id = id_ = response.response_id or ""
            self._short_id = id_ if len(id_) <= _ID_CHARS else fingerprint(id_, _ID_CHARS)
            events.append(Began(id_, response.model_version or ""))
        if (candidate := self._first(response.candidates or [])) is not None:
            events += self._candidate(candidate)
            self._recited_bytes += len(payload) if candidate.citation_metadata else 0
            if candidate.citation_metadata and self._recited_bytes <= FRAME_BYTES_MAX:
                self._recited.append(candidate.citation_metadata)
        feedback = response.prompt_feedback
        if feedback is not None and feedback.block_reason and not response.candidates:
            self.stopped = self._blocked = True
            events += _refused(feedback.block_reason_message)
        return events + self._counted(response.usage_metadata)

    def end(self) -> list[ModelEvent]:
        """The events at the end of the answer; `Stopped` is the last."""
        reason = _REASONS.get(self._reason or "", StopReason.OTHER)
        if self._blocked and self._reason is None:
            reason = StopReason.CONTENT_FILTER
        elif self._calls_count and reason is StopReason.END:
            reason = StopReason.TOOL_CALLS
        stopped = Stopped(reason, self._reason)
        text = "".join(self._texts) if self._grounds or self._recited else ""
        cited = [*grounded(self._grounds, text), *recited(self._recited, text)]
        left = [*self._grown(), *cited, *self._seal]
        if self._usage is None:
            return [*left, stopped]
        counted = "promptTokenCount" in self._counts
        report = self._report(Certainty.EXACT if counted else Certainty.PARTIAL)
        return [*left, report, stopped]

    def _first(self, candidates: list[_Candidate]) -> _Candidate | None:
        """The first of several candidates; its index 0 may be missing, as may all indexes."""
        if self._whole:
            return candidates[0] if candidates else None
        return next((each for each in candidates if not each.index), None)

    def _candidate(self, candidate: _Candidate) -> list[ModelEvent]:
        events: list[ModelEvent] = []
        content = candidate.content
        for part in (content.parts if content is not None else None) or ():
            before, self._seal = self._seal, []
            events += before
            if part.function_call is not None:
                events += self._call(part.function_call, part.thought_signature)
            elif part.text is not None:
                events += self._text(part.text, part.thought, part.thought_signature)
        self._grounds = candidate.grounding_metadata or self._grounds
        reason = candidate.finish_reason
        if reason not in _NO_REASONS or (self._whole and not self.stopped):
            self._reason, self.stopped = reason, True
        if _REASONS.get(reason or "") is StopReason.CONTENT_FILTER:
            events += _refused(candidate.finish_message)
        return events

    def _text(self, text: str, thought: bool | None, seal: str | None) -> list[ModelEvent]:
        if thought:
            return [ReasoningDelta(text, sealed(self._origin, seal))] if text or seal else []
        self._texts.append(text)
        if not seal:  # nearly always
            return [TextDelta(text)] if text else []
        on_text = ReasoningDelta("", sealed(ON_TEXT[self._origin], seal))
        if text:
            return [on_text, TextDelta(text)]
        self._seal.append(on_text)
        return []

    def _call(self, call: _FunctionCall, seal: str | None) -> list[ModelEvent]:
        """The events of a call or a piece of one.

        The first piece has a name, and the last one does not continue.
        """
        events = self._grown() if call.name else []
        if call.name:
            index = next_call(self._calls_count)
            self._calls_count += 1
            made = "_".join(filter(None, ("call", self._short_id, str(index))))
            whole = not call.will_continue and not call.partial_args
            text = text_of(call.args)
            arguments = text if whole else ""
            signature = sealed(self._origin, seal)
            events.append(ToolCallDelta(index, call.id or made, call.name, arguments, signature))
            if not whole:
                self._growing = Arguments(decoded(_OBJECTS, text.encode(), "a call's arguments"))
        if self._growing is not None:
            for piece in call.partial_args or ():
                self._growing.add(piece)
        elif call.partial_args or not (call.name or text_of(call.args) == "{}"):
            raise MalformedStreamError("the arguments of a tool call came without its name")
        return events if call.will_continue else events + self._grown()

    def _grown(self) -> list[ModelEvent]:
        if self._growing is None:
            return []
        text, self._growing = self._growing.json(), None
        return [ToolCallDelta(self._calls_count - 1, arguments=text)]

    def _counted(self, usage: Json | None) -> list[ModelEvent]:
        if usage is None or usage == self._usage:
            return []
        self._usage = usage
        self._counts = latest_counts(self._counts, usage)
        return [self._report(Certainty.PARTIAL)]

    def _report(self, certainty: Certainty) -> UsageReport:
        return UsageReport(_usage_of(self._counts, certainty), self._usage or {})


def _refused(message: str | None) -> list[ModelEvent]:
    return [RefusalDelta(message)] if message else []


def _usage_of(record: Json, certainty: Certainty) -> Usage:
    """Gemini counts thoughts separately from the answer, and its tools' results from the prompt."""
    thoughts = count(record, "thoughtsTokenCount")
    certainty = certainty_of(record, _COUNTS, certainty)
    return Usage(
        count(record, "promptTokenCount") + count(record, "toolUsePromptTokenCount"),
        count(record, "candidatesTokenCount") + thoughts,
        certainty,
        count(record, "cachedContentTokenCount"),
        0,
        thoughts,
    )
