"""Templates: texts with `{name}` places to fill in, and the names in them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from string import Formatter
from typing import Annotated, TypeAlias

import attrs


@attrs.frozen
class FilledIn:
    """Marks a `str` parameter whose `{name}` are filled in with the other arguments."""


Template: TypeAlias = Annotated[str, FilledIn()]

_CONVERSIONS = (None, "r", "s", "a")
HIDDEN = "._"
"""What an attribute that begins with an underscore begins with; it is in no other template."""
BRACES = "write `{{` and `}}` for braces that are text"


@attrs.frozen
class Place:
    """A place in a template: the name of its argument, and the place as it is written.

    `path` is what is read of the argument: `.attribute`, `[0]`.
    """

    name: str
    written: str
    path: str = ""

    @property
    def named(self) -> bool:
        """Whether the name can be that of an argument."""
        return self.name.isidentifier()

    @property
    def plain(self) -> bool:
        """Whether the place is only a name, without a part, conversion or format."""
        return self.written == f"{{{self.name}}}"

    @property
    def calls(self) -> bool:
        """Whether the place looks like a call, which a template cannot do: `{name.upper()}`."""
        return "(" in self.path

    @property
    def hidden(self) -> bool:
        """Whether the place reads an attribute that begins with an underscore.

        From those, `{part.__init__.__globals__}` leads to everything in the process. This includes
        the format of a place whose name is no identifier, which has no places of its own.
        """
        return HIDDEN in (self.path if self.named else self.written)

    @property
    def refusal(self) -> tuple[str, str]:
        """The message about a `hidden` place, and what to write instead."""
        return (
            f"`{self.written}` in the template reads an attribute that begins with `_`",
            f"read it in a step, and pass the result: {{{self.name}}}",
        )


def places_of(template: str) -> tuple[Place, ...]:
    """The places of a template in order, also those inside format specs.

    Raises:
        ValueError: its braces do not match.
    """
    try:
        return tuple(_places(template))
    except ValueError as error:
        raise ValueError(f"the template is invalid: {error}; {BRACES}") from error


def unfillable(places: Iterable[Place], given: Iterable[str]) -> str | None:
    """The message about the first place that no given name fills; None if all are filled."""
    names = list(given)
    for place in places:
        if not place.named:
            return f"`{place.written}` in the template names no part; {BRACES}"
        if place.name not in names:
            listed = ", ".join(names) or "none"
            return f"the template names {place.name!r}, but is given: {listed}; {BRACES}"
    return None


def split_field(field: str) -> tuple[str, str]:
    """Split a field `name.part` into `name` and `.part`."""
    end = next((n for n, sign in enumerate(field) if sign in ".["), len(field))
    return field[:end], field[end:]


def format_suffix(form: str | None, conversion: str | None) -> str:
    """The conversion and format of a place, as written: `!r:>9`."""
    return (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")


def _places(template: str) -> Iterator[Place]:
    for _, field, form, conversion in Formatter().parse(template):
        if field is None:
            continue
        name, path = split_field(field)
        place = Place(name, f"{{{field}{format_suffix(form, conversion)}}}", path)
        if conversion not in _CONVERSIONS:
            raise ValueError(f"`{place.written}` has an unknown conversion, `!{conversion}`")
        yield place
        if place.named:  # the format spec of any other place is plain text
            yield from _places(form or "")
