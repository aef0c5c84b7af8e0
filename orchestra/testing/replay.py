"""`python -m orchestra.testing.replay`: decode answers that a server replays.

It reads lines of JSON from standard input, and answers each with one line, at once and in order:

    {"cid", "provider", "surface", "stream", "status", "base_url"}
    -> {"cid", "text", "tools": [{"name", "args"}], "finish", "usage": [in, out] | null}
    -> {"cid", "n", "dim", "first"}                       for embeddings
    -> {"cid", "error": {"status", "kind": "http" | "stream" | "parse"}}

`finish` and `usage` are the provider's own; `usage` counts as its surface does, with None for
missing counts. Of Converse, `tools` also has the calls that the provider itself answers, as in
the recordings. Each request really goes to `base_url`, through the library's transport. For
vectors in base64, `dim` and `first` are those of the text, as in the recordings: its length,
and its first 40 characters.

An error with an HTTP error status is of kind `http`, with that status. An error inside an answer
with a good status is of kind `stream`, as is a cut answer or a broken connection; its status is
that of the answer, whatever the error names. An unreadable answer is of kind `parse`, also if the
fault is ours; so is an invalid line. The following lines are still answered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import msgspec
import trio

from orchestra.answers import Completion
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect, ConverseDecoder
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.ollama.dialect import OllamaDialect
from orchestra.codecs.openai.azure import AzureDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import PRESETS, Quirks
from orchestra.codecs.raw_json import NOT_JSON
from orchestra.errors import MalformedStreamError, ModelError
from orchestra.protocols import Transport
from orchestra.providers.credentials import NoCredentials
from orchestra.providers.network import open_transport
from orchestra.providers.remote import Endpoint, RemoteModel
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    Json,
    Message,
    ModelEvent,
    Stopped,
    UsageReport,
)

MODEL = "replayed"
INVOKED, EMBEDDING = "anthropic.claude", "cohere.embed"
"""InvokeModel uses the request format of the model's family; any family will do."""
BASE64_CHARS = 40
FLOATS = 3
ASKED = ChatRequest((Message("user", "Say something."),), output_tokens_max=256)


@attrs.frozen
class Case:
    """One recorded answer, and where it is replayed."""

    cid: str
    provider: str
    surface: str
    stream: bool
    status: int
    base_url: str


def dialect_of(provider: str, surface: str) -> Dialect:
    """The dialect that a surface of a provider speaks.

    Raises:
        MalformedStreamError: no dialect is known for it, so none of its answers can be read.
    """
    if surface in {"chat", "embed"} and provider == "azure":
        return AzureDialect()
    if surface == "embed" and provider in _EMBEDDERS:
        return _EMBEDDERS[provider]()
    if surface in {"chat", "embed"}:
        return OpenAiDialect(_as_recorded(PRESETS.get(provider, PRESETS["openai-compatible"])))
    if surface not in _DIALECTS:
        raise MalformedStreamError(
            f"no dialect is known for the surface {surface!r}: write one of chat, embed, "
            f"{', '.join(_DIALECTS)}"
        )
    return _DIALECTS[surface]()


def _as_recorded(quirks: Quirks) -> Quirks:
    """Adapt quirks to the recordings, which may have base64 where we would ask for numbers."""
    numbers = quirks.embeddings_format == "float"
    return attrs.evolve(quirks, embeddings_format="base64") if numbers else quirks


class _RecordedConverse(BedrockDialect):
    """Converse with the calls that the provider answers itself, which the recordings list."""

    def decoder(self) -> ConverseDecoder:
        return _RecordedDecoder()

    def decode(self, body: bytes) -> list[ModelEvent]:
        return super().decode(body.replace(*_AS_TOOLS_CALL))


class _RecordedDecoder(ConverseDecoder):
    def _take(self, name: str, payload: bytes) -> None:
        super()._take(name, payload.replace(*_AS_TOOLS_CALL))


