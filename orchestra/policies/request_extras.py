"""What a request says to the policies around its model: words in `extras["orchestra"]`. Pure.

No provider is sent them. Each policy reads its own word, and leaves those of the others alone.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, cast, get_args

import attrs

from orchestra.errors import InvalidRequestError
from orchestra.nearest import did_you_mean
from orchestra.values import ChatRequest, Extras

EXTRAS = "orchestra"
"""The name under which they stand."""
CACHE = "cache"
COALESCE = "coalesce"
CONVERSATION = "conversation"
CHOICE = "choice"
"""Which of several answers to a request is asked for, from 1: they are to be different ones."""
WORDS = (CACHE, COALESCE, CONVERSATION)
"""What a caller may say; the choice is ours."""
Wish: TypeAlias = Literal["once", "use", "refresh", "off"]
"""What a call wants of the cache: an answer that no other call of its run was given, or made; any
answer; a new one in its place; or nothing at all."""
WISHES = get_args(Wish)


def check_words(extras: Extras) -> None:
    """Nothing, where each word is one that some policy reads, whether or not it is in force.

    Raises:
        InvalidRequestError: a word is none, or what is said under it has no meaning: it would
            change nothing, and nobody would know.
    """
    for word in extras.get(EXTRAS, ()):
        if word not in WORDS:
            hint = did_you_mean(word, WORDS) or f"it has {', '.join(WORDS)}"
            raise InvalidRequestError(f"extras[{EXTRAS!r}] has no {word!r:.100}: {hint}")
    wish_in(extras)
    sharing_in(extras)


def wish_in(extras: Extras) -> Wish:
    """What is said of the cache; "once" if nothing.

    Raises:
        InvalidRequestError: it is something else than these words.
    """
    said = extras.get(EXTRAS, {}).get(CACHE, "once")
    if said not in WISHES:
        raise InvalidRequestError(
            f"extras[{EXTRAS!r}][{CACHE!r}] is {said!r:.200}: write 'off' to neither read nor keep "
            "an answer, 'refresh' to replace what is kept, 'use' to be given it however often a "
            "run asks, or leave it out"
        )
    return cast("Wish", said)


def sharing_in(extras: Extras) -> bool | None:
    """Whether the call may be shared within its run, too; None if nothing is said.

    Raises:
        InvalidRequestError: what stands there is neither true nor false.
    """
    said = said_of(extras, COALESCE)
    if said is None or isinstance(said, bool):
        return said
    raise InvalidRequestError(
        f"extras[{EXTRAS!r}][{COALESCE!r}] is {said!r:.200}: write False for a call of its "
        "own, or True for one that may be shared within its run, too"
    )


def said_of(extras: Extras, word: str) -> object:
    """What is said under a word; None if nothing is."""
    return extras[EXTRAS].get(word) if EXTRAS in extras else None


def for_choice(request: ChatRequest, choice: int) -> ChatRequest:
    """The request for one of several answers, counted from 0; the first is asked for as it is.

    So what is kept of one choice, or under way for it, is not another's answer, and is that of the
    same choice of an equal request.
    """
    if not choice:
        return request
    said = {**request.extras.get(EXTRAS, {}), CHOICE: choice}
    return attrs.evolve(request, extras={**request.extras, EXTRAS: said})


def asked_anew(extras: Extras) -> Extras:
    """The extras of a call that no kept answer will do for: it may replace one."""
    said = extras.get(EXTRAS, {})
    if said.get(CACHE) in ("refresh", "off"):
        return extras
    return {**extras, EXTRAS: {**said, CACHE: "refresh"}}


def without(extras: Extras, word: str) -> Extras:
    """The extras without a word; themselves, where it is not said."""
    if word not in extras.get(EXTRAS, {}):
        return extras
    found = {name: words for name, words in extras.items() if name != EXTRAS}
    if left := {name: value for name, value in extras[EXTRAS].items() if name != word}:
        found[EXTRAS] = left
    return found
