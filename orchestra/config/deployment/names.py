"""What a name of a deployment stands for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from orchestra.errors import BindingError

T = TypeVar("T")


def bound(what: str, name: str, known: Mapping[str, T], fix: str = "") -> T:
    """What is bound to the name; where nothing is, an error with the names that are."""
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    there = ", ".join(map(repr, sorted(known))) or "none"
    raise BindingError(f"there is no {what} named {name!r} (known: {there}){meant}{fix}")
