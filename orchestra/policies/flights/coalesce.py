"""Coalescing: which calls are equal, and how the cost of a shared call is divided. Pure.

Two calls are equal if their keys are equal. A key consists of the caller's tenant, the model's
name, and everything in the request. Nothing is left out as irrelevant, so a shared answer is one
that each caller could have got alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b
from operator import mul
from typing import TypeVar

import attrs
import msgspec

from orchestra.accounts import USAGE_COUNTS, Certainty, Usage
from orchestra.answers import Completion
from orchestra.normal_forms import pieces
from orchestra.policies.caching import alike
from orchestra.policies.requests.canonical import written_of
from orchestra.policies.requests.extras import COALESCE, without
from orchestra.rankings import AnyRequest, Ranking
from orchestra.values import (
    ChatRequest,
    Embeddings,
    Message,
    ModelEvent,
    TextPart,
    UsageReport,
    Vector,
)

SHORT_BYTES = 4096
_SMALL = re.compile(
    "([\u00aa\u00b2\u00b3\u00b9\u00ba\u00bc-\u00be\u02b0-\u02b8\u02e0-\u02e4\u1d2c-\u1d6a\u1d78\u1d9b-\u1dbf"
    "\u2070-\u209c\u2120-\u2122\u2150-\u215f\u2189\u2c7c\u2c7d]+)"
)
Found = TypeVar("Found", Embeddings, Ranking, Completion)


@attrs.frozen(kw_only=True)
class CoalesceRule:
    """Which calls of a model are shared, and the bounds of sharing.

    With `normalize`, differences of case, whitespace and Unicode form in users' texts are ignored.
    With `similarity`, questions whose cosine is at least this share a call, by the vectors of the
    embedder named `embedder`; without `paraphrases`, they may differ only in words of manner. Up to
    `held_bytes` of an answer are kept for late joiners and slow readers. Waiters that have read
    everything wait `lag_s` in total for slower ones, which are then dropped from the call.
    """

    normalize: bool = False
    similarity: float | None = None
    paraphrases: bool = False
    embedder: str = "default"
    held_bytes: int = 256 * 1024
    lag_s: float = 30.0
    waiters_max: int = 1_000
    """The most waiters that may ever join one call; the next one starts another call."""
    flights_max: int = 10_000
    """The most shareable calls at the same time; further calls are not shared."""
    compared_max: int = 32
    """How many of the youngest calls a question is compared with."""


class Question(msgspec.Struct, frozen=True):
    """A request's question: equal requests have equal `key`s.

    `near` is equal for all requests that differ only in `text`, the last message. It is None if
    questions are not compared, or the last message is not a short text of the user.
    """

    key: bytes
    near: bytes | None = None
    text: str = ""


def question_of(
    tenant: str, model: str, request: AnyRequest, rule: CoalesceRule
) -> Question | None:
    """The question of a request to this model within this tenant; None if it has no key."""
    scope = (tenant, model)
    request = without(request, COALESCE)
    if not isinstance(request, ChatRequest):
        key = _key(scope, request)
        return None if key is None else Question(key)
    if rule.normalize:
        messages = tuple(_normal(each) for each in request.messages)
        request = attrs.evolve(request, messages=messages)
    request = _one_form(request)
    key = _key(scope, request)
    if key is None:
        return None
    text = None if rule.similarity is None else alike.question_of(request)
    if text is None:
        return Question(key)
    others = attrs.evolve(request, messages=request.messages[:-1])
    return Question(key, _key((*scope, _NEAR), others), text)


def normal(text: str) -> str:
    """A text in a normal form: case-folded, in Unicode's NFKC, with single spaces.

    Superscripts, subscripts and fractions stay: in NFKC, 10² is 102.
    """
    parts = enumerate(_SMALL.split(text))
    plain = (part if at % 2 else _nfkc(part) for at, part in parts)
    return " ".join("".join(plain).casefold().split())


def _nfkc(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", piece) for piece in pieces(text))


def nearest(vector: Vector, others: Sequence[Vector], at_least: float) -> tuple[int, float] | None:
    """The index of the most similar other vector, and its cosine; None if none is similar enough.

    Of equally similar vectors, the first is taken.
    """
    found = [(sum(map(mul, vector, each)), -at) for at, each in enumerate(others)]
    if not found:
        return None
    cosine, at = max(found)
    return (-at, min(cosine, 1.0)) if cosine >= at_least else None


# ------------------------------------------------------------------------- who pays what


def share(usage: Usage, among: int, at: int) -> Usage:
    """The share of usage of payer number `at` (from 0) of `among`; the shares add up exactly.

    A remainder is divided among the first payers, one unit each.
    """
    if among == 1:
        return usage
    counts = {name: (getattr(usage, name) + among - 1 - at) // among for name in USAGE_COUNTS}
    return attrs.evolve(usage, **counts)


class Bill:
    """The usage of a shared call, and how much of it is paid."""

    def __init__(self) -> None:
        self._added: Usage | None = None
        self._reported: Usage | None = None
        self._paid: Usage | None = None

    def add(self, usage: Usage) -> None:
        """Add the usage of a part of the call, unless it is settled already."""
        if not usage.settled:
            self._added = usage if self._added is None else self._added + usage

    def of_event(self, event: ModelEvent) -> ModelEvent:
        """Take over the usage of an event; return the event for all waiters, marked as settled."""
        if not isinstance(event, UsageReport) or event.usage.settled:
            return event
        self._reported = event.usage
        return attrs.evolve(event, usage=event.usage.as_settled())

    def of_batch(self, batch: tuple[ModelEvent, ...]) -> tuple[ModelEvent, ...]:
        """As `of_event`, for a batch of events."""
        for event in batch:
            if isinstance(event, UsageReport):
                return tuple(map(self.of_event, batch))
        return batch

    def of_result(self, found: Found) -> Found:
        """As `of_event`, for vectors or a complete answer."""
        if found.usage is None or found.usage.settled:
            return found
        self._reported = found.usage
        return attrs.evolve(found, usage=found.usage.as_settled())

    def pay(self, among: int, at: int) -> Usage | None:
        """The payment of waiter number `at`, which leaves early; None if no usage is known."""
        due = self._due()
        if due is None:
            return None
        paid = share(due, among, at)
        self._paid = paid if self._paid is None else self._paid + paid
        return paid + Usage(certainty=Certainty.PARTIAL)

    def settle(self, among: int) -> list[Usage]:
        """The payments of the waiters that stayed to the end; empty if no usage is known."""
        due = self._due()
        if due is None:
            return []
        self._paid = due if self._paid is None else self._paid + due
        return [due] if among == 1 else [share(due, among, at) for at in range(among)]

    def _due(self) -> Usage | None:
        whole = self._added or self._reported
        if self._added is not None and self._reported is not None:
            whole = self._added + self._reported
        paid = self._paid
        if whole is None or paid is None:
            return whole
        # not below 0, even if a waiter that left paid for a count that was later corrected down
        left = {name: max(0, getattr(whole, name) - getattr(paid, name)) for name in USAGE_COUNTS}
        return attrs.evolve(whole, **left)


# ------------------------------------------------------------------------------ the key


def _normal(message: Message) -> Message:
    if message.role != "user":
        return message
    parts = (
        TextPart(normal(part.text)) if isinstance(part, TextPart) else part
        for part in message.parts
    )
    return attrs.evolve(message, content=tuple(parts))


def _one_form(request: ChatRequest) -> ChatRequest:
    """The request, with each message that is a single text part written as plain text."""
    for each in request.messages:
        if not isinstance(each.content, str):
            return attrs.evolve(request, messages=tuple(map(_as_text, request.messages)))
    return request


def _as_text(message: Message) -> Message:
    match message.content:
        case (TextPart(text=text),):
            return attrs.evolve(message, content=text)
        case _:
            return message


_NEAR = "all but the last message"
"""Separates these keys from those of a conversation that ends one message earlier."""


def _key(scope: tuple[str, ...], request: AnyRequest) -> bytes | None:
    """The key of a request; None if something in it cannot be encoded.

    A short request is its own key; a long one is hashed, which takes longer.
    """
    written = written_of(scope, request, any_order=True)
    if written is None or len(written) <= SHORT_BYTES:
        return written
    return blake2b(written, digest_size=32).digest()