_AS_TOOLS_CALL = b'"server_tool_use"', b'"tool_use"'
_DIALECTS: Mapping[str, Callable[[], Dialect]] = {
    "messages": AnthropicDialect,
    "generateContent": GeminiDialect,
    "streamGenerateContent": GeminiDialect,
    "converse": _RecordedConverse,
    "converse-stream": _RecordedConverse,
    "invoke": BedrockInvokeDialect,
    "invoke-stream": BedrockInvokeDialect,
    "v2chat": CohereDialect,
    "api/chat": OllamaDialect,
    "api/generate": OllamaDialect,
    "embedContent": GeminiDialect,
    "batchEmbedContents": GeminiDialect,
    "predict": GeminiDialect,
    "api/embed": OllamaDialect,
    "api/embeddings": OllamaDialect,
}
_EMBED = ("embed", "embedContent", "batchEmbedContents", "predict", "api/embed", "api/embeddings")
_EMBEDDERS: Mapping[str, Callable[[], Dialect]] = {
    "cohere": CohereDialect,
    "google": GeminiDialect,
    "bedrock": BedrockInvokeDialect,
}
"""Providers whose vectors have a dialect of their own; Ollama has two."""

_COUNTS: tuple[tuple[str, str], ...] = (
    ("prompt_tokens", "completion_tokens"),
    ("input_tokens", "output_tokens"),
    ("promptTokenCount", "candidatesTokenCount"),
    ("inputTokens", "outputTokens"),
    ("prompt_eval_count", "eval_count"),
    ("inputTokenCount", "outputTokenCount"),
    ("inputTextTokenCount", "tokenCount"),
    ("inputTextTokenCount", "totalOutputTextTokenCount"),
    ("prompt_token_count", "generation_token_count"),
)
"""The providers' names for input and output tokens."""


def usage_of(report: UsageReport) -> list[float | None] | None:
    """The input and output tokens in a provider's own usage record; None for missing counts.

    Without a record the result is None, even if the codec found the counts elsewhere.
    """
    raw, usage = report.raw, report.usage
    if not raw and (usage.input_tokens or usage.output_tokens):
        return None
    tokens = raw.get("tokens")
    if "billed_units" in raw and tokens is None:  # Cohere's billed units are not its counts
        return None
    counted = tokens if isinstance(tokens, dict) else raw
    names = max(_COUNTS, key=lambda each: sum(name in counted for name in each))
    return [counted.get(name) for name in names]


def answer_of(events: Sequence[ModelEvent]) -> Json:
    """The line for the events of an answer.

    Raises:
        TruncatedStreamError: the answer was cut.
    """
    answer = Completion.of(events)
    stopped = [event.raw for event in events if isinstance(event, Stopped)]
    reports = [event for event in events if isinstance(event, UsageReport)]
    return {
        "text": answer.text,
        "tools": [
            {"name": call.name, "args": _arguments(call.arguments)} for call in answer.tool_calls
        ],
        "finish": stopped[0],
        "usage": usage_of(reports[-1]) if reports else None,
    }


