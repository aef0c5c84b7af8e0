"""The cache of answers: under which key an answer is kept, which are, and how. Pure.

The theory: the key is a hash over whose request it is, over all that the model is configured to
be, and over the whole request; so what is found under it answers the same question. What is kept
is a whole answer, folded; a stream of it is made anew. Each entry begins with a hash over its own
key and its content: bytes that are broken, of another version or of another key are no entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from operator import attrgetter
from typing import Any, TypeVar

import attrs
import msgspec

from orchestra.accounts import USAGE_COUNTS, Usage
from orchestra.answers import Answer, AnswerPart, Completion
from orchestra.policies.request_bytes import written_of
from orchestra.policies.request_extras import CACHE, Wish, wish_in, without
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    Vector,
)

Asked = TypeVar("Asked", ChatRequest, EmbedRequest)
VERSION = b"\x02"
DIGEST_BYTES = 16
WHOLE = (StopReason.END, StopReason.STOP_SEQUENCE, StopReason.TOOL_CALLS)
"""The reasons of answers that came to their own end."""


@attrs.frozen(kw_only=True)
class SemanticRule:
    """When a question is answered with the answer to another: at this cosine, or above it.

    `embedder` is the name of what makes their vectors. With `paraphrases`, plain words may stand
    for others; without, questions differ in words of manner only ("can", "please"). Of each scope
    the `entries_max` questions that were used last are remembered. Why 0.95: see
    `tests/policies/caching/test_alike.py`.
    """

    threshold: float = 0.95
    embedder: str = "default"
    paraphrases: bool = False
    entries_max: int = 100


@attrs.frozen(kw_only=True)
class CacheRule:
    """What is kept of a model's answers: each for `ttl_s` seconds, none over `answer_bytes_max`.

    With `semantic`, a question that asks the same in other words has the same answer.
    """

    ttl_s: float = 3600.0
    answer_bytes_max: int = 256 * 1024
    semantic: SemanticRule | None = None


def wish_of(request: ChatRequest | EmbedRequest) -> Wish:
    """What a request says of the cache in `extras["orchestra"]["cache"]`; "once" if nothing.

    Raises:
        InvalidRequestError: it says something else than these words.
    """
    return wish_in(request.extras) if request.extras else "once"


def without_wish(request: Asked) -> Asked:
    """The request for whoever stands behind the cache, who need not know the word."""
    if not request.extras:
        return request
    extras = without(request.extras, CACHE)
    return request if extras is request.extras else attrs.evolve(request, extras=extras)


def key_of(tenant: str, identity: str, request: Asked, kind: str = "answer") -> str | None:
    """Under which key the answer to a request is kept; None where it has none.

    `identity` tells all that the model is configured to be, and the request is one `without_wish`.
    The order of keys in schemas counts, as it does for models. A request has no key where its
    extras or schemas are no JSON, or its texts no Unicode.
    """
    try:
        written = written_of((kind, tenant, identity), request)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return f"cache:{blake2b(written, digest_size=32).hexdigest()}"


def keys_of_texts(tenant: str, identity: str, request: EmbedRequest) -> dict[str, str] | None:
    """The key of each distinct text of a request, in order; None where they have none."""
    found = {}
    for text in request.texts:
        if text not in found:
            key = key_of(tenant, identity, attrs.evolve(request, texts=(text,)), "vector")
            if key is None:
                return None
            found[text] = key
    return found


def storable(answer: Completion) -> bool:
    """Whether an answer is whole, and says something: not cut, not refused, not filtered.

    One that tells how likely its tokens were is not kept: it is many times as large.
    """
    whole = answer.stopped.reason in WHOLE and not answer.refusal
    return whole and bool(answer.parts) and answer.logprobs is None


def encode(key: str, answer: Completion, bytes_max: int) -> bytes | None:
    """An answer as it is kept under a key; None for one that is not, or is too large."""
    if not storable(answer):
        return None
    usage = answer.usage
    counts = ("", ()) if usage is None else (usage.certainty, _counts_of(usage))
    stopped = (answer.stopped.reason, answer.stopped.raw)
    parts = [_written(part) for part in answer.parts]
    return sealed(key, (answer.id, answer.model, stopped, counts, parts), bytes_max)


def decode(key: str, data: bytes) -> tuple[Completion, dict[str, Any]] | None:
    """The answer that is kept, as free of charge, and what it once consumed; None if it is none."""
    content = opened(key, data)
    if content is None:
        return None
    try:
        id_, model, (reason, raw), counts, parts = _ANSWER.decode(content)
        stopped = Stopped(StopReason(reason), raw)
        read = tuple(map(_read, parts))
        once = _counted(*counts) if counts[0] else {}
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return Completion(read, stopped, Usage(), "", id_, model), once


def encode_vector(key: str, vector: Vector, model: str) -> bytes | None:
    """A vector as it is kept under a key."""
    return sealed(key, (vector.data, model), 1 << 20)


def decode_vector(key: str, data: bytes) -> tuple[Vector, str] | None:
    """The vector that is kept, and the model that made it; None if it is none."""
    content = opened(key, data)
    try:
        found = None if content is None else _VECTOR.decode(content)
    except msgspec.DecodeError:
        return None
    return None if found is None else (Vector(found[0]), found[1])


def sealed(key: str, content: object, bytes_max: int) -> bytes | None:
    """Something as bytes that can be read under this key only; None if they would be too many."""
    try:
        written = _CONTENT.encode(content)
    except UnicodeEncodeError:  # half a character, where somebody has cut one
        return None
    data = VERSION + _digest(key, written) + written
    return data if len(data) <= bytes_max else None


def opened(key: str, data: bytes) -> bytes | None:
    """What was sealed; None if these bytes are broken, or of another key or version."""
    digest, content = data[1 : 1 + DIGEST_BYTES], data[1 + DIGEST_BYTES :]
    right = data[:1] == VERSION and digest == _digest(key, content)
    return content if right else None


class Recording:
    """An answer that is passing through: what there is of it, while it is not too large."""

    def __init__(self, bytes_max: int) -> None:
        self._left_bytes = bytes_max
        self._answer: Answer | None = Answer()

    def hear(self, batch: tuple[ModelEvent, ...]) -> None:
        """Take what has arrived; what grows too large is let go as a whole."""
        answer = self._answer
        if answer is None:
            return
        for event in batch:
            answer.add(event)
            self._left_bytes -= 16 + len(event.text) if type(event) is TextDelta else _size(event)
        if self._left_bytes < 0:
            self.spoil()

    def spoil(self) -> None:
        """It is not whole, and never will be."""
        self._answer = None

    def whole(self) -> Completion | None:
        """The answer that came to its end, once; None if it did not."""
        answer, self._answer = self._answer, None
        return None if answer is None or answer.stopped is None else answer.completion()


def _size(event: ModelEvent) -> int:
    match event:
        case TextDelta(text=text) | RefusalDelta(text=text):
            return 16 + len(text)
        case ReasoningDelta(text=text, signature=signature):
            return 16 + len(text) + len(signature)
        case ToolCallDelta():
            return 64 + len(event.arguments) + len(event.signature) + len(event.name)
        case _:
            return 64


def _counted(certainty: str, counts: Sequence[int]) -> dict[str, Any]:
    """What was counted in a usage, and how certainly."""
    both = zip(USAGE_COUNTS, counts, strict=True)
    return {**{name: count for name, count in both if count}, "certainty": certainty}


def _written(part: AnswerPart) -> tuple[str, ...]:
    match part:
        case TextPart(text=text):
            return ("text", text)
        case ReasoningPart(text=text, signature=signature):
            return ("reasoning", text, signature)
        case ToolCall():
            return ("call", part.id, part.name, part.arguments, part.signature)


def _read(part: tuple[str, ...]) -> AnswerPart:
    match part:
        case ("text", text):
            return TextPart(text)
        case ("reasoning", text, signature):
            return ReasoningPart(text, signature)
        case ("call", id_, name, arguments, signature):
            return ToolCall(id_, name, arguments, signature)
        case _:
            raise ValueError(f"{part!r:.100} is no part of an answer; treat it as not there")


def _digest(key: str, content: bytes) -> bytes:
    return blake2b(key.encode() + content, digest_size=DIGEST_BYTES).digest()


_counts_of = attrgetter(*USAGE_COUNTS)
_CONTENT = msgspec.msgpack.Encoder()
_ANSWER = msgspec.msgpack.Decoder(
    tuple[
        str,
        str,
        tuple[str, str | None],
        tuple[str, tuple[int, ...]],
        list[tuple[str, ...]],
    ]
)
_VECTOR = msgspec.msgpack.Decoder(tuple[bytes, str])
