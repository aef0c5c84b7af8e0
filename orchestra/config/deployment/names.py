"""Look up the names of a deployment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from orchestra.errors import BindingError
from orchestra.nearest import did_you_mean

T = TypeVar("T")


def bound(what: str, name: str, known: Mapping[str, T], fix: str = "") -> T:
    """What is bound to the name.

    Raises:
        BindingError: nothing is bound to it; the message lists the known names.
    """
    if name in known:
        return known[name]
    meant = did_you_mean(name, known, before="; ")
    there = ", ".join(map(repr, sorted(known))) or "none"
    raise BindingError(f"there is no {what} named {name!r} (known: {there}){meant}{fix}")
