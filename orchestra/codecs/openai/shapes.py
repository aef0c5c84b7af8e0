"""The types of OpenAI's chunks, and a reader for them that accepts deviations of other servers.

Rules of the file: a correct chunk costs one typed decode. Only if that fails is it repaired: a
number in place of an id, digits in place of an index, and thoughts, arguments or texts in another
shape. Repairs never lose text, but may lose unused fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import inf

import msgspec

from orchestra.codecs.framing.mending import JsonPath
from orchestra.codecs.raw_json import NOTHING, given
from orchestra.values import Details


class CalledFunction(msgspec.Struct, gc=False):
    """The call of a function."""

    name: str | None = None
    arguments: str | dict[str, object] | None = None


class CalledCustom(msgspec.Struct, gc=False):
    """The call of a custom tool."""

    name: str | None = None
    input: str | None = None


class CallPiece(msgspec.Struct, gc=False):
    """A call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: CalledFunction | None = None
    custom: CalledCustom | None = None
    extra_content: object = None

    def called(self) -> CalledFunction:
        """The called function and its arguments; of a piece, its part of them."""
        if self.function is None and self.custom is not None:
            return CalledFunction(self.custom.name, self.custom.input)
        return self.function or CalledFunction()


class ChunkPart(msgspec.Struct, gc=False):
    """An item of content that is a list, as from Mistral's reasoning models."""

    text: str | None = None
    thinking: str | list[ChunkPart] | None = None
    refusal: str | None = None


class ChunkDelta(msgspec.Struct, gc=False):
    """The content of a choice."""

    content: str | list[ChunkPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, object]] | None = None
    refusal: str | None = None
    tool_calls: list[CallPiece] | None = None
    function_call: CalledFunction | None = None
    annotations: object = None

    @property
    def silent(self) -> bool:
        """Whether the delta has no content."""
        return not any(msgspec.structs.astuple(self))

    @property
    def text(self) -> str:
        """The text of the delta."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text or "" for part in self.content)


class ChunkChoice(msgspec.Struct, gc=False):
    """One answer to a request, or a chunk's part of it."""

    index: int | None = None
    delta: ChunkDelta | None = None
    message: ChunkDelta | None = None
    text: str | None = None
    logprobs: object = None
    finish_reason: str | None = None
    stop_reason: object = None
    error: object = None
    usage: object = None


class GroqRecord(msgspec.Struct, gc=False):
    """Groq's additional record, of usage or of an error."""

    usage: object = None
    error: object = None


class Chunk(msgspec.Struct, gc=False):
    """The fields of a chunk or a complete answer that are read."""

    id: str | None = None
    model: str | None = None
    choices: list[ChunkChoice] | None = None
    usage: object = None
    error: object = None
    kind: str | None = msgspec.field(default=None, name="object")
    x_groq: GroqRecord | None = None
    base_resp: object = None
    search_results: msgspec.Raw = NOTHING
    citations: msgspec.Raw = NOTHING

    @property
    def has_searched(self) -> bool:
        """Whether the chunk has the pages that were searched, as Perplexity's have."""
        return given(self.citations) or given(self.search_results)

    @property
    def failed(self) -> bool:
        """Whether the chunk is an error. MiniMax reports success and failure in `base_resp`."""
        if self.error or self.kind == "error":
            return True
        base = self.base_resp
        return isinstance(base, dict) and bool(base.get("status_code"))


class Opening(Chunk, gc=False):
    """The first chunk, with fields that servers repeat in every chunk."""

    service_tier: object = None
    system_fingerprint: object = None

    def details(self) -> Details:
        """Details of the answering server."""
        fields = {"service_tier": self.service_tier, "system_fingerprint": self.system_fingerprint}
        return {name: value for name, value in fields.items() if value and isinstance(value, str)}


OPENINGS: msgspec.json.Decoder[Chunk] = msgspec.json.Decoder(Opening)
CHUNKS = msgspec.json.Decoder(Chunk)
_UNLIKELY = -9999.0
"""OpenAI's value for a practically impossible token."""


def repaired_chunk(path: JsonPath, value: object) -> object:
    """The value at a path of a chunk, in the shape that is read."""
    if "arguments" in path[:-1]:  # the model's own text is not repaired
        return value
    key = path[-1]
    if path[0] == "choices" and path[-2:-1] in _CONTAINERS.get(key, ()):
        return _SHAPES[key](value)
    if path == ("x_groq",):
        return value if isinstance(value, dict) else None
    if key == "logprob":
        return _UNLIKELY if value == -inf else value
    return id_or_index(path, value)


def id_or_index(path: JsonPath, value: object) -> object:
    """An id as a text, and an index as a number, if they have the other type."""
    key = path[-1]
    if key in {"id", "model"} and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if key == "index" and isinstance(value, str) and value.isdecimal():
        return int(value)
    if key == "index" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _content(value: object) -> object:
    """Content as a list of parts, if it is a single part, or a list with plain texts.

    Any other object is the requested JSON, which Cloudflare sends decoded: its text is returned.
    """
    if isinstance(value, dict) and value:
        part = "type" in value and _PARTS & value.keys()
        return [value] if part else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return [{"text": each} if isinstance(each, str) else each for each in value]
    return value


def thoughts(value: object) -> str | None:
    """Thoughts of any shape as one text; None without thoughts."""
    if isinstance(value, dict):
        return thoughts(value.get("text") or value.get("content") or value.get("summary"))
    if isinstance(value, list):
        texts = map(thoughts, value)
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else None


def _thoughts_apart(value: object) -> object:
    parts = value if isinstance(value, list) else [value]
    return [each if isinstance(each, dict) else {"text": thoughts(each)} for each in parts]


def _arguments(value: object) -> object:
    if value is None or isinstance(value, str | dict):
        return value
    return json.dumps(value)


def _calls(value: object) -> object:
    """Calls; some servers send an empty text or object for none."""
    return value or None


_SHAPES: Mapping[str, Callable[[object], object]] = {
    "content": _content,
    "tool_calls": _calls,
    "reasoning": thoughts,
    "reasoning_content": thoughts,
    "reasoning_details": _thoughts_apart,
    "arguments": _arguments,
}
"""Repairs of fields that may have other shapes."""
_IN_MESSAGES, _IN_FUNCTIONS = (("delta",), ("message",)), (("function",), ("function_call",))
_CONTAINERS: Mapping[str, tuple[JsonPath, ...]] = {
    key: _IN_FUNCTIONS if key == "arguments" else _IN_MESSAGES for key in _SHAPES
}
"""The objects that have these fields, by their own names."""
_PARTS = {"text", "thinking", "refusal"}
