"""Templates: texts with places to be filled in, and what they name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from string import Formatter
from typing import Annotated, TypeAlias

import attrs


@attrs.frozen
class FilledIn:
    """Marks a `str` parameter whose `{name}` are filled in with the other arguments."""


Template: TypeAlias = Annotated[str, FilledIn()]

BRACES = "write `{{` and `}}` for braces that are text"


@attrs.frozen
class Place:
    """A place of a template: the name of what goes there, and how it is written."""

    name: str
    written: str

    @property
    def named(self) -> bool:
        """Whether what stands there can be the name of an argument."""
        return self.name.isidentifier()

    @property
    def plain(self) -> bool:
        """Whether the whole part goes there, and nothing says how it is to be written."""
        return self.written == f"{{{self.name}}}"

    @property
    def calls(self) -> bool:
        """Whether it is written as if a template could call something: `{name.upper()}`."""
        return "(" in split_field(self.written)[1].partition(":")[0]


def places_of(template: str) -> tuple[Place, ...]:
    """The places of a template, also those within formats, in order.

    Raises:
        ValueError: its braces do not fit together.
    """
    try:
        return tuple(_places(template))
    except ValueError as error:
        raise ValueError(f"the template is not one: {error}; {BRACES}") from error


def unfillable(places: Iterable[Place], given: Iterable[str]) -> str | None:
    """What is wrong with the first place that none of the names is for."""
    names = list(given)
    for place in places:
        if not place.named:
            return f"`{place.written}` in the template names no part; {BRACES}"
        if place.name not in names:
            listed = ", ".join(names) or "none"
            return f"the template names {place.name!r}, and is given: {listed}; {BRACES}"
    return None


def split_field(field: str) -> tuple[str, str]:
    """`name` and `.part` of `name.part`."""
    end = next((n for n, sign in enumerate(field) if sign in ".["), len(field))
    return field[:end], field[end:]


def format_suffix(form: str | None, conversion: str | None) -> str:
    """How a place says that its value is to be written: `!r:>9`."""
    return (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")


def _places(template: str) -> Iterator[Place]:
    for _, field, form, conversion in Formatter().parse(template):
        if field is None:
            continue
        name, _ = split_field(field)
        place = Place(name, f"{{{field}{format_suffix(form, conversion)}}}")
        yield place
        if place.named:  # of anything else it is no format
            yield from _places(form or "")
