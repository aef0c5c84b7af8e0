"""Routing: which of several models is called first, and which ones after a failure. Pure.

The theory: a route orders its models for each request. Models that lack something the request
needs are left out; the others are ordered by the route's rule, and after a failure the next one is
called. Randomness is an argument: one number per model, from 0 to 1. If a conversation has to
stay with its model, these numbers are computed from the conversation's key and the model's name
("rendezvous hashing"). The same rule then gives the same order each time, and a model that is
added takes its own share of the conversations without moving any others.
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
from orchestra.policies.requests.extras import CACHE, CHOICE, COALESCE, CONVERSATION, EXTRAS
from orchestra.policies.requests.needs import Needs, lacks
from orchestra.values import (
    Capabilities,
    ChatRequest,
    ImageUrlPart,
    Message,
    Part,
    ToolResult,
)

ANSWER_TOKENS = 500
"""The assumed length of an answer if a request does not bound it."""
OTHERS = (CACHE, COALESCE, CHOICE)
"""Settings for the policies around a model, which routes ignore."""
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
"""Errors after which another model may succeed. Not among them: requests that are wrong for every
model, and content filters."""


@attrs.frozen(kw_only=True)
class Candidate:
    """A model of a route. Prices are in dollars per million tokens; None is unknown, not free.

    The embeddings of models with equal `vectors` can be compared with each other.
    """

    name: str
    capabilities: Capabilities = Capabilities()
    weight: float = 1.0
    input_price: float | None = None
    output_price: float | None = None
    vectors: str = ""

    def price(self, needs: Needs) -> float:
        """The estimated cost of a request, in millionths of a dollar; infinite without a price."""
        output = ANSWER_TOKENS if needs.output_tokens is None else needs.output_tokens
        if self.input_price is None or (output and self.output_price is None):
            return inf
        return needs.input_tokens * self.input_price + output * (self.output_price or 0.0)


@attrs.frozen
class ByOrder:
    """The first able model, in the order of the route."""


@attrs.frozen
class ByCost:
    """The model with the lowest cost for the request; models without a price last."""


@attrs.frozen
class ByWeight:
    """A random model, in proportion to the weights; `sticky` keeps a conversation's model."""

    sticky: bool = False


@attrs.frozen
class ByLatency:
    """The faster of two random models; with `sticky`, the conversation determines the two."""

    sticky: bool = False


By: TypeAlias = ByOrder | ByCost | ByWeight | ByLatency
BY_CHANCE = (ByWeight, ByLatency)
"""The rules that use random numbers."""


@attrs.frozen(kw_only=True)
class Route:
    """How a model is chosen, and the errors after which the next one is called."""

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
    """The candidates that can serve the request, in call order; empty if none can.

    `loads` has the seconds that each model would take (`orchestra.policies.health.latency`), for
    `ByLatency`. `draws` has a number for each candidate, from 0 to below 1, for the rules in
    `BY_CHANCE`.
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
    """The able candidates in random order; those with a higher weight tend to come first.

    Of several exponential waiting times, the probability of each to be the shortest is
    proportional to its rate (Efraimidis and Spirakis, 2006); the same holds for the second
    shortest among the rest, and so on.
    """
    drawn = zip(candidates, draws, strict=True)
    waits = sorted(
        (-log1p(-draw) / each.weight, at) for at, (each, draw) in enumerate(drawn) if each in able
    )
    return tuple(candidates[at] for _, at in waits)


def conversation_of(request: ChatRequest) -> bytes:
    """The key of a conversation, equal in all of its turns.

    It is `extras["orchestra"]["conversation"]` if the request has it; otherwise a digest of the
    messages up to the first user message. Conversations that begin with the same words then have
    the same key, which suits a model's prompt cache.

    Raises:
        InvalidRequestError: the value is not a text, or there are unknown settings.
    """
    settings = request.extras.get(EXTRAS)
    own = {name: value for name, value in (settings or {}).items() if name not in OTHERS}
    if own or settings == {}:
        return f"key {_key(own)}".encode("utf-8", "replace")
    users = (at for at, each in enumerate(request.messages) if each.role == "user")
    begun = request.messages[: next(users, len(request.messages)) + 1]
    return b"began " + b"".join(map(_digest, begun))


def sticky_draws(conversation: bytes, names: Sequence[str]) -> list[float]:
    """A pseudo-random number for each model, from 0 to below 1, fixed for the conversation.

    A model's number does not depend on the other models.
    """
    key = blake2b(conversation).digest()
    digests = (blake2b(name.encode(), digest_size=8, key=key).digest() for name in names)
    return [(int.from_bytes(digest, "big") >> 11) / 2**53 for digest in digests]


def refusal(route: Route, needs: Needs, candidates: Sequence[Candidate]) -> CapabilityError:
    """The error if no candidate can serve the request: it lists what each of them lacks."""
    lacking = "".join(
        f"\n  {each.name}: it has {'; '.join(lacks(needs, each.capabilities))}"
        for each in candidates
    )
    return CapabilityError(
        f"no model of route {route.name!r} can do what is asked; ask for less, or add a model that "
        f"can, or correct its capabilities:{lacking}",
        model=route.name,
    )


def comparable(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The candidates that may be able to embed, with vectors comparable to the first one's."""
    able = [each for each in candidates if each.capabilities.embeddings is not False]
    return tuple(each for each in able if each.vectors == able[0].vectors)


def _key(settings: Mapping[str, object]) -> str:
    key = settings.get(CONVERSATION)
    if not isinstance(key, str) or len(settings) > 1:
        raise InvalidRequestError(
            f"extras[{EXTRAS!r}] is {dict(settings)!r:.200}: a route reads one text there; write "
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
