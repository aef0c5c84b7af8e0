"""The cache of answers: their keys, which answers are cached, and their encoding. Pure.

The theory: the key is a hash of the tenant, the whole configuration of the model, and the whole
request, so an entry under it answers the same request. What is cached is the complete, folded
answer, from which a stream can be replayed. Each entry contains a hash of its key and content:
bytes that are damaged, or that belong to another version or key, count as a miss.
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
from orchestra.citations import Citation
from orchestra.policies.requests.canonical import written_of
from orchestra.rankings import AnyRequest, Ranked, Ranking
from orchestra.values import (
    EmbedRequest,
    ModelEvent,
    ReasoningPart,
    Stopped,
    StopReason,
    TextPart,
    ToolCall,
    Vector,
)

T = TypeVar("T")
VERSION = b"\x02"
DIGEST_BYTES = 16
_EVENT_BYTES = 16
"""The size of a recorded event besides its content."""
WHOLE = (StopReason.END, StopReason.STOP_SEQUENCE, StopReason.TOOL_CALLS)
"""The stop reasons of complete answers."""


@attrs.frozen(kw_only=True)
class SemanticRule:
    """When a question gets the cached answer of a similar one: from a cosine of `threshold` on.

    `embedder` is the name of the embedder. With `paraphrases`, ordinary words may be replaced by
    others; without it, questions may differ only in words of manner ("can", "please"). The
    `entries_max` most recently used questions are kept per scope. For the choice of 0.95, see
    `tests/policies/caching/test_alike.py`.
    """

    threshold: float = 0.95
    embedder: str = "default"
    paraphrases: bool = False
    entries_max: int = 100


@attrs.frozen(kw_only=True)
class CacheRule:
    """How a model's answers are cached: for `ttl_s` seconds, if at most `answer_bytes_max` long.

    With `semantic`, a question that asks the same in other words gets the same answer.
    """

    ttl_s: float = 3600.0
    answer_bytes_max: int = 256 * 1024
    semantic: SemanticRule | None = None


def key_of(tenant: str, identity: str, request: AnyRequest, kind: str = "answer") -> str | None:
    """The cache key of a request; None if it has none.

    `identity` describes the model's whole configuration; the request has no cache setting any
    more. The order of keys in schemas matters, as it does to models. A request has no key if its
    extras or schemas are not JSON, or its texts are not valid Unicode.
    """
    written = written_of((kind, tenant, identity), request)
    return None if written is None else f"cache:{blake2b(written, digest_size=32).hexdigest()}"


def keys_of_texts(tenant: str, identity: str, request: EmbedRequest) -> dict[str, str] | None:
    """The cache key of each distinct text of a request, in order; None if one has no key."""
    found = {}
    for text in request.texts:
        if text not in found:
            key = key_of(tenant, identity, attrs.evolve(request, texts=(text,)), "vector")
            if key is None:
                return None
            found[text] = key
    return found


def storable(answer: Completion) -> bool:
    """Whether an answer may be cached: complete, not empty, not refused, not filtered.

    An answer with log probabilities is not cached: it is many times as large.
    """
    whole = answer.stopped.reason in WHOLE and not answer.refusal
    return whole and bool(answer.parts) and answer.logprobs is None


def encode(key: str, answer: Completion, bytes_max: int) -> bytes | None:
    """An answer as a cache entry; None if it may not be cached, or is too large."""
    if not storable(answer):
        return None
    usage = answer.usage
    counts = ("", ()) if usage is None else (usage.certainty, _counts_of(usage))
    end = answer.stopped
    stopped = end.reason, end.raw, end.sequence
    parts = [_written(part) for part in answer.parts]
    cited = (answer.citations,) if answer.citations else ()
    content = answer.id, answer.model, stopped, counts, parts, *cited
    return sealed(key, content, bytes_max)


def decode(key: str, data: bytes) -> tuple[Completion, dict[str, Any]] | None:
    """The cached answer, at no cost, and its original usage; None if the bytes are no entry."""
    kept = opened(key, data, _ANSWER)
    if kept is None:
        return None
    try:
        reason, *rest = kept.stopped
        stopped = Stopped(StopReason(reason), *rest)
        read = tuple(map(_read, kept.parts))
        usage = _counted(*kept.counts) if kept.counts[0] else {}
    except ValueError:
        return None
    found = Completion(read, stopped, Usage(), "", kept.id, kept.model, citations=kept.citations)
    return found, usage


def encode_vector(key: str, vector: Vector, model: str) -> bytes | None:
    """A vector as a cache entry."""
    return sealed(key, (vector.data, model), 1 << 20)


def decode_vector(key: str, data: bytes) -> tuple[Vector, str] | None:
    """The cached vector, and the model that made it; None if the bytes are no entry."""
    found = opened(key, data, _VECTOR)
    return None if found is None else (Vector(found[0]), found[1])


def encode_ranking(key: str, ranking: Ranking) -> bytes | None:
    """A ranking as a cache entry."""
    results = [(each.index, each.score) for each in ranking.results]
    return sealed(key, (results, ranking.model), 1 << 20)


def decode_ranking(key: str, data: bytes) -> Ranking | None:
    """The cached ranking, at no cost; None if the bytes are no entry."""
    found = opened(key, data, _RANKING)
    if found is None:
        return None
    return Ranking(tuple(Ranked(*each) for each in found[0]), Usage(), found[1])


def sealed(key: str, content: object, bytes_max: int) -> bytes | None:
    """Content as bytes that `opened` accepts only with this key; None if too long."""
    try:
        written = _CONTENT.encode(content)
    except UnicodeEncodeError:  # a lone surrogate, from a cut character
        return None
    data = VERSION + _digest(key, written) + written
    return data if len(data) <= bytes_max else None


def opened(key: str, data: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T | None:
    """The sealed content; None if the bytes are damaged, or of another key, version or type."""
    digest, content = data[1 : 1 + DIGEST_BYTES], data[1 + DIGEST_BYTES :]
    if data[:1] != VERSION or digest != _digest(key, content):
        return None
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return None


class Recording:
    """Records a streamed answer while it is passed on, unless it is larger than `bytes_max`.

    An answer with log probabilities is never cached, so it is not recorded either.
    """

    def __init__(self, bytes_max: int) -> None:
        self._left_bytes = bytes_max
        self._answer: Answer | None = Answer()

    def add(self, batch: tuple[ModelEvent, ...]) -> None:
        """Add received events; an answer that becomes too large is dropped."""
        answer = self._answer
        if answer is None:
            return
        for event in batch:
            answer.add(event)
        self._left_bytes -= _EVENT_BYTES * len(batch)
        if answer.chars > self._left_bytes or answer.logprobs:
            self.spoil()

    def spoil(self) -> None:
        """Stop recording: the answer is never going to be complete."""
        self._answer = None

    def whole(self) -> Completion | None:
        """The complete answer, once; None if it is incomplete."""
        answer, self._answer = self._answer, None
        return None if answer is None or answer.stopped is None else answer.completion()


class _Kept(msgspec.Struct, array_like=True):
    """A cached answer; `citations` are left out if empty, as in versions without the field."""

    id: str
    model: str
    stopped: tuple[str, str | None, str | None]
    counts: tuple[str, tuple[int, ...]]
    parts: list[tuple[str, ...]]
    citations: tuple[Citation, ...] = ()


def _counted(certainty: str, counts: Sequence[int]) -> dict[str, Any]:
    """The counts of a usage that are not 0, by name, and their certainty."""
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
            raise ValueError(f"{part!r:.100} is not a part of an answer; treat it as a cache miss")


def _digest(key: str, content: bytes) -> bytes:
    return blake2b(key.encode() + content, digest_size=DIGEST_BYTES).digest()


_counts_of = attrgetter(*USAGE_COUNTS)
_CONTENT = msgspec.msgpack.Encoder()
_ANSWER = msgspec.msgpack.Decoder(_Kept)
_VECTOR = msgspec.msgpack.Decoder(tuple[bytes, str])
_RANKING = msgspec.msgpack.Decoder(tuple[list[tuple[int, float]], str])
