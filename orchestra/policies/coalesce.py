"""Coalescing: which calls are the same, and who pays what of one that is shared. Pure.

Two calls are the same when their keys are: a hash of the caller's tenant, the model's name, and
everything in the request. Nothing is left out because it would not matter, so what is shared is
what each of them would have been answered, had it been alone.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Mapping, Sequence
from enum import Enum
from hashlib import blake2b
from operator import mul
from typing import Any, cast

import attrs

from orchestra.accounts import Certainty, Usage
from orchestra.errors import InvalidRequestError
from orchestra.policies.routing import COALESCE, EXTRAS
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


@attrs.frozen(kw_only=True)
class CoalesceRule:
    """Which calls of a model share one, and within which bounds.

    With `normalize`, what users say is compared without case, runs of whitespace and Unicode
    forms; with `similarity`, questions share a call whose cosine is as high. Of an answer,
    `held_bytes` are held for those who come later and those who read slowly. Whoever has read all
    of it loses `lag_s` in all to those who have not, who are then left behind.
    """

    normalize: bool = False
    similarity: float | None = None
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


@attrs.frozen
class Question:
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
    said = request.extras.get(EXTRAS, {}).get(COALESCE)
    if said is None:
        return Sharing.OTHERS
    if not isinstance(said, bool):
        raise InvalidRequestError(
            f"extras[{EXTRAS!r}][{COALESCE!r}] is {said!r:.200}: write False for a call of its "
            "own, or True for one that may be shared within its run, too"
        )
    return Sharing.ANY if said else Sharing.ALONE


def question_of(
    tenant: str, model: str, request: ChatRequest | EmbedRequest, rule: CoalesceRule
) -> Question:
    """What a request asks, of which model and within which tenant."""
    scope = (tenant, model)
    request = _without_sharing(request)
    if isinstance(request, EmbedRequest):
        return Question(_hash((*scope, request)))
    if rule.normalize:
        messages = tuple(_normal(each) for each in request.messages)
        request = attrs.evolve(request, messages=messages)
    key = _hash((*scope, request))
    text = _last_text(request)
    if key is None or rule.similarity is None or not text:
        return Question(key)
    others = attrs.evolve(request, messages=request.messages[:-1])
    return Question(key, _hash((*scope, others)), text)


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
    counts = {name: (getattr(usage, name) + among - 1 - at) // among for name in _COUNTS}
    return attrs.evolve(usage, **counts)


class Ledger:
    """What a shared call has consumed, and how much of that is in accounts already."""

    def __init__(self) -> None:
        self._added: Usage | None = None
        self._reported: Usage | None = None
        self._paid = Usage()

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

    def found(self, found: Embeddings) -> Embeddings:
        """The same for vectors."""
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
        self._paid += paid
        return paid + Usage(certainty=Certainty.PARTIAL)

    def settle(self, among: int) -> list[Usage]:
        """What each of those pays who have stayed; nothing where nothing is known, or left."""
        due = self._due()
        if due is None:
            return []
        self._paid += due
        return [share(due, among, at) for at in range(among)]

    def _due(self) -> Usage | None:
        known = [each for each in (self._added, self._reported) if each is not None]
        if not known:
            return None
        whole = sum(known[1:], known[0])
        # a count that was taken back is not below nothing, where a leaver has paid for it
        left = {name: max(0, getattr(whole, name) - getattr(self._paid, name)) for name in _COUNTS}
        return attrs.evolve(whole, settled=False, **left)


_COUNTS = [
    field.name for field in attrs.fields(Usage) if field.name not in ("certainty", "_settled")
]


# ------------------------------------------------------------------------------ the key


def _without_sharing(request: ChatRequest | EmbedRequest) -> ChatRequest | EmbedRequest:
    """The request without its word on being shared, which changes no answer."""
    ours = request.extras.get(EXTRAS, {})
    if COALESCE not in ours:
        return request
    left = {name: value for name, value in ours.items() if name != COALESCE}
    extras = {name: value for name, value in request.extras.items() if name != EXTRAS}
    return attrs.evolve(request, extras={**extras, EXTRAS: left} if left else extras)


def _normal(message: Message) -> Message:
    if message.role != "user":
        return message
    parts = (
        TextPart(normal(part.text)) if isinstance(part, TextPart) else part
        for part in message.parts
    )
    return Message(message.role, tuple(parts))


def _last_text(request: ChatRequest) -> str:
    """The text of the last message, if it is a user's and nothing but text."""
    last = request.messages[-1] if request.messages else None
    if last is None or last.role != "user":
        return ""
    return last.text if all(isinstance(part, TextPart) for part in last.parts) else ""


def _hash(value: object) -> bytes | None:
    """A hash of all that is in a value; None where something in it is no plain value."""
    try:
        return blake2b(_encoded(value), digest_size=32).digest()
    except TypeError:
        return None


def _encoded(value: object) -> bytes:
    """Bytes that only equal values have: of each its kind and its length go before it."""
    match value:
        case None | bool():
            data = repr(value).encode()
        case int():
            data = b"%d" % value
        case float():
            data = struct.pack("<d", value)
        case str():
            data = value.encode("utf-8", "surrogatepass")
        case bytes():
            data = value
        case list() | tuple():
            data = b"".join(map(_encoded, value))
        case Mapping():
            data = b"".join(sorted(_encoded(pair) for pair in value.items()))
        case Message(role=role):  # a text is the same as one part of text
            data = _encoded((role, value.parts))
        case _ if attrs.has(type(value)):
            fields = attrs.fields(cast("Any", type(value)))
            data = _encoded([getattr(value, field.name) for field in fields])
        case _:
            raise TypeError(f"{value!r:.200} has no form that tells it from others")
    kind = "list" if isinstance(value, list | tuple) else type(value).__name__
    kind = "map" if isinstance(value, Mapping) else kind
    return b"%s %d %s" % (kind.encode(), len(data), data)
