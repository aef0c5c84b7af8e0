"""Output: the chunks of a stream, and the value that they form."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import attrs

from orchestra.errors import EdgeTypeError, LimitExceededError
from orchestra.graph.rules.policy import Limits
from orchestra.policies.answers.sizes import MODEL_EVENTS, held_bytes

_OTHER_BYTES = 64  # the size of a chunk without a `window_bytes` of its own, besides its contents


class Output:
    """All chunks of a stream, kept to form one value. `chunk` is their annotation."""

    __slots__ = ("_chunk", "_kind", "_limits", "chunks", "size_bytes")

    def __init__(self, chunk: object, limits: Limits) -> None:
        self._chunk = chunk
        self._kind = chunk if chunk is str or chunk is bytes else object
        self._limits = limits
        self.chunks: list[object] = []
        self.size_bytes = 0

    def add(self, chunk: object) -> int:
        """Keep a chunk and return its size in bytes.

        Raises:
            EdgeTypeError: the chunk cannot be joined with others of its stream.
            LimitExceededError: the chunks exceed `output_chunks` or `output_bytes`.
        """
        if not isinstance(chunk, self._kind):
            raise EdgeTypeError(
                f"a stream of {self._kind.__name__} gave {chunk!r:.200}, an instance of "
                f"{type(chunk).__name__}; correct the annotation of the step's chunks"
            )
        size = size_bytes(chunk)
        self.chunks.append(chunk)
        self.size_bytes += size
        limits = self._limits
        if len(self.chunks) > limits.output_chunks:
            raise _too_much("output_chunks", limits.output_chunks, "chunks")
        if self.size_bytes > limits.output_bytes:
            raise _too_much("output_bytes", limits.output_bytes, "bytes")
        return size

    def clear(self) -> None:
        """Drop all chunks."""
        self.chunks = []
        self.size_bytes = 0

    def joined(self, *, upto: int | None = None) -> object:
        """All the chunks, or the first `upto`, as one value."""
        return join(self.chunks if upto is None else self.chunks[:upto], self._chunk)


def join(chunks: Sequence[object], annotation: object) -> object:
    """The chunks of a stream as one value: text or bytes joined, else a list."""
    if annotation is str:
        return "".join(chunks)  # type: ignore[arg-type]
    if annotation is bytes:
        return b"".join(chunks)  # type: ignore[arg-type]
    return list(chunks)


def has_content(chunk: object) -> bool:
    """Whether a chunk is content: not an empty string, empty bytes or None."""
    return bool(chunk) if isinstance(chunk, str | bytes) else chunk is not None


def size_bytes(chunk: object) -> int:
    """The size of a chunk in a window: text as UTF-8, bytes as they are.

    A model's event counts 64 plus its contents. Other chunks count their `window_bytes`, or 64
    plus the texts and bytes in them, at any depth: in lists, tuples, sets, dicts, and the fields of
    attrs classes, dataclasses, msgspec structs and Pydantic models.
    """
    if isinstance(chunk, str):
        return len(chunk) if chunk.isascii() else len(chunk.encode(errors="replace"))
    if isinstance(chunk, bytes):
        return len(chunk)
    if isinstance(chunk, MODEL_EVENTS):
        return _OTHER_BYTES + held_bytes(chunk)
    found: int | None = getattr(chunk, "window_bytes", None)
    return _OTHER_BYTES + _contents_bytes(chunk) if found is None else found


_NUMBERS = frozenset({float, int, bool, type(None)})  # not counted; a vector has thousands
_PARTS_MAX = 100_000
"""The most parts of a chunk that are counted, in up to 0.1 s: it may refer to anything."""


def _contents_bytes(chunk: object) -> int:
    size, counted, seen, ahead = 0, 0, set[int](), [chunk]
    while ahead and counted < _PARTS_MAX:
        counted += 1
        part = ahead.pop()
        if isinstance(part, str):
            size += size_bytes(part)
        elif isinstance(part, bytes | bytearray):
            size += len(part)
        elif id(part) not in seen:  # it may contain itself
            seen.add(id(part))
            with suppress(Exception):  # a project's own class may raise anything
                ahead += [each for each in _parts(part) if type(each) not in _NUMBERS]
    return size


def _parts(value: object) -> Iterable[object]:
    """The members of a value that are written to JSON."""
    kind: Any = type(value)
    if isinstance(value, dict):
        return chain(value, value.values())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return value
    if hasattr(kind, "__pydantic_fields__"):
        return vars(value).values()
    if attrs.has(kind):
        return [getattr(value, field.name) for field in attrs.fields(kind)]
    fields = getattr(kind, "__dataclass_fields__", ())
    return [getattr(value, name) for name in getattr(kind, "__struct_fields__", fields)]


def _too_much(limit: str, value: int, unit: str) -> LimitExceededError:
    return LimitExceededError(
        f"a collected stream is over {value} {unit}; raise Limits({limit}=...) if that is intended",
        limit=limit,
    )
