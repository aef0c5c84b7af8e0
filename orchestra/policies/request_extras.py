"""What a request says to the policies around its model: words in `extras["orchestra"]`. Pure.

No provider is sent them. Each policy reads its own word, and leaves those of the others alone.
"""

from __future__ import annotations

from difflib import get_close_matches

import attrs

from orchestra.errors import InvalidRequestError
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


def check_words(extras: Extras) -> None:
    """Nothing, where each word is one that some policy reads, whether or not it is in force.

    Raises:
        InvalidRequestError: a word is none: it would change nothing, and nobody would know.
    """
    for word in extras.get(EXTRAS, ()):
        if word not in WORDS:
            near = get_close_matches(word[:100], WORDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(WORDS)}"
            raise InvalidRequestError(f"extras[{EXTRAS!r}] has no {word!r:.100}: {hint}")


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
