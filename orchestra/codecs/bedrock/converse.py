"""Amazon Bedrock's Converse: one dialect for all the model families behind it.

Calls that the provider itself answers, as a web search of Nova, are left out with their results.

Streams have two peculiarities. Text blocks have no start event, so a block begins with its first
event of any kind. And the usage comes after the stop reason, in `metadata`, so the stop reason is
not the end of the stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

import attrs
import msgspec

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.anthropic.citations import CitedText
from orchestra.codecs.bedrock.citations import read_citation
from orchestra.codecs.bedrock.embed import decode_embeddings, embed_body, rerank_body
from orchestra.codecs.bedrock.request import converse_body
from orchestra.codecs.dialect import Call, Dialect, not_answered
from orchestra.codecs.faults import as_error, http_error, read_error
from orchestra.codecs.framing.eventstream import ERROR, EXCEPTION, EventStreamFraming
from orchestra.codecs.framing.frames import LARGE_BYTES, FrameDecoder, decoded, json_text
from orchestra.codecs.framing.mending import JsonReader, read_whole
from orchestra.codecs.rankings import ranking_of
from orchestra.codecs.raw_json import NOTHING
from orchestra.codecs.retry_after import their_now_s
from orchestra.codecs.seals import ANTHROPIC, REDACTED, sealed
from orchestra.codecs.tool_calls import next_call
from orchestra.codecs.usage_counts import count, token_count
from orchestra.errors import ModelError
from orchestra.rankings import Ranking, RerankRequest
from orchestra.values import (
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Json,
    ModelEvent,
    ReasoningDelta,
    Stopped,
    StopReason,
    ToolCallDelta,
    UsageReport,
)

STOPS: Mapping[str, StopReason] = {
    "end_turn": StopReason.END,
    "tool_use": StopReason.TOOL_CALLS,
    "max_tokens": StopReason.LENGTH,
    "model_context_window_exceeded": StopReason.LENGTH,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "guardrail_intervened": StopReason.CONTENT_FILTER,
    "content_filtered": StopReason.CONTENT_FILTER,
}
"""Converse's stop reasons; any other is `StopReason.OTHER`."""
_PROVIDERS_CALL = "server_tool_use"
_BAD_KEY = b"make sure your API Key is valid"
_SIGNATURE_ERRORS = re.compile("Signature|RequestTimeTooSkewed|RequestExpired")
"""Amazon's errors for a refused signature, most often because of its time."""
SKEW_S = 240.0
"""A clock that is off by more is mentioned in the error: Amazon refuses a signature whose time is
off by five minutes.
"""


class _Text(msgspec.Struct):
    text: str | None = None
    signature: str | None = None


class _Reasoning(msgspec.Struct, rename="camel"):
    """A delta has text, signature or encrypted content; a complete block has `reasoning_text`."""

    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None
    reasoning_text: _Text | None = None


class _ToolUse(msgspec.Struct, rename="camel"):
    """`input` is the next piece of a JSON text in a stream; otherwise it is an object."""

    type: str | None = None
    input: msgspec.Raw = NOTHING
    tool_use_id: str | None = None
    name: str | None = None


class _Cited(msgspec.Struct):
    """A text with its citations; without a text, they belong to the block before."""

    content: list[_Text] | None = None
    citations: object = None


class _Block(msgspec.Struct, rename="camel"):
    """A delta has one `citation`, a complete block has `citations_content`."""

    text: str | None = None
    citation: object = None
    citations_content: _Cited | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None


class _Piece(msgspec.Struct, rename="camel"):
    content_block_index: int = 0
    start: _Block | None = None
    delta: _Block | None = None


class _Stop(msgspec.Struct, rename="camel"):
    stop_reason: str | None = None


class _Metadata(msgspec.Struct):
    usage: Json | None = None


class _Message(msgspec.Struct):
    content: list[_Block] | None = None


class _Output(msgspec.Struct):
    message: _Message | None = None


class _Answer(msgspec.Struct, rename="camel"):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: Json | None = None


_pieces = msgspec.json.Decoder(_Piece)
_stops = msgspec.json.Decoder(_Stop)
_metadata = msgspec.json.Decoder(_Metadata)
_answers = msgspec.json.Decoder(_Answer)


