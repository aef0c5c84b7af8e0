"""Routing: which of several models is asked, and which after it. Pure.

The theory: a route orders its models for one request. Those that lack something for it are left
out; the rest is ordered by the route's rule, and one that fails is followed by the next. Chance
comes in as one number for each model, drawn from 0 to 1. Where a conversation is to stay with
its model, the numbers are not drawn but computed from its key and the model's name ("rendezvous
hashing"): the same rule then gives the same order, and a model that is added takes its own
share of the conversations and moves no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import inf, log1p
from typing import TypeAlias

import attrs

from orchestra.attached import Attached
from orchestra.errors import (
    AuthenticationError,
    BreakerOpenError,
    CapabilityError,
    ContextLengthError,
    InvalidRequestError,
    MalformedStreamError,
    ModelConnectionError,
    ModelError,
    ModelNotFoundError,
    ModelTimeoutError,
    OverloadedError,
    PermissionDeniedError,
    ProviderServerError,
    QuotaError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.policies.needs import Needs, lacks
from orchestra.policies.request_extras import CACHE, CHOICE, COALESCE, CONVERSATION, EXTRAS
from orchestra.values import (
    Capabilities,
    ChatRequest,
    ImageUrlPart,
    Message,
    Part,
    ToolResult,
)

ANSWER_TOKENS = 500
"""Of an answer are reckoned with, where a request does not say how long it may be."""
OTHERS = (CACHE, COALESCE, CHOICE)
"""Words that are for the policies around a model: routes leave them alone."""
FALLBACK: tuple[type[ModelError], ...] = (
    AuthenticationError,
    PermissionDeniedError,
    ContextLengthError,
    CapabilityError,
    ModelNotFoundError,
    RateLimitError,
    QuotaError,
    OverloadedError,
    BreakerOpenError,
    ProviderServerError,
    ModelTimeoutError,
    ModelConnectionError,
    TruncatedStreamError,
    MalformedStreamError,
)
"""Errors after which another model may do. Not: a request that is wrong everywhere, a filter."""


@attrs.frozen(kw_only=True)
class Candidate:
    """A model of a route. Prices are dollars for a million tokens; None is not known, not free.

    Of two models that have the same `vectors`, vectors can be compared with each other.
    """

    name: str
    capabilities: Capabilities = Capabilities()
    weight: float = 1.0
    input_price: float | None = None
    output_price: float | None = None
    vectors: str = ""

    def price(self, needs: Needs) -> float:
        """About what a request costs here, in millionths of a dollar; without a price, infinite."""
        output = ANSWER_TOKENS if needs.output_tokens is None else needs.output_tokens
        if self.input_price is None or (output and self.output_price is None):
            return inf
        return needs.input_tokens * self.input_price + output * (self.output_price or 0.0)


@attrs.frozen
class ByOrder:
    """The first that is able, in the order of the route."""


@attrs.frozen
class ByCost:
    """The one for which the request costs least; those without a price last."""


@attrs.frozen
class ByWeight:
    """Each as often as its weight says; with `sticky`, a conversation stays with its model."""

    sticky: bool = False


@attrs.frozen
class ByLatency:
    """The faster of two at present, the two by chance; with `sticky`, those of a conversation."""

    sticky: bool = False


By: TypeAlias = ByOrder | ByCost | ByWeight | ByLatency
BY_CHANCE = (ByWeight, ByLatency)
"""The rules that numbers are drawn for."""


@attrs.frozen(kw_only=True)
class Route:
    """How a model is chosen; after which of its errors the next is asked, and after none of ()."""

    name: str
    candidates: tuple[Candidate, ...]
    by: By = ByOrder()
    falls_back_on: tuple[type[ModelError], ...] = FALLBACK


def choose(
    by: By,
    candidates: Sequence[Candidate],
    needs: Needs,
    loads: Mapping[str, float],
    draws: Sequence[float],
) -> tuple[Candidate, ...]:
    """The candidates that are able, the one to be asked first; empty where none is.

    `loads` has the seconds that each would take (`orchestra.policies.latency`), for `ByLatency`,
    and `draws` a number for each, from 0 up to and without 1, for those `BY_CHANCE`.
    """
    able = [each for each in candidates if not lacks(needs, each.capabilities)]
    match by:
        case ByOrder():
            return tuple(able)
        case ByCost():
            return tuple(sorted(able, key=lambda each: each.price(needs)))
        case ByWeight():
            return _shuffled(candidates, able, draws)
        case ByLatency():
            by_chance = _shuffled(candidates, able, draws)
            two = sorted(by_chance[:2], key=lambda each: loads[each.name])
            return (*two, *by_chance[2:])


def _shuffled(
    candidates: Sequence[Candidate], able: Sequence[Candidate], draws: Sequence[float]
) -> tuple[Candidate, ...]:
    """By chance, the heavier the sooner.

    The first of several that wait exponentially long is each of them as often as its rate says
    (Efraimidis and Spirakis, 2006); the same, of the rest, holds for the second.
    """
    drawn = zip(candidates, draws, strict=True)
    waits = sorted(
        (-log1p(-draw) / each.weight, at) for at, (each, draw) in enumerate(drawn) if each in able
    )
    return tuple(candidates[at] for _, at in waits)


def conversation_of(request: ChatRequest) -> bytes:
    """What tells a conversation from others, the same in each of its turns.

    `extras["orchestra"]["conversation"]`, where the request has it; else what it began with: its
    messages up to the first of a user. Two conversations that begin with the same words are
    then one, which for a model's cache of prompts is as it should be.

    Raises:
        InvalidRequestError: what stands there is not a text, or there is something else.
    """
    said = request.extras.get(EXTRAS)
    own = {name: value for name, value in (said or {}).items() if name not in OTHERS}
    if own or said == {}:
        return f"key {_key(own)}".encode("utf-8", "replace")
    users = (at for at, each in enumerate(request.messages) if each.role == "user")
    begun = request.messages[: next(users, len(request.messages)) + 1]
    return b"began " + b"".join(map(_digest, begun))


def sticky_draws(conversation: bytes, names: Sequence[str]) -> list[float]:
    """A number for each model, from 0 up to and without 1, that looks drawn and is always the same.

    That of one model does not depend on which others there are.
    """
    key = blake2b(conversation).digest()
    digests = (blake2b(name.encode(), digest_size=8, key=key).digest() for name in names)
    return [(int.from_bytes(digest, "big") >> 11) / 2**53 for digest in digests]


def refusal(route: Route, needs: Needs, candidates: Sequence[Candidate]) -> CapabilityError:
    """Why none of these is asked: what each of them lacks."""
    told = "".join(
        f"\n  {each.name}: it has {'; '.join(lacks(needs, each.capabilities))}"
        for each in candidates
    )
    return CapabilityError(
        f"no model of route {route.name!r} can do what is asked; add one that can, or correct "
        f"its capabilities:{told}",
        model=route.name,
    )


def comparable(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that may make vectors, and all in the space of the first such."""
    able = [each for each in candidates if each.capabilities.embeddings is not False]
    return tuple(each for each in able if each.vectors == able[0].vectors)


def _key(said: Mapping[str, object]) -> str:
    key = said.get(CONVERSATION)
    if not isinstance(key, str) or not said.keys() <= {CONVERSATION, COALESCE}:
        raise InvalidRequestError(
            f"extras[{EXTRAS!r}] is {dict(said)!r:.200}: a route reads one text there; write "
            f"{{{CONVERSATION!r}: 'the id of the conversation'}}"
        )
    return key


def _digest(message: Message) -> bytes:
    found = blake2b(message.role.encode(), digest_size=32)
    for part in message.parts:
        kind, data = type(part).__name__, _content(part)
        found.update(f" {kind} {len(data)} ".encode() + data)
    return found.digest()


def _content(part: Part) -> bytes:
    match part:
        case Attached(data=data):
            return data
        case ImageUrlPart(url=text) | ToolResult(content=text):
            pass
        case _:
            text = getattr(part, "text", "") or getattr(part, "arguments", "")
    return text.encode("utf-8", "replace")
