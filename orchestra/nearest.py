"""Which known name was meant by one that is unknown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

LIKENESS_MIN = 0.65
"""How alike two names have to be for one to be asked for: `retries` is no `prices`."""
NAME_MAX = 100
"""How much of a name is compared: the time that takes grows with its length."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one, whatever the case; "" where none is."""
    lower = {each.lower(): each for each in known}
    near = get_close_matches(name[:NAME_MAX].lower(), lower, 1, LIKENESS_MIN)
    return lower[near[0]] if near else ""


def did_you_mean(
    name: str,
    known: Iterable[str],
    *,
    before: str = "",
    after: str = "",
    written: Callable[[str], str] = repr,
) -> str:
    """The question for the nearest known name, between two texts; "" where no name is near.

    `written` is how the name is written there.
    """
    near = nearest_name(name, known)
    return f"{before}did you mean {written(near)}?{after}" if near else ""
