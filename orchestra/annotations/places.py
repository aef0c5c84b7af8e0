"""Places in a JSON value, and how msgspec writes them in a message: `... - at `$.filters[0].year``.

Pure.
"""

from __future__ import annotations

import re
from types import EllipsisType
from typing import TypeAlias

Place: TypeAlias = tuple[str | int | EllipsisType, ...]
"""The members, keys and indices that lead to it; `...` is a key of a dict that is not known."""

_PART = re.compile(r"\.(?P<member>[^.\[]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_WORD = re.compile(r"[^\W\d]\w*")


def with_place(what: str, path: str) -> str:
    """A message with its place, as msgspec writes it; `path` is `.filters[0].year`, or ""."""
    return f"{what} - at `${path}`" if path else what


def place_of(path: str) -> Place:
    """The place that msgspec writes as `path`."""
    return tuple(map(_part, _PART.finditer(path)))


def _part(found: re.Match[str]) -> str | int | EllipsisType:
    return found["member"] or (int(found["index"]) if found["index"] else ...)


def spelled(place: Place) -> str:
    """The place in a text: `filters[0].year`; empty for the whole value."""
    return "".join(map(_spelled, place)).removeprefix(".")


def _spelled(part: str | int | EllipsisType) -> str:
    if part is ...:
        return "[...]"
    return f".{part}" if isinstance(part, str) and _WORD.fullmatch(part) else f"[{part!r}]"
