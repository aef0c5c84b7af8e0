"""The shapes of OpenAI's chunks, and how they are read, also of servers that write them loosely.

Rules of the file: a chunk as it should be costs one typed decode. Only where that fails is it
read again: a number where an id has to be, digits where an index has to be, and a character that
a server has cut in two, the halves of which come in two chunks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from orchestra.codecs.frames import decoded
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

    def called(self) -> CalledFunction:
        """What is called, and with what; of a piece, what there is of it."""
        if self.function is None and self.custom is not None:
            return CalledFunction(self.custom.name, self.custom.input)
        return self.function or CalledFunction()


class ChunkPart(msgspec.Struct, gc=False):
    """Of content that comes as a list, as Mistral's reasoning models give it."""

    text: str | None = None
    thinking: str | list[ChunkPart] | None = None
    refusal: str | None = None


class ChunkDelta(msgspec.Struct, gc=False):
    """What a choice says."""

    content: str | list[ChunkPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[ChunkPart] | None = None
    refusal: str | None = None
    tool_calls: list[CallPiece] | None = None
    function_call: CalledFunction | None = None

    @property
    def silent(self) -> bool:
        """Whether nothing is said."""
        return not any(msgspec.structs.astuple(self))

    @property
    def chars(self) -> int:
        """How long its text is."""
        if self.content is None or isinstance(self.content, str):
            return len(self.content or "")
        return sum(len(part.text or "") for part in self.content)


class ChunkChoice(msgspec.Struct, gc=False):
    """One answer to the question, or what a chunk has of it."""

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
    """What Groq says beside."""

    usage: object = None
    error: object = None


class Chunk(msgspec.Struct, gc=False):
    """A chunk, or a whole answer: what is read of it."""

    id: str | None = None
    model: str | None = None
    choices: list[ChunkChoice] | None = None
    usage: object = None
    error: object = None
    kind: str | None = msgspec.field(default=None, name="object")
    x_groq: GroqRecord | None = None


class Opening(Chunk, gc=False):
    """The first chunk, of which more is read: what servers repeat in each of them."""

    service_tier: object = None
    system_fingerprint: object = None

    def details(self) -> Details:
        """What it says of who answers."""
        said = {"service_tier": self.service_tier, "system_fingerprint": self.system_fingerprint}
        return {name: value for name, value in said.items() if value and isinstance(value, str)}


_OPENINGS: msgspec.json.Decoder[Chunk] = msgspec.json.Decoder(Opening)
_CHUNKS = msgspec.json.Decoder(Chunk)
_HIGH = ("\ud800", "\udbff")
_LOW = ("\udc00", "\udfff")
_HALVES_MAX = 256
_Path: TypeAlias = tuple[str, ...]


class ChunkReader:
    """Reads the chunks of one answer."""

    __slots__ = ("_halves",)

    def __init__(self) -> None:
        self._halves: dict[_Path, str] = {}

    def read(self, payload: bytes, what: str, *, opening: bool) -> Chunk:
        """The chunk in a payload; an `Opening` where it is wanted.

        Raises:
            MalformedStreamError: it is none.
        """
        decoder = _OPENINGS if opening else _CHUNKS
        try:
            return decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            payload = self._mended(payload)
        return decoded(decoder, payload, what)

    def _mended(self, payload: bytes) -> bytes:
        """The payload as it should have been written; as it is, where it is no JSON at all."""
        try:
            return json.dumps(self._mend(json.loads(payload), ())).encode()
        except (ValueError, RecursionError):
            return payload

    def _mend(self, value: object, path: _Path) -> object:
        if isinstance(value, dict):
            return {key: self._mend(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self._mend(each, (*path, at)) for at, each in _counted(value)]
        if "arguments" not in path and path:  # what the model says is not ours to mend
            value = _as_it_should_be(path[-1], value)
        return self._joined(path, value) if isinstance(value, str) else value

    def _joined(self, path: _Path, text: str) -> str:
        """The text with the half of a character that the chunk before had kept, without its own."""
        if text and path in self._halves:
            half = self._halves.pop(path)
            text = half + text if _LOW[0] <= text[0] <= _LOW[1] else text
        room = len(self._halves) < _HALVES_MAX
        if text and room and _HIGH[0] <= text[-1] <= _HIGH[1]:
            text, self._halves[path] = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _counted(values: list[object]) -> Iterator[tuple[str, object]]:
    """Each of a list with what tells it apart in the next chunk: its index, if it has one."""
    for at, each in enumerate(values):
        yield str(each.get("index", at) if isinstance(each, dict) else at), each


def _as_it_should_be(key: str, value: object) -> object:
    if key == "id" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if key == "index" and isinstance(value, str) and value.isdecimal():
        return int(value)
    if key == "index" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