class ConverseEvents:
    """Decodes the stream events of one answer, of Converse or of Nova's own format."""

    def __init__(self) -> None:
        self._left_out = -1  # the index of the last block with a call that is left out
        self._reader = JsonReader()
        self._cited = CitedText(read_citation)
        self._cited_block = -1  # the index of the last block with text or citations
        self._calls: dict[int, int] = {}  # block index to call number
        self._ids: dict[int, str] = {}  # block index to the id of its call
        self._calls_count = 0

    def take(self, name: str, payload: bytes) -> Iterable[ModelEvent]:
        """The model events of one event of the stream; none for an unknown event.

        Raises:
            MalformedStreamError: the payload is not of this dialect.
        """
        match name:
            case "contentBlockDelta" | "contentBlockStart":
                return self._piece(self._reader.read(_pieces, payload, f"a {name} of Converse"))
            case "contentBlockStop":
                return self._cited.end()
            case "messageStop":
                word = decoded(_stops, payload, "a messageStop of Converse").stop_reason
                return (*self.skip(), stopped(word))
            case "metadata":
                return usage_report(decoded(_metadata, payload, "Converse's metadata").usage)
        return ()

    def _piece(self, piece: _Piece) -> Iterable[ModelEvent]:
        if piece.start is not None and (call := piece.start.tool_use) is not None:
            if call.type == _PROVIDERS_CALL:
                self._left_out = piece.content_block_index
                return self.skip()
            self._left_out = -1
            index = self._call_of(piece, call.tool_use_id or "")
            began = ToolCallDelta(index, call.tool_use_id or "", call.name or "")
            return (*self.skip(), began)
        if piece.delta is None:
            return ()
        if (call := piece.delta.tool_use) is not None:
            if piece.content_block_index == self._left_out:
                return ()
            index = self._call_of(piece)
            text = json_text(call.input)
            return (ToolCallDelta(index, arguments=text),) if text else ()
        return self.content(piece.content_block_index, piece.delta)

    def content(self, index: int, block: _Block) -> list[ModelEvent]:
        """The events of a block, other than a call, or of a piece of it; `index` is the block's."""
        text, citations = block.text, block.citation
        if (cited := block.citations_content) is not None:
            text = "".join(each.text or "" for each in cited.content or ())
            citations = cited.citations
        if not (text or citations):
            thought = _thought(block.reasoning_content)
            return [*self.skip(), thought] if thought else []
        events: list[ModelEvent] = []
        if index != self._cited_block:
            self._cited_block = index
            events = self._cited.begin()
        if text:
            events += self._cited.text(text)
        self._cited.cites(citations)
        return events

    def skip(self) -> list[ModelEvent]:
        """End the text before a block of another type, or at the end of the answer."""
        return self._cited.skip()

    def _call_of(self, piece: _Piece, id_: str = "") -> int:
        """The number of the tool call in this block; another id begins another call."""
        block = piece.content_block_index
        if block not in self._calls or (id_ and self._ids.get(block, id_) != id_):
            self._calls[block] = next_call(self._calls_count)
            self._calls_count += 1
        if id_:
            self._ids[block] = id_
        return self._calls[block]


class ConverseDecoder(FrameDecoder):
    """Decodes answers of `converse-stream`."""

    def __init__(self) -> None:
        super().__init__(EventStreamFraming())
        self._converse = ConverseEvents()

    def _take(self, name: str, payload: bytes) -> None:
        if (error := stream_error(name, payload)) is not None:
            raise error
        self._emit(*self._converse.take(name, payload))
        self.done = self._stopped and name == "metadata"


