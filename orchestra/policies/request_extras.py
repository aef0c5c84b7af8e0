"""What a request says to the policies around its model: words in `extras["orchestra"]`. Pure.

No provider is sent them. Each policy reads its own word, and leaves those of the others alone.
"""

from __future__ import annotations

from orchestra.values import Extras

EXTRAS = "orchestra"
"""The name under which they stand."""
CACHE = "cache"
COALESCE = "coalesce"
CONVERSATION = "conversation"


def said_of(extras: Extras, word: str) -> object:
    """What is said under a word; None if nothing is."""
    return extras[EXTRAS].get(word) if EXTRAS in extras else None


def without(extras: Extras, word: str) -> Extras:
    """The extras without a word; themselves, where it is not said."""
    if word not in extras.get(EXTRAS, {}):
        return extras
    found = {name: words for name, words in extras.items() if name != EXTRAS}
    if left := {name: value for name, value in extras[EXTRAS].items() if name != word}:
        found[EXTRAS] = left
    return found
