"""Anthropic's dialect: `/messages` below `https://api.anthropic.com/v1`.

A stream consists of named events, whose name is in the JSON as well. Block indexes count blocks of
all types; blocks of unknown types (of tools that run at the provider) are ignored. Token counts are
running totals, so the last value of each count is used.

`MessageEvents` does not depend on the framing: Bedrock sends the same events in its own framing.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from orchestra.accounts import Certainty
from orchestra.codecs.anthropic.blocks import (
    BLOCKS,
    Block,
    arguments_of,
    block_events,
    refuse_open,
)
from orchestra.codecs.anthropic.citations import CitedText, read_location
from orchestra.codecs.anthropic.request import OUTPUT_TOKENS, anthropic_body
from orchestra.codecs.anthropic.usage import usage_report
from orchestra.codecs.dialect import Call, Dialect
from orchestra.codecs.faults import as_error, read_error
from orchestra.codecs.framing.frames import FrameDecoder, Framing, decoded
from orchestra.codecs.framing.mending import JsonPath, JsonReader
from orchestra.codecs.framing.sse import SseFraming
from orchestra.codecs.raw_json import NOTHING, given
from orchestra.codecs.seals import ANTHROPIC, sealed
from orchestra.codecs.tool_calls import next_call
from orchestra.codecs.usage_counts import latest_counts
from orchestra.errors import MalformedStreamError
from orchestra.values import (
    Began,
    ChatRequest,
    Json,
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    StopReason,
    ToolCallDelta,
)

REASONS: Mapping[str, StopReason] = {
    "end_turn": StopReason.END,
    "max_tokens": StopReason.LENGTH,
    "model_context_window_exceeded": StopReason.LENGTH,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "tool_use": StopReason.TOOL_CALLS,
    "pause_turn": StopReason.PAUSED,
    "refusal": StopReason.CONTENT_FILTER,
}


class _Details(msgspec.Struct):
    category: str | None = None
    explanation: str | None = None


_NO_DETAILS = _Details()


class _Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: object = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: _Details | None = None


class _Message(msgspec.Struct):
    type: str = ""
    id: str | None = None
    model: str | None = None
    content: list[Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: _Details | None = None
    usage: Json | None = None
    error: msgspec.Raw = NOTHING


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: Block | None = None
    message: _Message | None = None
    usage: Json | None = None
    error: msgspec.Raw = NOTHING


class _Kind(msgspec.Struct):
    type: str = ""


_EVENTS = msgspec.json.Decoder(_Event)
_KINDS = msgspec.json.Decoder(_Kind)
_MESSAGES = msgspec.json.Decoder(_Message)
_KNOWN = ("message_start", "content_block_start", "content_block_delta", "message_delta", "error")
_DELTAS = (
    *("text_delta", "input_json_delta", "thinking_delta", "signature_delta"),
    "citations_delta",
)
_READ_DELTAS = frozenset(("", *_DELTAS))


@attrs.frozen(kw_only=True)
class AnthropicDialect(Dialect):
    """Anthropic's Messages API.

    `output_tokens` is the limit of the answer for requests without one; `output_tokens_max` is the
    model's own limit, if known.
    """

    output_tokens: int = OUTPUT_TOKENS
    output_tokens_max: int | None = None

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        body = anthropic_body(
            model,
            request,
            stream,
            output_tokens=self.output_tokens,
            output_tokens_max=self.output_tokens_max,
        )
        headers = (("content-type", "application/json"), ("anthropic-version", "2023-06-01"))
        return Call("/messages", msgspec.json.encode(body), headers)

    def decoder(self) -> AnthropicDecoder:
        return AnthropicDecoder(SseFraming())

    def decode(self, body: bytes) -> list[ModelEvent]:
        return message_events(body)


class AnthropicDecoder(FrameDecoder):
    """Decodes a streamed answer; each frame has one event."""

    def __init__(self, framing: Framing) -> None:
        super().__init__(framing)
        self._message = MessageEvents()

    def _take(self, name: str, payload: bytes) -> None:
        self._events += self._message.take(payload, name)
        self._stopped = self._message.stopped
        self.done = self._message.ended


class MessageEvents:
    """Decodes the events of one streamed message, in order.

    `stopped` is set once the stop reason is known, `ended` at the end of the message.
    """

    def __init__(self) -> None:
        self.stopped = False
        self.ended = False
        self._reader = JsonReader(_repaired)
        self._begun = ""  # the id of the message
        self._early = _Delta()  # a stop reason that is used if there is no later one
        self._usage: Json = {}
        self._strange: set[int] = set()  # indexes of blocks of unknown types
        self._calls: dict[int, int] = {}  # block index to call number
        self._calls_count = 0
        self._inputs: dict[int, str] = {}  # block index to the arguments in its first event
        self._cited = CitedText(read_location)

    def take(self, payload: bytes, name: str = "") -> list[ModelEvent]:
        """The model events of one event of the stream; none for an unknown type.

        `name` is used as the event's type if the JSON has none.

        Raises:
            ModelError: the event is an error.
            MalformedStreamError: the payload is not an event.
        """
        event = self._event(payload)
        kind = event.type or name
        match kind:
            case "content_block_delta":
                return self._delta(event.index, event.delta or _Delta())
            case "content_block_start":
                return self._begin_block(event.index, event.content_block or Block())
            case "content_block_stop":
                return self._end_block(event.index)
            case "message_delta":
                delta = event.delta or _Delta()
                if delta.stop_reason == "":  # some gateways write this before the real one
                    self._early, delta = delta, _Delta()
                return self._end(delta, event.usage)
            case "message_start":
                return self.begin(event.message or _Message())
            case "message_stop":
                unneeded = self.stopped or self._early.stop_reason is None
                events = [] if unneeded else self._end(self._early, None)
                self.ended = self.stopped
                return events
        if given(event.error) or kind == "error":
            raise as_error(read_error(payload))
        return []

    def _event(self, payload: bytes) -> _Event:
        """The decoded event; an event of an unknown type may have any fields."""
        try:
            return self._reader.read(_EVENTS, payload, "an event of Anthropic's stream")
        except MalformedStreamError:
            kind = decoded(_KINDS, payload, "an event of Anthropic's stream").type
            if kind in _KNOWN or not kind:
                raise
            return _Event(kind)

    def begin(
        self, message: _Message, certainty: Certainty = Certainty.PARTIAL
    ) -> list[ModelEvent]:
        """Decode a complete message, or the message of a `message_start` event.

        The latter may have all blocks if only the provider's tools were used. Some gateways send it
        twice: the second is ignored, as in Anthropic's own SDKs.
        """
        if message.id and message.id == self._begun:
            return []
        self._begun = message.id or ""
        events: list[ModelEvent] = [Began(message.id or "", message.model or "")]
        for index, block in enumerate(message.content or ()):
            events += [*self._begin_block(index, block), *self._end_block(index)]
        self._early = _Delta(
            stop_reason=message.stop_reason,
            stop_sequence=message.stop_sequence,
            stop_details=message.stop_details,
        )
        return [*events, *self._counted(message.usage, certainty)]

    def _begin_block(self, index: int, block: Block) -> list[ModelEvent]:
        if block.type not in ("", *BLOCKS):
            self._strange.add(index)
        if block.type in ("", "text"):
            events = self._cited.begin()
            if block.text:
                events += self._cited.text(block.text)
            self._cited.cites(block.citations)
            return events
        ended = self._cited.skip() if block.type in BLOCKS else self._cited.end()
        events = [*ended, *block_events(block, self._calls_count)]
        if block.type == "tool_use":
            self._calls[index] = next_call(self._calls_count)
            self._calls_count += 1
            if arguments := arguments_of(block):
                self._inputs[index] = arguments
        refuse_open(self._strange, self._inputs)
        return events

    def _delta(self, index: int, delta: _Delta) -> list[ModelEvent]:
        if index in self._strange or delta.type not in _READ_DELTAS:
            return []
        if delta.text:
            return self._cited.text(delta.text)
        if delta.citation:
            self._cited.cites([delta.citation])
            return []
        if delta.partial_json:
            self._inputs.pop(index, None)
            if index not in self._calls:
                raise MalformedStreamError(
                    f"arguments of a tool call came in block {index}, in which no call has begun, "
                    "or its call has ended"
                )
            return [ToolCallDelta(self._calls[index], arguments=delta.partial_json)]
        if delta.thinking or delta.signature:
            return [ReasoningDelta(delta.thinking or "", sealed(ANTHROPIC, delta.signature))]
        return []

    def _end_block(self, index: int) -> list[ModelEvent]:
        """End a block; some compatible servers send all arguments in its first event."""
        self._strange.discard(index)
        arguments, call = self._inputs.pop(index, ""), self._calls.pop(index, 0)
        if arguments:
            return [ToolCallDelta(call, arguments=arguments)]
        return self._cited.end()

    def _end(self, delta: _Delta, usage: Json | None) -> list[ModelEvent]:
        """Take the token counts and the stop reason; of several reasons, the first is used."""
        left = [event for index in list(self._inputs) for event in self._end_block(index)]
        stops = [] if self.stopped else _stop_events(delta)
        self.stopped = self.stopped or delta.stop_reason is not None
        counted = self._counted(usage, Certainty.EXACT if self.stopped else Certainty.PARTIAL)
        return [*left, *self._cited.end(), *counted, *stops]

    def _counted(self, usage: Json | None, certainty: Certainty) -> list[ModelEvent]:
        if usage is not None:
            self._usage = latest_counts(self._usage, usage)
        return [usage_report(self._usage, certainty)] if self._usage else []


def message_events(body: bytes) -> list[ModelEvent]:
    """The events of a complete, unstreamed message; `Stopped` is the last.

    Raises:
        ModelError: the body is an error.
        MalformedStreamError: the body is not a message.
    """
    message = JsonReader(_repaired).read(_MESSAGES, body, "a message of Anthropic")
    if given(message.error) or message.type == "error":
        raise as_error(read_error(body))
    if message.content is None:
        raise MalformedStreamError(f"this is not a message of Anthropic: {body[:200]!r}")
    stops = _stop_events(message) or [Stopped(StopReason.OTHER)]  # it is complete, as its JSON is
    return [*MessageEvents().begin(message, Certainty.EXACT), *stops]


def _repaired(path: JsonPath, value: object) -> object:
    """The value; of blocks and deltas of unknown types, which may have any fields, the type."""
    key, known = path[-1], _DELTAS if path[-1] == "delta" else BLOCKS
    if key == "stop_details":
        return value if isinstance(value, dict) else None
    if value is None and "input" not in path:
        return {"type": "", "index": 0}.get(key)
    if not isinstance(value, dict) or not (
        key in {"delta", "content_block"} or path[-2:-1] == ("content",)
    ):
        return value
    kind = value.get("type") or ""
    return value if kind in ("", *known) else {"type": kind}


def _stop_events(ending: _Delta | _Message) -> list[ModelEvent]:
    if ending.stop_reason is None:
        return []
    details = ending.stop_details or _NO_DETAILS
    explanation = details.explanation
    refused: list[ModelEvent] = [RefusalDelta(explanation)] if explanation else []
    reason = REASONS.get(ending.stop_reason, StopReason.OTHER)
    return [*refused, Stopped(reason, ending.stop_reason, ending.stop_sequence, details.category)]
