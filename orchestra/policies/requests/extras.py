"""A request's settings for the policies around its model: `extras["orchestra"]`. Pure.

They are not sent to providers. Each policy reads its own word, and ignores the others.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeVar, cast, get_args

import attrs

from orchestra.errors import InvalidRequestError
from orchestra.nearest import did_you_mean
from orchestra.values import ChatRequest, EmbedRequest, Extras

Asked = TypeVar("Asked", ChatRequest, EmbedRequest)

EXTRAS = "orchestra"
"""The key of these settings in the extras."""
CACHE = "cache"
COALESCE = "coalesce"
CONVERSATION = "conversation"
CHOICE = "choice"
"""The number of the requested answer among several different ones, from 1."""
WORDS = (CACHE, COALESCE, CONVERSATION)
"""Words that callers may set; `CHOICE` is set by orchestra."""
CacheMode: TypeAlias = Literal["once", "use", "refresh", "off"]
"""How a call uses the cache: a cached answer that no other call of its run got or made; any
cached answer; a new answer that replaces the cached one; or not at all."""
CACHE_MODES = get_args(CacheMode)


def check_words(extras: Extras) -> None:
    """Check that each word is read by some policy, whether or not the policy is active.

    Raises:
        InvalidRequestError: a word is unknown, or its value has no meaning: it would silently
            have no effect.
    """
    for word in extras.get(EXTRAS, ()):
        if word not in WORDS:
            hint = did_you_mean(word, WORDS) or f"it has {', '.join(WORDS)}"
            raise InvalidRequestError(f"extras[{EXTRAS!r}] has no {word!r:.100}: {hint}")
    cache_mode_in(extras)
    sharing_in(extras)


def cache_mode_in(extras: Extras) -> CacheMode:
    """The setting for the cache; "once" if it is missing.

    Raises:
        InvalidRequestError: the value is not one of these words.
    """
    said = extras.get(EXTRAS, {}).get(CACHE, "once")
    if said not in CACHE_MODES:
        raise InvalidRequestError(
            f"extras[{EXTRAS!r}][{CACHE!r}] is {said!r:.200}: write 'off' to neither read nor keep "
            "an answer, 'refresh' to replace what is kept, 'use' to be given it however often a "
            "run asks, or leave it out"
        )
    return cast("CacheMode", said)


def sharing_in(extras: Extras) -> bool | None:
    """Whether the call may be shared within its run, too; None if it is missing.

    Raises:
        InvalidRequestError: the value is neither true nor false.
    """
    said = extras.get(EXTRAS, {}).get(COALESCE)
    if said is None or isinstance(said, bool):
        return said
    raise InvalidRequestError(
        f"extras[{EXTRAS!r}][{COALESCE!r}] is {said!r:.200}: write False for a call of its "
        "own, or True for one that may be shared within its run, too"
    )


def for_choice(request: ChatRequest, choice: int) -> ChatRequest:
    """The request for one of several answers, from 0; the first is unchanged.

    So a cached or running answer for one choice is not used for another, but is used for the
    same choice of an equal request.
    """
    if not choice:
        return request
    said = {**request.extras.get(EXTRAS, {}), CHOICE: choice}
    return attrs.evolve(request, extras={**request.extras, EXTRAS: said})


def refreshed(extras: Extras) -> Extras:
    """The extras of a call that must not use a cached answer, but may replace it."""
    said = extras.get(EXTRAS, {})
    if said.get(CACHE) in ("refresh", "off"):
        return extras
    return {**extras, EXTRAS: {**said, CACHE: "refresh"}}


def without(request: Asked, word: str) -> Asked:
    """The request without a word, which changes no answer; unchanged if it does not have it."""
    extras = request.extras
    if word not in extras.get(EXTRAS, {}):
        return request
    found = {name: words for name, words in extras.items() if name != EXTRAS}
    if left := {name: value for name, value in extras[EXTRAS].items() if name != word}:
        found[EXTRAS] = left
    return attrs.evolve(request, extras=found)
