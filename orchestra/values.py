"""The values that travel on wires: what a model is asked, what it says, what a store returns.

All frozen, all without I/O. A closed set of cases is a set of classes
(`ModelEvent` is a union), so that `match` over it is checked for completeness.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import attrs

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Scalar: TypeAlias = str | int | float | bool | None
Metadata: TypeAlias = Mapping[str, Scalar]

NO_METADATA: Metadata = MappingProxyType({})


@attrs.frozen
class Vector:
    """An embedding: `len(vector)` numbers as little-endian float32.

    Kept as bytes: immutable, hashable, compact, and readable by
    `numpy.frombuffer(vector.data, "<f4")` without a copy.
    """

    data: bytes = attrs.field(repr=False)

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Vector:
        """The vector of these numbers, rounded to float32."""
        return cls(struct.pack(f"<{len(numbers)}f", *numbers))

    def __len__(self) -> int:
        return len(self.data) // 4

    def __iter__(self) -> Iterator[float]:
        return iter(struct.unpack(f"<{len(self)}f", self.data))


@attrs.frozen
class Passage:
    """A piece of a document, as a store keeps and finds it.

    `id` is unique in its collection; `source` is where the text came from, as a
    person would look it up; `score` is the similarity to what was asked (cosine,
    -1 to 1, higher is nearer), 0.0 where nothing was asked.
    """

    id: str
    text: str
    source: str = ""
    score: float = 0.0
    metadata: Metadata = NO_METADATA


@attrs.frozen
class Label:
    """The answer of a classifier: the name of the best label and how sure it is.

    `confidence` is the best label's share, 0 to 1; `scores` holds every label's
    share and sums to 1. Formats as its name, so a prompt reads naturally.
    """

    name: str
    confidence: float
    scores: Mapping[str, float] = MappingProxyType({})

    def __str__(self) -> str:
        return self.name


@attrs.frozen
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@attrs.frozen
class ChatRequest:
    """What a model is asked, in no provider's dialect.

    A sampling field that is None is left to the provider's default.
    """

    messages: tuple[Message, ...]
    temperature: float | None = None
    output_tokens_max: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


class Certainty(Enum):
    """How a usage record was come by."""

    EXACT = "exact"
    """Counted by the provider, for the whole answer."""
    PARTIAL = "partial"
    """Counted by the provider, but the answer was cut before its last count."""
    ESTIMATED = "estimated"
    """Estimated here, from the number of bytes."""


@attrs.frozen
class Usage:
    """Tokens that a call consumed; `input_tokens` includes the cached ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    certainty: Certainty = Certainty.EXACT

    def __add__(self, other: Usage) -> Usage:
        """Both together, as certain as the less certain of the two."""
        order = list(Certainty)
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            max(self.certainty, other.certainty, key=order.index),
        )


class StopReason(Enum):
    """Why a model stopped speaking."""

    END = "end"
    LENGTH = "length"
    STOP_SEQUENCE = "stop_sequence"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@attrs.frozen
class TextDelta:
    """The next piece of the answer's text."""

    text: str


@attrs.frozen
class UsageReport:
    """What the call has consumed so far; the last report of a stream counts."""

    usage: Usage


@attrs.frozen
class Stopped:
    """The model has said all it will say. A stream without it was cut."""

    reason: StopReason


ModelEvent: TypeAlias = TextDelta | UsageReport | Stopped

Json: TypeAlias = dict[str, Any]
"""A JSON object, as `json.loads` gives it."""
