"""Amazon Bedrock's InvokeModel: each model family has its own format, in one envelope.

An answer does not name its model, so its keys decide the family. Claude's events are Anthropic's,
and Nova's are Converse's; the others are read by `family_answer`. Bedrock adds its own counts to a
stream's last event. The text of a guardrail has no stop reason: that of the content filter is
reported.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import msgspec

from orchestra.accounts import Certainty
from orchestra.codecs.anthropic.dialect import MessageEvents, message_events
from orchestra.codecs.bedrock.converse import (
    Bedrock,
    ConverseEvents,
    converse_events,
    model_path,
    stream_error,
)
from orchestra.codecs.bedrock.family_answer import (
    FamilyAnswer,
    is_of_another,
    stops,
    text_and_calls,
    token_counts,
    usage_reports,
)
from orchestra.codecs.bedrock.prompts import invoke_body
from orchestra.codecs.dialect import Call, not_answered
from orchestra.codecs.faults import as_error, read_error
from orchestra.codecs.framing.eventstream import EventStreamFraming
from orchestra.codecs.framing.frames import FrameDecoder, decoded
from orchestra.codecs.framing.mending import JsonReader, read_whole
from orchestra.codecs.raw_json import given
from orchestra.codecs.usage_counts import latest_counts
from orchestra.values import (
    ChatRequest,
    Json,
    ModelEvent,
    Stopped,
    StopReason,
    UsageReport,
)

_METRICS = b"amazon-bedrock-invocationMetrics"


class _Chunk(msgspec.Struct):
    piece: bytes = msgspec.field(name="bytes")


_chunks = msgspec.json.Decoder(_Chunk)
_pieces = msgspec.json.Decoder(FamilyAnswer)
_answers = msgspec.json.Decoder(FamilyAnswer | list[FamilyAnswer])


class InvokeDecoder(FrameDecoder):
    """Decodes answers of `invoke-with-response-stream`."""

    def __init__(self) -> None:
        super().__init__(EventStreamFraming())
        self._claude: MessageEvents | None = None
        self._nova = ConverseEvents()
        self._reader = JsonReader()
        self._counts: Json = {}
        self._reported = False  # whether the model reported usage, with more counts than Bedrock
        self._intervened = False
        self._has_text = False

    def _take(self, name: str, payload: bytes) -> None:
        if (error := stream_error(name, payload)) is not None:
            raise error
        if name == "chunk":
            self._piece(decoded(_chunks, payload, "a chunk of InvokeModel").piece)

    def _piece(self, payload: bytes) -> None:
        if self._claude is not None:
            self._of_claude(self._claude, payload)
            return
        piece = self._reader.read(_pieces, payload, "a piece of a model's answer")
        if piece.type not in (None, "completion"):
            self._claude = MessageEvents()
            self._of_claude(self._claude, payload)
        elif given(piece.error):
            raise as_error(read_error(payload))
        else:
            self._of_nova(piece)
            self._of_others(piece)
            self._end_by(piece.metrics)

    def _of_claude(self, claude: MessageEvents, payload: bytes) -> None:
        self._pass_on(claude.take(payload))
        if _METRICS in payload:
            self._end_by(decoded(_pieces, payload, "the last event of a stream").metrics)

    def _of_nova(self, piece: FamilyAnswer) -> None:
        for name, found in (
            ("contentBlockDelta", piece.block_delta),
            ("contentBlockStart", piece.block_start),
            ("messageStop", piece.message_stop),
            ("metadata", piece.metadata),
        ):
            if given(found):
                self._pass_on(self._nova.take(name, bytes(found)))

    def _of_others(self, piece: FamilyAnswer) -> None:
        if is_of_another(piece):
            return
        if piece.event_type == "tool-calls-generation" and self._has_text:
            piece.text = None  # repeats the text of the pieces before
        self._has_text = self._has_text or bool(piece.text)
        self._emit(*text_and_calls(piece), *stops(piece))
        # masked text is marked, too; but only a guardrail's own text is complete and has counts
        self._intervened = piece.intervened and piece.output_total is not None
        self._counts = latest_counts(self._counts, token_counts(piece))
        if self._stopped:
            self._emit(*usage_reports(self._counts))

    def _pass_on(self, events: Iterable[ModelEvent]) -> None:
        for event in events:
            whole = isinstance(event, UsageReport) and event.usage.certainty is Certainty.EXACT
            self._reported = self._reported or whole
            self._emit(event)

    def _end(self) -> None:
        if self._intervened and not self._stopped:
            self._emit(Stopped(StopReason.CONTENT_FILTER), *usage_reports(self._counts))

    def _end_by(self, metrics: Json | None) -> None:
        if metrics is None:
            return
        if not self._reported:
            self._emit(*usage_reports(metrics))
        self.done = self._stopped


@attrs.frozen
class BedrockInvokeDialect(Bedrock):
    """InvokeModel, for Claude, Nova, Titan, Llama and Mistral, and for embeddings.

    `family` is the family of a model whose id does not contain it: see `invoke_body`.
    """

    family: str = ""

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        verb = "invoke-with-response-stream" if stream else "invoke"
        body = invoke_body(model, request, self.family)
        return Call(model_path(model, verb), msgspec.json.encode(body))

    def decoder(self) -> InvokeDecoder:
        return InvokeDecoder()

    def decode(self, body: bytes) -> list[ModelEvent]:
        found = read_whole(_answers, body, "a model's answer")
        answer = next(iter(found), FamilyAnswer()) if isinstance(found, list) else found
        if answer.type not in (None, "completion"):
            return message_events(body)
        if given(answer.output):
            return converse_events(body)
        events: list[ModelEvent] = [
            *text_and_calls(answer),
            *usage_reports(token_counts(answer)),
            *stops(answer),
        ]
        if given(answer.error) or not (events or answer.intervened):
            raise not_answered(body, "an answer of an unknown model family")
        if not events or not isinstance(events[-1], Stopped):
            reason = StopReason.CONTENT_FILTER if answer.intervened else StopReason.OTHER
            events.append(Stopped(reason))
        return events

    def family_of(self, model: str) -> str:
        """The configured family, else the model's id."""
        return self.family or model