def _arguments(text: str) -> object:
    """The decoded arguments, or their text if they are not JSON."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


@attrs.define(eq=False)
class Kept:
    """A dialect that also keeps the decoded events and the body."""

    inner: Dialect
    events: list[ModelEvent] = attrs.field(factory=list)
    body: bytes = b""
    refused: int | None = None
    """The HTTP error status."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def decode(self, body: bytes) -> list[ModelEvent]:
        """Like `inner`, and keep the result."""
        self.events = self.inner.decode(body)
        return self.events

    def decode_embeddings(self, body: bytes) -> object:
        """Like `inner`, and keep the body."""
        self.body = body
        return self.inner.decode_embeddings(body)

    def error(
        self, status: int, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> ModelError:
        """Like `inner`, and keep the status."""
        self.refused = status
        return self.inner.error(status, headers, body, now_s)


async def answered(line: bytes, transport: Transport) -> Json:
    """The response to a line of input; `cid` and `status` are None if the line has none."""
    found: Mapping[str, Any] = {}
    try:
        found = _LINES.decode(line)
        case = Case(**{field.name: found[field.name] for field in attrs.fields(Case)})
    except (*NOT_JSON, KeyError):
        error = {"status": found.get("status"), "kind": "parse"}
        return {"cid": found.get("cid"), "error": error}
    return await replay(case, transport)


_LINES = msgspec.json.Decoder(dict[str, Any])


async def replay(case: Case, transport: Transport) -> Json:
    """Replay a case, and return the response line."""
    kept: Kept | None = None
    try:
        kept = Kept(dialect_of(case.provider, case.surface))
        made = await _asked(case, RemoteModel(_endpoint(case, kept), transport), kept)
    except ModelError as error:
        refused = kept.refused if kept is not None else None
        if error.code == "redirect":  # no dialect decodes it
            refused = error.status
        made = {"error": {"status": refused or case.status, "kind": _kind(error, refused)}}
    except Exception:  # noqa: BLE001 - a fault of ours; later lines have to be answered
        made = {"error": {"status": case.status, "kind": "parse"}}
    return {"cid": case.cid, **made}


def _endpoint(case: Case, kept: Kept) -> Endpoint:
    return Endpoint(
        provider=case.provider,
        model=_model(case),
        base_url=case.base_url,
        dialect=kept,  # type: ignore[arg-type] # it forwards all other attributes
        credentials=NoCredentials(),
    )


def _model(case: Case) -> str:
    if case.surface.startswith("invoke"):
        return INVOKED
    return EMBEDDING if case.surface in _EMBED else MODEL


async def _asked(case: Case, model: RemoteModel, kept: Kept) -> Json:
    if case.surface in _EMBED:
        try:
            return await _embedded(model, kept)
        except MalformedStreamError:
            if case.provider != "ollama":
                raise
            kept.inner = OllamaDialect()
            return await _embedded(model, kept)
    if not case.stream:
        try:
            await model.complete(ASKED)
        except MalformedStreamError:
            if case.surface != "invoke":
                raise
            # InvokeModel embeds under the same address.
            model.endpoint = attrs.evolve(model.endpoint, model=EMBEDDING)
            return await _embedded(model, kept)
        return answer_of(kept.events)
    events: list[ModelEvent] = []
    async with model.stream(ASKED) as reply:
        while batch := await reply.receive():
            events += batch
    return answer_of(events)


async def _embedded(model: RemoteModel, kept: Kept) -> Json:
    try:
        found = await model.embed(EmbedRequest(("text",)))
    except MalformedStreamError:  # the recorded request had more texts than ours
        if not kept.body:
            raise
        found = kept.inner.decode_embeddings(kept.body)
    vectors, first = found.vectors, first_of(kept.body)
    if isinstance(first, str):
        return {"n": len(vectors), "dim": len(first), "first": first[:BASE64_CHARS]}
    if first is None:
        first = list(vectors[0]) if vectors else []
    return {"n": len(vectors), "dim": len(first), "first": first[:FLOATS]}


def first_of(body: bytes) -> list[float] | str | None:
    """The first vector of an answer as written, before it is rounded to float32.

    None if there is none, or it is not where a known provider has it.
    """
    try:
        found = msgspec.json.decode(body)
    except NOT_JSON:
        return None
    match found:
        case {"data": [{"embedding": list() | str() as first}, *_]}:
            return first
        case {"embeddings": {"float": [list() as first, *_]}}:
            return first
        case {
            "embeddings": [
                {"values": list() as first} | {"embedding": list() as first} | (list() as first),
                *_,
            ]
        }:
            return first
        case {"embedding": {"values": list() as first} | (list() as first)}:
            return first
        case {"predictions": [{"embeddings": {"values": list() as first}}, *_]}:
            return first
    return None


def _kind(error: ModelError, refused: int | None) -> str:
    if refused is not None:
        return "http"
    return "parse" if isinstance(error, MalformedStreamError) else "stream"


async def main() -> None:
    """Answer every line of standard input, until its end."""
    lines = trio.wrap_file(sys.stdin.buffer)
    async with open_transport(proxies={}) as transport:
        while line := await lines.readline():
            if not line.strip():
                continue
            answer = await answered(line, transport)
            sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    trio.run(main)
