"""A request's settings for the policies around its model: `extras["orchestra"]`. Pure.

They are not sent to providers. Each policy reads its own setting, and ignores the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Literal, TypeAlias, TypeVar, cast, get_args

import attrs

from orchestra.errors import InvalidRequestError
from orchestra.nearest import did_you_mean
from orchestra.rankings import AnyRequest
from orchestra.values import ChatRequest, Extras

Asked = TypeVar("Asked", bound=AnyRequest)

EXTRAS = "orchestra"
"""The key of these settings in the extras."""
KEYS = frozenset(
    {
        EXTRAS,
        "alibaba",
        "anthropic",
        "azure",
        "bedrock",
        "cerebras",
        "cohere",
        "deepseek",
        "fireworks",
        "gemini",
        "groq",
        "huggingface",
        "llama-cpp",
        "mistral",
        "moonshot",
        "ollama",
        "openai",
        "openai-compatible",
        "openai-dialect",
        "openrouter",
        "perplexity",
        "tei",
        "together",
        "vllm",
        "xai",
    }
)
"""All keys of extras that providers, dialects and policies read. A test compares them with the
catalog, which is on a higher floor.
"""
PROVIDERS_OF_OTHER_KEYS = {"vertex": "gemini", "bedrock-invoke": "bedrock"}
"""Providers that read the key of another provider."""
_OWN = " A model class of your own needs a key that is less like that of a provider"
CACHE = "cache"
COALESCE = "coalesce"
CONVERSATION = "conversation"
CHOICE = "choice"
"""The index of the requested answer among several different ones; it is left out for the first."""
WORDS = (CACHE, COALESCE, CONVERSATION)
"""The settings of callers; `CHOICE` is set by orchestra."""
CacheMode: TypeAlias = Literal["once", "use", "refresh", "off"]
"""How a call uses the cache. "once": a cached answer that no other call of its run got or made;
"use": any cached answer; "refresh": a new answer, which replaces the cached one; "off": not at all.
"""
CACHE_MODES = get_args(CacheMode)


def misspelt(names: Iterable[str]) -> str:
    """What is wrong with the first name that no provider reads, and is near one; "" if none is.

    Any other name may be that of a model class of the deployment's own.
    """
    for name in names:
        if name in KEYS:
            continue
        if name in PROVIDERS_OF_OTHER_KEYS:
            hint = f"write {PROVIDERS_OF_OTHER_KEYS[name]!r} for {name!r}"
        else:
            hint = did_you_mean(name, sorted(KEYS), after=_OWN)
        if hint:
            return f"extras has no {name!r:.100}, which no provider would read: {hint}"
    return ""


def check_words(extras: Extras) -> None:
    """Check that each provider and each setting is known, whether or not anything reads it.

    Otherwise it would silently have no effect.

    Raises:
        InvalidRequestError: a provider is misspelt; a setting is unknown, or its value has no
            meaning.
    """
    if wrong := misspelt(extras):
        raise InvalidRequestError(wrong)
    for word in extras.get(EXTRAS, ()):
        if word not in WORDS:
            hint = did_you_mean(word, WORDS) or f"it has {', '.join(WORDS)}"
            raise InvalidRequestError(f"extras[{EXTRAS!r}] has no {word!r:.100}: {hint}")
    cache_mode_in(extras)
    sharing_in(extras)


def cache_mode_in(extras: Extras) -> CacheMode:
    """The setting for the cache; "once" if it is missing.

    Raises:
        InvalidRequestError: the value is not one of `CACHE_MODES`.
    """
    mode = extras.get(EXTRAS, {}).get(CACHE, "once")
    if mode not in CACHE_MODES:
        raise InvalidRequestError(
            f"extras[{EXTRAS!r}][{CACHE!r}] is {mode!r:.200}: write 'off' to neither read nor "
            "write the cache, 'refresh' to replace the cached answer, 'use' to accept it however "
            "often the run asks, or leave it out"
        )
    return cast("CacheMode", mode)


class Sharing(Enum):
    """With which other calls a call may be shared."""

    ALONE = "alone"
    """With no other call."""
    OTHERS = "others"
    """With calls of other runs only: a run that asks twice wants two answers."""
    ANY = "any"
    """With any call, including those of its own run."""


def sharing_in(extras: Extras) -> Sharing:
    """The setting for coalescing; `Sharing.OTHERS` if it is missing.

    Raises:
        InvalidRequestError: the value is neither true nor false.
    """
    shared = extras.get(EXTRAS, {}).get(COALESCE)
    if shared is None:
        return Sharing.OTHERS
    if isinstance(shared, bool):
        return Sharing.ANY if shared else Sharing.ALONE
    raise InvalidRequestError(
        f"extras[{EXTRAS!r}][{COALESCE!r}] is {shared!r:.200}: write False for a call of its "
        "own, or True for one that may be shared within its run, too"
    )


def for_choice(request: ChatRequest, choice: int) -> ChatRequest:
    """The request for answer number `choice`, from 0, of several; the first is unchanged.

    So a cached or running answer for one choice is not used for another one, but for the same
    choice of an equal request.
    """
    if not choice:
        return request
    settings = {**request.extras.get(EXTRAS, {}), CHOICE: choice}
    return attrs.evolve(request, extras={**request.extras, EXTRAS: settings})


def refreshed(extras: Extras) -> Extras:
    """The extras of a call that must not use a cached answer, but may replace it."""
    settings = extras.get(EXTRAS, {})
    if settings.get(CACHE) in ("refresh", "off"):
        return extras
    return {**extras, EXTRAS: {**settings, CACHE: "refresh"}}


def without(request: Asked, word: str) -> Asked:
    """The request without one of these settings; the same object if it does not have it."""
    extras = request.extras
    if word not in extras.get(EXTRAS, {}):
        return request
    found = {name: words for name, words in extras.items() if name != EXTRAS}
    if left := {name: value for name, value in extras[EXTRAS].items() if name != word}:
        found[EXTRAS] = left
    return attrs.evolve(request, extras=found)
