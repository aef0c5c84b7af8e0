"""Coalescing: which calls are equal, and how the cost of a shared call is divided. Pure.

Two calls are equal when their keys are: the caller's tenant, the model's name, and everything in
the request. Nothing is left out as irrelevant, so a shared answer is one that each caller could
have got alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from enum import Enum
from hashlib import blake2b
from operator import mul
from typing import TypeVar

import attrs
import msgspec

from orchestra.accounts import USAGE_COUNTS, Certainty, Usage
from orchestra.answers import Completion
from orchestra.policies.caching.alike import last_text
from orchestra.policies.requests.canonical import written_of
from orchestra.policies.requests.extras import COALESCE, sharing_in, without
from orchestra.values import (
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Message,
    ModelEvent,
    TextPart,
    UsageReport,
    Vector,
)

SHORT_BYTES = 4096
Found = TypeVar("Found", Embeddings, Completion)


@attrs.frozen(kw_only=True)
class CoalesceRule:
    """Which calls of a model are shared, and the bounds of sharing.

    With `normalize`, users' texts are compared without case, runs of whitespace and Unicode forms.
    With `similarity`, questions with at least this cosine share a call; without `paraphrases`, they
    may differ only in words of manner. `held_bytes` of an answer are kept for late joiners and slow
    readers. A waiter that has read everything waits `lag_s` in total for slower ones, which
    are then dropped from the call.
    """

    normalize: bool = False
    similarity: float | None = None
    paraphrases: bool = False
    held_bytes: int = 256 * 1024
    lag_s: float = 30.0
    waiters_max: int = 1_000
    """Waiters that may ever join one call; after that another call is made."""
    flights_max: int = 10_000
    """Calls that can be shared at the same time; further calls are not shared."""
    compared_max: int = 32
    """How many of the youngest calls a question is compared with."""


class Sharing(Enum):
    """With which calls a call may be shared."""

    ALONE = "alone"
    """With none."""
    OTHERS = "others"
    """With calls of other runs: a run that asks twice wants two answers."""
    ANY = "any"
    """With calls of its own run, too."""


class Question(msgspec.Struct, frozen=True):
    """A question: equal questions have equal keys.

    `near` is equal for all questions that differ only in `text`, the last message; None if
    that is not a text of a user.
    """

    key: bytes
    near: bytes | None = None
    text: str = ""


def sharing_of(request: ChatRequest | EmbedRequest) -> Sharing:
    """The request's `extras["orchestra"]["coalesce"]`; `Sharing.OTHERS` if it is missing.

    Raises:
        InvalidRequestError: the value is neither true nor false.
    """
    said = sharing_in(request.extras)
    if said is None:
        return Sharing.OTHERS
    return Sharing.ANY if said else Sharing.ALONE


def question_of(
    tenant: str, model: str, request: ChatRequest | EmbedRequest, rule: CoalesceRule
) -> Question | None:
    """The question of a request to this model within this tenant; None if it has no key."""
    scope = (tenant, model)
    if isinstance(request, EmbedRequest):
        key = _key(scope, without(request, COALESCE))
        return None if key is None else Question(key)
    request = without(request, COALESCE)
    if rule.normalize:
        messages = tuple(_normal(each) for each in request.messages)
        request = attrs.evolve(request, messages=messages)
    request = _one_form(request)
    key = _key(scope, request)
    if key is None:
        return None
    text = last_text(request) if rule.similarity is not None else ""
    if not text:
        return Question(key)
    others = attrs.evolve(request, messages=request.messages[:-1])
    return Question(key, _key((*scope, _NEAR), others), text)


def normal(text: str) -> str:
    """A text without case, runs of whitespace, and Unicode forms that look alike."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def nearest(mine: Vector, theirs: Sequence[Vector], at_least: float) -> tuple[int, float] | None:
    """The index of the most similar vector, and its cosine; None if none is similar enough."""
    found = [(sum(map(mul, mine, each)), -at) for at, each in enumerate(theirs)]
    if not found:
        return None
    cosine, at = max(found)
    return (-at, min(cosine, 1.0)) if cosine >= at_least else None


# ------------------------------------------------------------------------- who pays what


def share(usage: Usage, among: int, at: int) -> Usage:
    """The share of number `at` (from 0) among several; the shares add up exactly.

    Remainders go to the first ones, one unit each.
    """
    if among == 1:
        return usage
    counts = {name: (getattr(usage, name) + among - 1 - at) // among for name in USAGE_COUNTS}
    return attrs.evolve(usage, **counts)


class Bill:
    """The usage of a shared call, and how much of it has been paid."""

    def __init__(self) -> None:
        self._added: Usage | None = None
        self._reported: Usage | None = None
        self._paid: Usage | None = None

    def add(self, usage: Usage) -> None:
        """Add the usage of a part of the call, unless it is settled."""
        if not usage.settled:
            self._added = usage if self._added is None else self._added + usage

    def heard(self, event: ModelEvent) -> ModelEvent:
        """The event for all waiters: its usage is added here, and marked as settled."""
        if not isinstance(event, UsageReport) or event.usage.settled:
            return event
        self._reported = event.usage
        return attrs.evolve(event, usage=attrs.evolve(event.usage, settled=True))

    def all_heard(self, batch: tuple[ModelEvent, ...]) -> tuple[ModelEvent, ...]:
        """As `heard`, for a batch of events."""
        for event in batch:
            if isinstance(event, UsageReport):
                return tuple(map(self.heard, batch))
        return batch

    def found(self, found: Found) -> Found:
        """As `heard`, for vectors or a complete answer."""
        if found.usage is None or found.usage.settled:
            return found
        self._reported = found.usage
        return attrs.evolve(found, usage=attrs.evolve(found.usage, settled=True))

    def pay(self, among: int, at: int) -> Usage | None:
        """The payment of one waiter that leaves before the end; None if no usage is known."""
        due = self._due()
        if due is None:
            return None
        paid = share(due, among, at)
        self._paid = paid if self._paid is None else self._paid + paid
        return paid + Usage(certainty=Certainty.PARTIAL)

    def settle(self, among: int) -> list[Usage]:
        """The payments of the waiters that stayed; empty if no usage is known, or none stayed."""
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
        # not below 0, even if a leaver has paid for a count that was corrected downwards
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
    """The request with plain text in place of each single text part."""
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


def _key(scope: tuple[str, ...], request: ChatRequest | EmbedRequest) -> bytes | None:
    """The key of a request; None if something in it cannot be encoded.

    A short request is its own key; a long one has a hash, which takes longer.
    """
    try:
        written = written_of(scope, request, any_order=True)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return written if len(written) <= SHORT_BYTES else blake2b(written, digest_size=32).digest()
