"""Reads values of providers' citations; values that cannot be read are left out. Pure.

A malformed citation does not make the answer malformed.
"""

from __future__ import annotations

from collections.abc import Mapping

CITATIONS_MAX = 1_000
"""The most citations of a search in an answer: its length is the provider's choice."""
_NUMBER_MAX = 2**53
"""The largest whole number that every reader of JSON can hold."""


def cited_text(record: Mapping[str, object], *names: str) -> str:
    """The first text in these fields that is not empty; "" if there is none."""
    return next((each for each in map(record.get, names) if each and isinstance(each, str)), "")


def cited_number(record: Mapping[str, object], *names: str) -> int | None:
    """The first whole number from 0 to 2**53 in these fields; None if there is none."""
    found = (each for each in map(record.get, names) if type(each) is int)
    return next((each for each in found if 0 <= each <= _NUMBER_MAX), None)


def listed_records(found: object) -> list[dict[str, object]]:
    """The objects in a list, or one object as a list; an empty list for any other value."""
    several = found if isinstance(found, list) else [found]
    return [each for each in several if isinstance(each, dict)]