@attrs.frozen
class Bedrock(Dialect):
    """The common part of Bedrock's two dialects: vectors and rankings by InvokeModel, and errors.

    `texts_max` is 1 for Titan and Nova, which take one text in a call, and 96 for Cohere's models.
    """

    texts_max: int = 1

    def ask_embeddings(self, model: str, request: EmbedRequest) -> Call:
        """The call that embeds texts with a model of Titan, Nova or Cohere."""
        body = embed_body(self.family_of(model), request)
        return Call(model_path(model, "invoke"), msgspec.json.encode(body))

    def family_of(self, model: str) -> str:
        """The text that is searched for the model's family: the model's id."""
        return model

    def decode_embeddings(self, body: bytes) -> Embeddings:
        return decode_embeddings(body)

    def ask_ranking(self, model: str, request: RerankRequest) -> Call:
        """The call that reranks with a model of Cohere."""
        body = rerank_body(self.family_of(model), request)
        return Call(model_path(model, "invoke"), msgspec.json.encode(body))

    def decode_ranking(self, body: bytes) -> Ranking:
        return ranking_of(body)

    def error(
        self, status: int, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> ModelError:
        code = headers.get("x-amzn-errortype", "").partition(":")[0].strip()
        if _BAD_KEY in body:  # Bedrock's code is the same as for a model without access
            code = "invalid_api_key"
        error = http_error(status, headers, body, now_s, codes=(code,) if code else ())
        off_s = now_s - their_now_s(headers, now_s)
        if abs(off_s) > SKEW_S and _SIGNATURE_ERRORS.search(f"{code} {error.message}"):
            way = "ahead of" if off_s > 0 else "behind"
            error.message += (
                f" (the clock of this host is {abs(off_s):.0f} s {way} the provider's, which "
                "refuses signatures of another time: set the clock)"
            )
        return error


@attrs.frozen
class BedrockDialect(Bedrock):
    """Chat by Converse, and embeddings by InvokeModel, as Converse has none."""

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        """The call that asks a model, by its id, profile or ARN."""
        body = msgspec.json.encode(converse_body(model, request))
        return Call(model_path(model, "converse-stream" if stream else "converse"), body)

    def decoder(self) -> ConverseDecoder:
        return ConverseDecoder()

    def decode(self, body: bytes) -> list[ModelEvent]:
        return converse_events(body)


def model_path(model: str, verb: str) -> str:
    """The path of a call, with the model's id or ARN encoded as one segment."""
    return f"/model/{quote(model, safe='-._~')}/{verb}"


def converse_events(body: bytes) -> list[ModelEvent]:
    """The events of a complete answer of Converse, or of Nova by InvokeModel.

    Raises:
        ModelError: the body is an error.
        MalformedStreamError: the body is not such an answer.
    """
    answer = read_whole(_answers, body, "an answer of Converse")
    if answer.output is None or answer.output.message is None:
        raise not_answered(body, "an answer of Converse without a message")
    events: list[ModelEvent] = []
    blocks = ConverseEvents()
    calls = 0
    for index, block in enumerate(answer.output.message.content or ()):
        if (call := block.tool_use) is not None:
            events += blocks.skip()
            if call.type != _PROVIDERS_CALL:
                fields = (call.tool_use_id or "", call.name or "", json_text(call.input))
                events.append(ToolCallDelta(next_call(calls), *fields))
                calls += 1
        events += blocks.content(index, block)
    return [*events, *blocks.skip(), *usage_report(answer.usage), stopped(answer.stop_reason)]


def stream_error(name: str, payload: bytes) -> ModelError | None:
    """The error in a frame of the stream; None if the frame is not an error."""
    for prefix in (EXCEPTION, ERROR):
        if name.startswith(prefix):
            reported = read_error(payload[:LARGE_BYTES])
            code = name.removeprefix(prefix)
            message = reported.message or f"{code or 'an error without a name'} in the stream"
            codes = (code, *reported.codes)
            return as_error(attrs.evolve(reported, message=message, codes=codes))
    return None


def stopped(word: str | None) -> Stopped:
    """The event for a stop reason of Converse."""
    return Stopped(STOPS.get(word or "", StopReason.OTHER), word)


def usage_report(
    raw: Json | None, names: tuple[str, str] = ("inputTokens", "outputTokens")
) -> tuple[UsageReport, ...]:
    """The report of a usage record: partial if one count is missing, none if both are.

    `names` are the names of the input and output counts. If a guardrail has changed Nova's answer,
    only the input is counted. The input count excludes tokens read from and written to the cache,
    whose counts have either of two names.
    """
    found = raw or {}
    input_tokens, output_tokens = (token_count(found.get(name)) for name in names)
    if input_tokens is None and output_tokens is None:
        return ()
    whole = input_tokens is not None and output_tokens is not None
    read = count(found, "cacheReadInputTokens") or count(found, "cacheReadInputTokenCount")
    written = count(found, "cacheWriteInputTokens") or count(found, "cacheWriteInputTokenCount")
    usage = Usage(
        (input_tokens or 0) + read + written,
        output_tokens or 0,
        Certainty.EXACT if whole else Certainty.PARTIAL,
        cached_input_tokens=read,
        cache_write_input_tokens=written,
    )
    return (UsageReport(usage, found),)


def _thought(thought: _Reasoning | None) -> ReasoningDelta | None:
    if thought is None:
        return None
    if (whole := thought.reasoning_text) is not None:
        return ReasoningDelta(whole.text or "", sealed(ANTHROPIC, whole.signature))
    if thought.redacted_content:
        return ReasoningDelta("", sealed(REDACTED, thought.redacted_content))
    if thought.text or thought.signature:
        return ReasoningDelta(thought.text or "", sealed(ANTHROPIC, thought.signature))
    return None
