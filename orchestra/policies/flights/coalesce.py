"""Coalescing: which calls are the same, and who pays what of one that is shared. Pure.

Two calls are the same when their keys are: of the caller's tenant, the model's name, and
everything in the request. Nothing is left out because it would not matter, so what is shared is
what each of them would have been answered, had it been alone.
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
from orchestra.policies.request_bytes import written_of
from orchestra.policies.request_extras import COALESCE, sharing_in, without
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
    """Which calls of a model share one, and within which bounds.

    With `normalize`, what users say is compared without case, runs of whitespace and Unicode
    forms; with `similarity`, questions share a call whose cosine is as high and which differ,
    without `paraphrases`, in words of manner only. Of an answer, `held_bytes` are held for those
    who come later and those who read slowly. Whoever has read all of it loses `lag_s` in all to
    those who have not, who are then left behind.
    """

    normalize: bool = False
    similarity: float | None = None
    paraphrases: bool = False
    held_bytes: int = 256 * 1024
    lag_s: float = 30.0
    waiters_max: int = 1_000
    """Who may ever join one call; then another one is made."""
    flights_max: int = 10_000
    """Calls that may be shared, at once; more are made alone."""
    compared_max: int = 32
    """Calls that a question is compared with, the youngest."""


class Sharing(Enum):
    """What a single call says of being shared."""

    ALONE = "alone"
    """With nobody."""
    OTHERS = "others"
    """With calls of other runs: one run that asks twice wants two answers."""
    ANY = "any"
    """With those of its own run, too."""


class Question(msgspec.Struct, frozen=True):
    """What is asked: `key` tells whether it is the same, None that this cannot be told.

    `near` is the same for all that differ in nothing but `text`, the last message; None where
    that is not a text of a user.
    """

    key: bytes | None
    near: bytes | None = None
    text: str = ""


def sharing_of(request: ChatRequest | EmbedRequest) -> Sharing:
    """What `extras["orchestra"]["coalesce"]` says; without it, `Sharing.OTHERS`.

    Raises:
        InvalidRequestError: what stands there is neither true nor false.
    """
    if not request.extras:
        return Sharing.OTHERS
    said = sharing_in(request.extras)
    if said is None:
        return Sharing.OTHERS
    return Sharing.ANY if said else Sharing.ALONE


def question_of(
    tenant: str, model: str, request: ChatRequest | EmbedRequest, rule: CoalesceRule
) -> Question:
    """What a request asks, of which model and within which tenant."""
    request, scope = _without_sharing(request), (tenant, model)
    if isinstance(request, EmbedRequest):
        return Question(_key(scope, request))
    if rule.normalize:
        messages = tuple(_normal(each) for each in request.messages)
        request = attrs.evolve(request, messages=messages)
    request = _one_form(request)
    key = _key(scope, request)
    text = _last_text(request) if rule.similarity is not None else ""
    if key is None or not text:
        return Question(key)
    others = attrs.evolve(request, messages=request.messages[:-1])
    return Question(key, _key((*scope, _NEAR), others), text)


def normal(text: str) -> str:
    """A text without case, runs of whitespace, and forms of Unicode that look alike."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def nearest(mine: Vector, theirs: Sequence[Vector], at_least: float) -> tuple[int, float] | None:
    """Which of the vectors is most like mine, and its cosine; None if none is as alike."""
    found = [(sum(map(mul, mine, each)), -at) for at, each in enumerate(theirs)]
    if not found:
        return None
    cosine, at = max(found)
    return (-at, min(cosine, 1.0)) if cosine >= at_least else None


# ------------------------------------------------------------------------- who pays what


def share(usage: Usage, among: int, at: int) -> Usage:
    """The share of one of several, counted from 0: together they are the whole, exactly.

    What cannot be divided goes to the first of them, one to each.
    """
    if among == 1:
        return usage
    counts = {name: (getattr(usage, name) + among - 1 - at) // among for name in USAGE_COUNTS}
    return attrs.evolve(usage, **counts)


class Bill:
    """What a shared call has consumed, and how much of that is in accounts already."""

    def __init__(self) -> None:
        self._added: Usage | None = None
        self._reported: Usage | None = None
        self._paid: Usage | None = None

    def add(self, usage: Usage) -> None:
        """Take what a part of the call has consumed, unless it is settled."""
        if not usage.settled:
            self._added = usage if self._added is None else self._added + usage

    def heard(self, event: ModelEvent) -> ModelEvent:
        """The event as everybody may hear it: what it reports is paid here, and settled."""
        if not isinstance(event, UsageReport) or event.usage.settled:
            return event
        self._reported = event.usage
        return attrs.evolve(event, usage=attrs.evolve(event.usage, settled=True))

    def all_heard(self, batch: tuple[ModelEvent, ...]) -> tuple[ModelEvent, ...]:
        """The same for events that have come together."""
        for event in batch:
            if isinstance(event, UsageReport):
                return tuple(map(self.heard, batch))
        return batch

    def found(self, found: Found) -> Found:
        """The same for vectors, or a whole answer."""
        if found.usage is None or found.usage.settled:
            return found
        self._reported = found.usage
        return attrs.evolve(found, usage=attrs.evolve(found.usage, settled=True))

    def pay(self, among: int, at: int) -> Usage | None:
        """What one of several pays, who leaves before the end; None where nothing is known."""
        due = self._due()
        if due is None:
            return None
        paid = share(due, among, at)
        self._paid = paid if self._paid is None else self._paid + paid
        return paid + Usage(certainty=Certainty.PARTIAL)

    def settle(self, among: int) -> list[Usage]:
        """What each of those pays who have stayed; nothing where nothing is known, or left."""
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
        # a count that was taken back is not below nothing, where a leaver has paid for it
        left = {name: max(0, getattr(whole, name) - getattr(paid, name)) for name in USAGE_COUNTS}
        return attrs.evolve(whole, **left)


# ------------------------------------------------------------------------------ the key


def _without_sharing(request: ChatRequest | EmbedRequest) -> ChatRequest | EmbedRequest:
    """The request without its word on being shared, which changes no answer."""
    if not request.extras:
        return request
    extras = without(request.extras, COALESCE)
    return request if extras is request.extras else attrs.evolve(request, extras=extras)


def _normal(message: Message) -> Message:
    if message.role != "user":
        return message
    parts = (
        TextPart(normal(part.text)) if isinstance(part, TextPart) else part
        for part in message.parts
    )
    return attrs.evolve(message, content=tuple(parts))


def _last_text(request: ChatRequest) -> str:
    """The text of the last message, if it is a user's and nothing but text."""
    last = request.messages[-1] if request.messages else None
    if last is None or last.role != "user":
        return ""
    return last.text if all(isinstance(part, TextPart) for part in last.parts) else ""


def _one_form(request: ChatRequest) -> ChatRequest:
    """The request with a text in each message that is nothing but one part of text."""
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
"""What sets these keys apart from those of a conversation that ends one message earlier."""


def _key(scope: tuple[str, ...], request: ChatRequest | EmbedRequest) -> bytes | None:
    """What is the same for all who ask the same; None where something in it cannot be written.

    All of a short request, and a hash of a long one: keys are many, and a hash takes longer.
    """
    try:
        written = written_of(scope, request, any_order=True)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return written if len(written) <= SHORT_BYTES else blake2b(written, digest_size=32).digest()
