"""Find the known name that an unknown name was probably meant to be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

LIKENESS_MIN = 0.65
"""The least similarity for a suggestion: `prices` is not suggested for `retries`."""
NAME_MAX = 100
"""How many characters of a name are compared: the time to compare grows with the length."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The known name most similar to this one, ignoring case; "" if none is similar enough."""
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
    """The question "did you mean ...?" for the nearest known name; "" if no name is near.

    `before` and `after` are put around the question; `written` formats the suggested name.
    """
    near = nearest_name(name, known)
    return f"{before}did you mean {written(near)}?{after}" if near else ""
